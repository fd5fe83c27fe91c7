// What the scripts that try what is built share: one tarball, one temporary folder, processes that end in time, and a
// count of checks.
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  writeFileSync,
  mkdirSync,
  chmodSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');

export const temporary = realpathSync(mkdtempSync(join(tmpdir(), 'simdnorm-')));
chmodSync(temporary, 0o755); // for the user who may only read

const running = new Set();
process.on('exit', () => {
  running.forEach(end);
  // What is ended may write for a moment still, and rmSync does not look for new files when it tries again.
  for (let tries = 50; tries > 0; tries--) {
    try {
      rmSync(temporary, { recursive: true, force: true });
      return;
    } catch {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
    }
  }
  console.error(`${temporary} cannot be removed`);
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

/** Those of --only=a,b that are `names`; all without it. */
export function chosen(only, names) {
  const given = only?.split(',') ?? names;
  const unknown = given.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new RangeError(`--only=${unknown}; there are ${names.join(', ')}`);
  return given;
}

export function which(program) {
  const found = process.env.PATH.split(delimiter).find((folder) => existsSync(join(folder, program)));
  if (!found) throw new Error(`there is no ${program} on this machine`);
  return join(found, program);
}

/** npm-cli.js of the npm that runs this, or of the one on the PATH. */
export const npm = process.env.npm_execpath ?? realpathSync(which('npm'));

/** A process that, with whatever it starts, does not outlive this one. */
export function start(command, args, options) {
  const child = spawn(command, args, { ...options, detached: true });
  running.add(child);
  for (const event of ['error', 'close']) child.on(event, () => running.delete(child));
  return child;
}

function end(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // it has ended
  }
}

/**
 * Resolves with what it printed and how it ended; throws unless `mayFail` if that is not well. It and whatever it started
 * is killed after `seconds`.
 */
export function run(command, args, { cwd = temporary, env = process.env, seconds = 180, mayFail = false } = {}) {
  return new Promise((resolveWith, reject) => {
    const began = performance.now();
    const child = start(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let [output, late] = ['', false];
    const timer = setTimeout(() => {
      late = true;
      end(child);
    }, seconds * 1000);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => (output += text));
    }
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      const ended = { status, signal, output, seconds: (performance.now() - began) / 1000 };
      if (mayFail || status === 0) return resolveWith(ended);
      const how = late ? `did not end in ${seconds} s` : `ended with ${signal ?? status}`;
      reject(new Error(`${[command, ...args].join(' ')} ${how}\n${output.slice(-3000)}`));
    });
  });
}

export const node = (args, options) => run(process.execPath, args, options);

/** The one that is given, else one packed from this clone, with the prebuilds that it has. */
export async function tarball(given) {
  if (given) return resolve(given);
  const folder = join(temporary, 'packed');
  mkdirSync(folder);
  await run(process.execPath, [npm, 'pack', '--pack-destination', folder], { cwd: root, seconds: 300 });
  return join(folder, readdirSync(folder)[0]);
}

/** A new folder with these files, by name. */
export function project(name, files = {}) {
  const folder = join(temporary, name);
  mkdirSync(folder, { recursive: true });
  for (const [file, content] of Object.entries({ 'package.json': { name: 'user', private: true }, ...files })) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return folder;
}

const counts = { passed: 0, failed: 0 };

/** `test` returns what to print behind the name, if anything, or throws. */
export async function check(name, test) {
  try {
    const said = await test();
    counts.passed++;
    console.log(`ok     ${name}${said ? `: ${said}` : ''}`);
  } catch (error) {
    counts.failed++;
    console.log(`FAILED ${name}: ${error.message.replaceAll('\n', '\n         ')}`);
  }
}

/** One of many, said only where it fails. */
export function holds(name, condition, detail = '') {
  counts[condition ? 'passed' : 'failed']++;
  if (!condition) console.log(`FAILED ${name} ${detail}`);
}

export function expect(condition, otherwise) {
  if (!condition) throw new Error(typeof otherwise === 'function' ? otherwise() : otherwise);
}

export function finish() {
  console.log(`${counts.passed} passed, ${counts.failed} failed`);
  process.exit(counts.failed ? 1 : 0);
}

/** What a user writes, behind the imports of each module system: throws unless the numbers are right. */
export const usage = `
const x = Float32Array.from({ length: 24 }, (_, i) => Math.sin(i) * 5 + 2);
const y = Float64Array.from(new BatchNorm2d(3).forward(tensor(x, [2, 3, 2, 2])).data, Number);
for (let c = 0; c < 3; c++) {
  const at = [0, 1, 2, 3, 12, 13, 14, 15].map((e) => e + 4 * c);
  const mean = at.reduce((sum, e) => sum + x[e], 0) / 8;
  const variance = at.reduce((sum, e) => sum + (x[e] - mean) ** 2, 0) / 8;
  for (const e of at) {
    const expected = (x[e] - mean) / Math.sqrt(variance + 1e-5);
    if (!(Math.abs(y[e] - expected) < 1e-6)) throw new Error(\`element \${e} is \${y[e]}, not \${expected}\`);
  }
}
const [low, high] = layerNorm([[1, 3]], 2, { eps: 0 }).data;
if (low !== -1 || high !== 1) throw new Error(\`[\${low}, \${high}] is not [-1, 1]\`);
const others = [readSafetensors, initProcessGroup, fromKeras, imagesToTensor].map((f) => typeof f).join();
if (others !== 'function,function,function,function') throw new Error(others);
console.log('right');
`;
const modules = {
  simdnorm: 'BatchNorm2d, tensor',
  'simdnorm/functional': 'layerNorm',
  'simdnorm/safetensors': 'readSafetensors',
  'simdnorm/distributed': 'initProcessGroup',
  'simdnorm/interchange': 'fromKeras',
  'simdnorm/preprocessing': 'imagesToTensor',
};
const lines = (line) => Object.entries(modules).map(line).join('\n') + usage;
export const commonjs = lines(([module, names]) => `const { ${names} } = require('${module}');`);
export const esm = lines(([module, names]) => `import { ${names} } from '${module}';`);
