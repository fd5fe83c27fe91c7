// Who there is to compare with, how each is started, and how to get those that are missing.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { folder, program, root } from '../build.mjs';

/** Why a peer cannot take part, and what would change that. */
export class Missing extends Error {}

const here = (name) => fileURLToPath(new URL(`../peers/${name}`, import.meta.url));
const node = (name) => ({ command: [process.execPath, '--expose-gc', here(name)] });
const headers = ['bench/peers/serve.h'];

const npmFolder = process.env.BENCH_PEERS ?? join(folder, 'npm');
function nodePeer(name, packages) {
  try {
    for (const each of packages) createRequire(`${npmFolder}/`).resolve(each);
  } catch {
    const install = `npm install --ignore-scripts --prefix ${process.env.BENCH_PEERS ?? relative(process.cwd(), npmFolder)}`;
    throw new Missing(`${install} ${packages.join(' ')} (BENCH_PEERS names another folder)`);
  }
  return { ...node(name), env: { BENCH_PEERS: npmFolder } };
}

function pythonWith(modules, debian, pip) {
  const paths = (process.env.PATH ?? '').split(delimiter).map((path) => join(path, 'python3'));
  const pythons = process.env.BENCH_PYTHON ? [process.env.BENCH_PYTHON] : paths.filter(existsSync);
  const found = pythons.find((path) => spawnSync(path, ['-c', `import ${modules}, numpy`]).status === 0);
  if (!found) throw new Missing(`Debian: ${debian}, or pip install ${pip} numpy (BENCH_PYTHON names the python3)`);
  return found;
}
// glibc's malloc keeps all memory it ever had: PyTorch takes no output, and its own are reused so.
const keepsMemory = {
  MALLOC_MMAP_MAX_: '0',
  MALLOC_TRIM_THRESHOLD_: '8000000000',
  MALLOC_TOP_PAD_: '268435456',
};

function compiled(name, hint, options) {
  try {
    return program(name, `bench/peers/${name}.cc`, { headers, ...options });
  } catch (error) {
    const why = String(error.stderr ?? error.message)
      .split('\n')
      .find((line) => /error|ENOENT/.test(line));
    throw new Missing(`${hint} (${why?.trim() ?? 'it does not compile'})`);
  }
}

function oneDnn() {
  const prefix = process.env.DNNL_ROOT;
  const flags = ['-O2', '-fopenmp', ...(prefix ? [`-I${prefix}/include`] : [])];
  const libraries = [...(prefix ? [`-L${prefix}/lib`, `-Wl,-rpath,${prefix}/lib`] : []), '-ldnnl'];
  return compiled('onednn', 'Debian: libdnnl-dev and g++ (DNNL_ROOT names another prefix)', { flags, libraries });
}

// The very objects that the addon was linked from.
function ops() {
  const built = join(root, 'build/Release');
  const parts = ['dispatch', 'ops', 'parallel'].map((part) => join(built, 'obj.target/simdnorm/native', part));
  if (!parts.every(existsSync)) throw new Missing('npm run build:native');
  const objects = parts.flatMap((part) => readdirSync(part).map((name) => join(part, name)));
  const archives = readdirSync(built).filter((name) => /^isa_.*\.a$/.test(name));
  const libraries = [...objects.filter((name) => name.endsWith('.o')), ...archives.map((name) => join(built, name))];
  return compiled('ops', 'g++ and npm run build:native', { flags: ['-O2'], libraries });
}

const vectorFlags = process.arch === 'x64' ? ['-march=native', '-mprefer-vector-width=512'] : ['-mcpu=native'];
const limit = () => compiled('limit', 'Debian: g++', { flags: ['-O3', ...vectorFlags] });

/**
 * name -> { role, start(variant) -> { command, env } }. Roles: `product`; `peer`, what it is compared with; `limit`, what
 * no implementation can beat; `own`, the product's C++ without JavaScript.
 */
export const contestants = {
  simdnorm: { role: 'product', start: () => node('simdnorm.mjs') },
  limit: { role: 'limit', start: () => ({ command: [limit()] }) },
  'limit-stream': { role: 'limit', start: () => ({ command: [limit()], env: { LIMIT_STREAM: '1' } }) },
  torch: {
    role: 'peer',
    start: (variant) => ({
      command: [pythonWith('torch', 'python3-torch', 'torch'), here('torch_peer.py')],
      env: variant === 'fresh' ? {} : keepsMemory,
    }),
  },
  'scikit-learn': {
    role: 'peer',
    start: () => ({ command: [pythonWith('sklearn', 'python3-sklearn', 'scikit-learn'), here('sklearn_peer.py')] }),
  },
  onednn: { role: 'peer', start: () => ({ command: [oneDnn()] }) },
  onnxruntime: { role: 'peer', start: () => nodePeer('onnxruntime.mjs', ['onnxruntime-node']) },
  tfjs: {
    role: 'peer',
    start: () => nodePeer('tfjs.mjs', ['@tensorflow/tfjs', '@tensorflow/tfjs-backend-wasm']),
  },
  'plain-js': { role: 'peer', start: () => node('plain-js.mjs') },
  ops: { role: 'own', start: () => ({ command: [ops()] }) },
};
