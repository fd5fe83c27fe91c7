// Makes prebuilds/: the addon for every platform of targets.mjs, each with all instruction sets of its architecture,
// from one machine (Linux on x64). Everything is compiled by zig: gcc's libstdc++ would ask for a newer glibc than Node
// does. Through prebuildify and binding.gyp for Linux; gyp makes no build for Windows or macOS on another system.
//
//   npm run prebuild                     all of them
//   npm run prebuild -- --only=linux-x64,linux-arm64-musl
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { buildWasm } from './build-wasm.mjs';
import { isaFaults } from './check-prebuilds.mjs';
import { fillHeaders } from './native-headers.mjs';
import { targetsNamed } from './targets.mjs';
import { compile, forgetTime, kernels, list, root, run, zigEnvironment } from './zig.mjs';
import { tool } from './tools.mjs';

const prebuildify = promisify(createRequire(import.meta.url)('prebuildify'));
const addonSources = [...list.ops_sources, ...list.distributed_sources, ...list.bindings_sources];

/** In a copy: node-gyp empties build/, where the clone's own addon lies. */
async function withPrebuildify({ platform, arch, libc, zig, file }, folder) {
  for (const part of ['native', 'binding.gyp', 'package.json']) {
    cpSync(join(root, part), join(folder, part), { recursive: true });
  }
  // prebuildify and node-gyp hand on the environment.
  Object.assign(process.env, zigEnvironment, {
    npm_config_nodedir: join(folder, 'native', 'headers'),
    JOBS: String(availableParallelism()),
    CC: `${tool('zig')} cc -target ${zig}`,
    CXX: `${tool('zig')} c++ -target ${zig}`,
    AR: `${tool('zig')} ar`,
    CXXFLAGS: `-ffile-prefix-map=${folder}=.`,
    LDFLAGS: '-s',
  });
  await prebuildify({
    cwd: folder,
    out: folder,
    napi: true,
    targets: [process.versions.node],
    platform,
    arch,
    libc,
    tagLibc: true,
    nodeGyp: join(root, 'node_modules', '.bin', 'node-gyp'),
  });
  const objects = join(folder, 'build', 'Release', 'obj.target');
  return {
    binary: join(folder, file),
    objectsOf: (isa) => list[`isa_${isa}_sources`].map((from) => join(objects, `isa_${isa}`, from.replace(/cc$/, 'o'))),
  };
}

const linkFlags = {
  win32: ['-static'],
  darwin: ['-undefined', 'dynamic_lookup', '-Wl,-install_name,@rpath/simdnorm.node'],
};

async function withZig({ platform, arch, zig }, folder) {
  const isas = list[`isa_${arch}`];
  const sources = [...isas.flatMap(kernels), ...addonSources.map((source) => [source, []])];
  const objects = await compile(zig, sources, folder);
  // zig leaves import libraries beside what it links.
  const linked = join(folder, 'simdnorm.node');
  await run(tool('zig'), ['c++', '-target', zig, '-shared', '-s', '-o', linked, ...objects, ...linkFlags[platform]]);
  if (platform === 'win32') forgetTime(linked);
  return {
    binary: linked,
    objectsOf: (isa) => objects.filter((_, i) => list[`isa_${isa}_sources`].includes(sources[i][0])),
  };
}

const { values } = parseArgs({ options: { only: { type: 'string' } } });
const chosen = targetsNamed(values.only);
fillHeaders();
for (const target of chosen) {
  console.log(`== ${target.name}`);
  if (target.platform === 'wasm') {
    await buildWasm();
    continue;
  }
  const folder = mkdtempSync(join(tmpdir(), 'simdnorm-prebuild-'));
  try {
    const { binary, objectsOf } = await (target.platform === 'linux' ? withPrebuildify : withZig)(target, folder);
    const faults = list[`isa_${target.arch}`].flatMap((isa) => objectsOf(isa).flatMap((one) => isaFaults(isa, one)));
    if (faults.length > 0) throw new Error(`${target.name}: ${faults.join('; ')}`);
    const out = join(root, target.file);
    mkdirSync(dirname(out), { recursive: true });
    copyFileSync(binary, out);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
