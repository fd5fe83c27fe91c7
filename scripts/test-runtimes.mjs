// Installs a packed tarball offline, without running a script, and runs the golden suite (test/golden) on what was
// installed with every runtime that one machine (Linux on x64) can run. Prints a table and 'N passed, N failed'.
//
//   npm run test:runtimes -- [--tarball=FILE] [--only=node20,arm64] [--quick] [--skip-missing]
//
//   --tarball       what is installed; default: what npm packs of this clone and its prebuilds
//   --quick         without the large calls, which emulated CPUs leave out anyway
//   --skip-missing  a runtime whose system programs are missing is skipped, and said to be, instead of an error
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chosen, root, tarball, temporary as work } from './checks.mjs';
import { muslLibraries } from './musl.mjs';
import { tool } from './tools.mjs';

const minutes = (n) => n * 60_000;

const installed = join(work, 'app');
const vectors = join(root, 'test', 'vectors');
const digests = join(root, 'test', 'golden', 'digests.json');

const qemu = { x64: ['qemu-x86_64-static', 'qemu-user-static'], arm64: ['qemu-aarch64-static', 'qemu-user-static'] };
const emulated = (cpu, isa) => ({
  command: () => ['qemu-x86_64-static', '-cpu', cpu, tool('node20')],
  binary: 'linux-x64/simdnorm.glibc.node',
  isa,
  needs: [qemu.x64],
  emulated: true,
});
const node = (name) => ({ command: () => [tool(name)], binary: 'linux-x64/simdnorm.glibc.node' });
const nodeArm64 = {
  command: () => ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu', tool('nodeArm64')],
  needs: [qemu.arm64, ['/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1', 'libc6-arm64-cross']],
  emulated: true,
};
const wasm = { env: () => ({ SIMDNORM_ADDON: 'wasm' }), binary: 'wasm/simdnorm.wasm', isa: 'simd128' };

/** What loading the package and reading the suite need, and no more. */
const denoPermissions = [
  `--allow-read=${[installed, vectors, digests].join(',')}`,
  `--allow-ffi=${join(installed, 'node_modules', 'simdnorm', 'prebuilds')}`,
  '--allow-env=PREBUILDS_ONLY,LIBC,SIMDNORM_ADDON,SIMDNORM_ISA,SIMDNORM_NUM_THREADS',
];

/**
 * By name. `command`: what runs a script; `binary`: the prebuild it must load; `isa`: the instruction set it must choose;
 * `needs`: programs or files, each with the Debian package that has it.
 */
const runtimes = {
  node20: node('node20'),
  node22: node('node22'),
  node24: node('node24'),
  node26: node('node26'),
  bun: node('bun'),
  deno: {
    command: () => [tool('deno'), 'run', '--no-prompt', ...denoPermissions],
    binary: 'linux-x64/simdnorm.glibc.node',
  },
  nehalem: emulated('Nehalem', 'portable'),
  haswell: emulated('Haswell', 'avx2'),
  max: emulated('max', 'avx2'),
  arm64: { ...nodeArm64, binary: 'linux-arm64/simdnorm.glibc.node', isa: 'neon' },
  wasm: { ...node('node20'), ...wasm },
  wasmArm64: { ...nodeArm64, ...wasm },
  musl: {
    command: () => [tool('bunMusl')],
    env: () => ({ LIBC: 'musl', LD_LIBRARY_PATH: muslLibraries('x64', tool('bunMusl'), join(work, 'musl-x64')) }),
    binary: 'linux-x64/simdnorm.musl.node',
    needs: [
      ['/lib/ld-musl-x86_64.so.1', 'musl'],
      ['g++', 'g++'],
    ],
  },
  muslArm64: {
    command: () => {
      const libraries = muslLibraries('arm64', tool('bunMuslArm64'), join(work, 'musl-arm64'));
      return [
        'qemu-aarch64-static',
        '-L',
        join(libraries, 'root'),
        '-E',
        `LD_LIBRARY_PATH=${libraries}`,
        tool('bunMuslArm64'),
      ];
    },
    env: () => ({ LIBC: 'musl' }),
    binary: 'linux-arm64/simdnorm.musl.node',
    isa: 'neon',
    needs: [qemu.arm64, ['aarch64-linux-gnu-g++', 'g++-aarch64-linux-gnu']],
    emulated: true,
  },
  wine: {
    command: () => ['/usr/lib/wine/wine64', tool('nodeWindows')],
    // The platform check is for Windows 8.1, which is what wine says it is.
    env: () => ({ WINEPREFIX: join(work, 'wine'), WINEDEBUG: '-all', NODE_SKIP_PLATFORM_CHECK: '1' }),
    binary: 'win32-x64/simdnorm.node',
    needs: [['/usr/lib/wine/wine64', 'wine64']],
  },
};

const { values: given } = parseArgs({
  options: {
    tarball: { type: 'string' },
    only: { type: 'string' },
    quick: { type: 'boolean', default: false },
    'skip-missing': { type: 'boolean', default: false },
  },
});

const cleanEnvironment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(SIMDNORM_|PREBUILDS_ONLY$|LIBC$|npm_|NODE_)/.test(name)),
);

/** The package from the tarball, with npm's cache empty too, and the compiled suite beside it. */
function install(packed) {
  mkdirSync(installed);
  writeFileSync(join(installed, 'package.json'), '{ "private": true, "type": "commonjs" }\n');
  const options = ['--offline', '--ignore-scripts', '--no-audit', '--no-fund', `--cache=${join(work, 'cache')}`];
  execFileSync('npm', ['install', ...options, packed], { cwd: installed, env: cleanEnvironment, stdio: 'inherit' });
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  execFileSync(process.execPath, [tsc, '-p', join(root, 'test', 'golden'), '--outDir', join(installed, 'suite')]);
}

const onPath = (name) => process.env.PATH.split(':').some((folder) => existsSync(join(folder, name)));
const missing = ({ needs = [] }) => needs.find(([what]) => (what.startsWith('/') ? !existsSync(what) : !onPath(what)));

/** One row of the table. */
function run(name, runtime) {
  const lacking = missing(runtime);
  if (lacking) {
    const reason = `${lacking[0]} is missing: apt-get install ${lacking[1]}`;
    return { name, [given['skip-missing'] ? 'skipped' : 'error']: reason, passed: 0, failed: 0 };
  }
  const quick = given.quick || runtime.emulated;
  const [command, ...first] = runtime.command();
  const args = [
    ...first,
    join(installed, 'suite', 'golden', 'main.js'),
    `--package=${installed}`,
    `--vectors=${vectors}`,
    `--digests=${digests}`,
    ...(quick ? ['--quick'] : []),
    ...(runtime.isa ? [`--expect-isa=${runtime.isa}`] : []),
  ];
  // To a file: under wine Node cannot write to a pipe.
  const log = join(work, `${name}.log`);
  const output = openSync(log, 'w');
  const began = Date.now();
  const { status, signal, error } = spawnSync(command, args, {
    cwd: installed,
    env: { ...cleanEnvironment, ...runtime.env?.() },
    stdio: ['ignore', output, output],
    timeout: minutes(15),
    killSignal: 'SIGKILL',
  });
  closeSync(output);
  const seconds = ((Date.now() - began) / 1000).toFixed(0);
  const lines = readFileSync(log, 'utf8').trim().split('\n');
  const row = { name, share: quick ? 'no large calls' : 'all', seconds, passed: 0, failed: 0 };
  const sum = /^(\d+) passed, (\d+) failed$/.exec(lines.at(-1));
  if (!sum || (status !== 0 && sum[2] === '0')) {
    const end = error?.code === 'ETIMEDOUT' ? 'took too long' : `ended with ${signal ?? status}`;
    return { ...row, error: `${end}\n${lines.slice(-20).join('\n')}` };
  }
  const about = JSON.parse(lines.at(-2));
  Object.assign(row, about, { passed: Number(sum[1]), failed: Number(sum[2]) });
  const binary = about.binary.replace(/^[A-Z]:/, '').replaceAll('\\', '/');
  const wanted = join(installed, 'node_modules', 'simdnorm', 'prebuilds', runtime.binary);
  if (binary !== wanted) row.error = `loaded ${binary}, not ${wanted}`;
  if (row.failed > 0) row.error = lines.slice(0, -2).join('\n');
  return row;
}

function printTable(rows) {
  const cells = rows.map((row) => [
    row.name,
    row.runtime ? `${row.runtime} ${row.version}` : '-',
    row.platform ? `${row.platform}-${row.arch}` : '-',
    row.supported?.join(' ') ?? '-',
    row.skipped ? 'skipped' : (row.share ?? '-'),
    String(row.passed),
    String(row.failed),
    row.seconds ?? '-',
  ]);
  const head = ['runtime', 'version', 'platform', 'instruction sets', 'share', 'passed', 'failed', 'seconds'];
  const widths = head.map((title, i) => Math.max(title.length, ...cells.map((cell) => cell[i].length)));
  for (const line of [head, ...cells])
    console.log(
      line
        .map((cell, i) => cell.padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    );
}

const names = chosen(given.only, Object.keys(runtimes));
install(await tarball(given.tarball));
if (names.includes('deno')) console.log(`deno run ${denoPermissions.join(' ')}`);
const rows = names.map((name) => {
  const row = run(name, runtimes[name]);
  if (row.error) {
    // At the least one: a runtime that fails before its first test counts too.
    row.failed ||= 1;
    console.log(`FAILED ${name}: ${row.error}`);
  } else console.log(`${row.skipped ? `skipped ${name}: ${row.skipped}` : `ok ${name}`}`);
  return row;
});
console.log();
printTable(rows);
const total = (key) => rows.reduce((sum, row) => sum + row[key], 0);
const skipped = rows.filter((row) => row.skipped).length;
console.log(`${total('passed')} passed, ${total('failed')} failed${skipped ? `, ${skipped} skipped` : ''}`);
process.exit(total('failed') ? 1 : 0);
