// What a release must pass, and what is too long for every push: every prebuild made, held to its line, made again with
// the same bytes, installed from the tarball and run wherever that can be done; then CI's checks, the hostile calls twenty
// times as many, and the benchmark.
import { spawnSync } from 'node:child_process';

const steps = [
  ['npm', 'run', 'prebuild'],
  ['npm', 'run', 'check:prebuilds'],
  ['npm', 'run', 'test:reproducible'],
  ['npm', 'run', 'test:install', '--', '--build'],
  ['npm', 'run', 'test:hosts'],
  ['npm', 'run', 'test:runtimes'],
  ['npm', 'run', 'test:wasm'],
  ['npm', 'run', 'test:browser'],
  ['npm', 'run', 'check'],
  ['npm', 'test'],
  ['npm', 'run', 'test:native'],
  ['npm', 'run', 'test:asan', '--', '1000000'],
  ['node', 'test/hostile/hostile.cjs', '--calls=2000000'],
  ['npm', 'run', 'bench'],
];
const only = process.argv.slice(2);
const unknown = only.filter((part) => !steps.some((step) => step.join(' ').includes(part)));
if (unknown.length > 0) {
  console.error(
    `no step has ${unknown.join(', ')} in its name; there are\n  ${steps.map((step) => step.join(' ')).join('\n  ')}`,
  );
  process.exit(1);
}
const began = Date.now();
for (const [command, ...args] of steps) {
  const name = [command, ...args].join(' ');
  if (only.length > 0 && !only.some((part) => name.includes(part))) continue;
  console.log(`\n== ${name}`);
  const { status } = spawnSync(command, args, { stdio: 'inherit', shell: process.platform === 'win32' });
  console.log(`== ${name}: ${status === 0 ? 'passed' : 'FAILED'}, ${Math.round((Date.now() - began) / 1000)} s in all`);
  if (status !== 0) process.exit(status ?? 1);
}
