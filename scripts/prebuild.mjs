// Makes prebuilds/: the addon for every platform of targets.mjs, each with all instruction sets of its architecture,
// from one machine (Linux on x64). Everything is compiled by zig: gcc's libstdc++ would ask for a newer glibc than Node
// does. Through prebuildify and binding.gyp for Linux; gyp makes no build for Windows or macOS on another system.
//
//   npm run prebuild                     all of them
//   npm run prebuild -- --only linux-x64 --only linux-arm64-musl
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { isaFaults } from './check-prebuilds.mjs';
import { fillHeaders } from './native-headers.mjs';
import { targets } from './targets.mjs';
import { compile, kernels, list, root, run, zigEnvironment } from './zig.mjs';
import { tool } from './tools.mjs';

const prebuildify = promisify(createRequire(import.meta.url)('prebuildify'));
const addonSources = [...list.ops_sources, ...list.distributed_sources, ...list.bindings_sources];

/** In a copy: node-gyp empties build/, where the clone's own addon lies. Returns the objects of the instruction sets. */
async function withPrebuildify({ platform, arch, libc, zig }, folder) {
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
    out: root,
    napi: true,
    targets: [process.versions.node],
    platform,
    arch,
    libc,
    tagLibc: true,
    nodeGyp: join(root, 'node_modules', '.bin', 'node-gyp'),
  });
  const objects = join(folder, 'build', 'Release', 'obj.target');
  return (isa) => list[`isa_${isa}_sources`].map((source) => join(objects, `isa_${isa}`, source.replace(/cc$/, 'o')));
}

const linkFlags = {
  win32: ['-static'],
  darwin: ['-undefined', 'dynamic_lookup', '-Wl,-install_name,@rpath/simdnorm.node'],
};

async function withZig({ platform, arch, zig, file }, folder) {
  const isas = list[`isa_${arch}`];
  const sources = [...isas.flatMap(kernels), ...addonSources.map((source) => [source, []])];
  const objects = await compile(zig, sources, folder);
  // zig leaves import libraries beside what it links.
  const linked = join(folder, 'simdnorm.node');
  await run(tool('zig'), ['c++', '-target', zig, '-shared', '-s', '-o', linked, ...objects, ...linkFlags[platform]]);
  mkdirSync(dirname(join(root, file)), { recursive: true });
  copyFileSync(linked, join(root, file));
  return (isa) => objects.filter((_, i) => list[`isa_${isa}_sources`].includes(sources[i][0]));
}

const { values } = parseArgs({ options: { only: { type: 'string', multiple: true } } });
const names = values.only ?? targets.map(({ name }) => name);
const unknown = names.filter((name) => !targets.some((target) => target.name === name));
if (unknown.length > 0) {
  console.error(`prebuild: no target ${unknown.join(', ')}; there are ${targets.map(({ name }) => name).join(', ')}`);
  process.exit(1);
}

fillHeaders();
for (const name of names) {
  const target = targets.find((one) => one.name === name);
  console.log(`== ${name}`);
  const folder = mkdtempSync(join(tmpdir(), 'simdnorm-prebuild-'));
  try {
    const objectsOf = await (target.platform === 'linux' ? withPrebuildify : withZig)(target, folder);
    const faults = list[`isa_${target.arch}`].flatMap((isa) => objectsOf(isa).flatMap((one) => isaFaults(isa, one)));
    if (faults.length > 0) throw new Error(`${name}: ${faults.join('; ')}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
