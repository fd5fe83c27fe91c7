// The C++ tests (ctest) four ways: in release, under the address and undefined-behaviour sanitizers, those of the pool
// under the thread sanitizer, and for NEON, cross compiled and run in an emulator. Then the digests of all outputs are compared: every instruction set, on x86-64
// and on arm64, gives the same bits.
//
//   node scripts/test-native.mjs [--only=release|sanitize|thread|neon]
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const digestTests = ['kernels', 'ops', 'local_response', 'images', 'tally'];

const neonCompiler = process.env.SIMDNORM_ARM64_CXX ?? 'aarch64-linux-gnu-g++';
const emulator = ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu'];

const stages = {
  release: { options: [], tools: {} },
  sanitize: { options: ['-DSIMDNORM_SANITIZE=address,undefined', '-DSIMDNORM_ADDON=OFF'], tools: {} },
  thread: {
    options: ['-DSIMDNORM_SANITIZE=thread', '-DSIMDNORM_ADDON=OFF'],
    tools: {},
    tests: ['thread_pool', 'ops'],
  },
  neon: {
    options: [
      '-DSIMDNORM_ADDON=OFF',
      '-DCMAKE_SYSTEM_NAME=Linux',
      '-DCMAKE_SYSTEM_PROCESSOR=aarch64',
      `-DCMAKE_CXX_COMPILER=${neonCompiler}`,
      `-DCMAKE_CROSSCOMPILING_EMULATOR=${emulator.join(';')}`,
    ],
    tools: { [neonCompiler]: 'g++-aarch64-linux-gnu', [emulator[0]]: 'qemu-user-static' },
    emulator,
  },
};

class Failure extends Error {}

function run(command, args, { capture = false } = {}) {
  const result = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', capture ? 'pipe' : 'inherit', 'inherit'],
    maxBuffer: 1 << 28,
  });
  if (result.error) throw new Failure(`${command}: ${result.error.message}`);
  return result;
}

function needTools(tools) {
  for (const [tool, debianPackage] of Object.entries({ cmake: 'cmake', ...tools })) {
    const found = spawnSync(tool, ['--version'], { stdio: 'ignore' });
    if (found.error) throw new Failure(`${tool} is missing (Debian and Ubuntu: apt install ${debianPackage})`);
  }
}

const folder = (stage) => join(root, `build-native-${stage}`);

function build(stage) {
  const { options, tools, tests = [] } = stages[stage];
  needTools(tools);
  const generator = spawnSync('ninja', ['--version']).status === 0 ? ['-G', 'Ninja'] : [];
  // The generator of an existing folder cannot be changed.
  const chosen = existsSync(join(folder(stage), 'CMakeCache.txt')) ? [] : generator;
  const steps = [
    ['-S', root, '-B', folder(stage), '-DCMAKE_BUILD_TYPE=Release', '-DSIMDNORM_TESTS=ON', ...chosen, ...options],
    [
      ...['--build', folder(stage), '--parallel', String(availableParallelism())],
      ...tests.flatMap((test) => ['--target', `${test}_test`]),
    ],
  ];
  for (const args of steps) {
    const result = run('cmake', args, { capture: true });
    if (result.status !== 0) throw new Failure(`${result.stdout}\ncmake ${args.join(' ')} failed`);
    if (result.stdout.includes('warning:')) process.stdout.write(result.stdout);
  }
}

function ctest(stage) {
  const { tests } = stages[stage];
  const args = ['--test-dir', folder(stage), '--output-on-failure', '--parallel', String(availableParallelism())];
  if (tests) args.push('--tests-regex', `^(${tests.join('|')})$`);
  const { stdout } = run('ctest', args, { capture: true });
  process.stdout.write(stdout);
  const summary = /tests passed, (\d+) tests? failed out of (\d+)/.exec(stdout);
  if (!summary) throw new Failure(`ctest ran no tests in ${folder(stage)}`);
  return { failed: Number(summary[1]), passed: Number(summary[2]) - Number(summary[1]) };
}

/** [{ test, isa, digest, stage }] */
function digests(stage) {
  return digestTests.flatMap((test) => {
    const [command, ...args] = [...(stages[stage].emulator ?? []), join(folder(stage), `${test}_test`), '--digest'];
    const { stdout, status } = run(command, args, { capture: true });
    const found = [...stdout.matchAll(/^digest (\w+) (\w+) ([0-9a-f]{16})$/gm)];
    if (status !== 0 || found.length === 0) throw new Failure(`${test}_test --digest failed in ${stage}`);
    return found.map(([, , isa, digest]) => ({ test, isa, digest, stage }));
  });
}

/** Against the portable kernels of the first stage. */
function compare(all) {
  const total = { passed: 0, failed: 0 };
  for (const test of digestTests) {
    const [reference, ...others] = all
      .filter((d) => d.test === test)
      .sort((a, b) => Number(b.isa === 'portable') - Number(a.isa === 'portable'));
    for (const other of others) {
      const same = other.digest === reference.digest;
      total[same ? 'passed' : 'failed']++;
      const [left, right] = [other, reference].map((d) => `${d.stage} ${d.isa} ${d.digest}`);
      console.log(`${same ? 'ok    ' : 'FAILED'} ${test}: ${left} ${same ? '==' : '!='} ${right}`);
    }
  }
  return total;
}

function main() {
  const only = process.argv.slice(2).map((argument) => /^--only=(\w+)$/.exec(argument)?.[1] ?? argument);
  if (only.length > 1 || (only.length === 1 && !(only[0] in stages))) {
    throw new Failure(`usage: node scripts/test-native.mjs [--only=${Object.keys(stages).join('|')}]`);
  }
  const chosen = only.length > 0 ? only : Object.keys(stages);

  const total = { passed: 0, failed: 0 };
  const add = ({ passed, failed }) => {
    total.passed += passed;
    total.failed += failed;
  };
  const timed = (title, f) => {
    const start = performance.now();
    console.log(`---- ${title}`);
    const result = f();
    console.log(`     ${((performance.now() - start) / 1000).toFixed(1)} s`);
    return result;
  };

  for (const stage of chosen) {
    timed(`${stage}: build`, () => build(stage));
    add(timed(`${stage}: test`, () => ctest(stage)));
  }
  const compared = chosen.filter((stage) => !['sanitize', 'thread'].includes(stage)); // those have the code of release
  if (compared.length > 0) {
    if (!chosen.includes('release')) timed('release: build, to compare with', () => build('release'));
    add(timed('digests', () => compare([...new Set(['release', ...compared])].flatMap(digests))));
  }
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0 ? 0 : 1;
}

try {
  process.exitCode = main();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
