// What is too long for every push: CI's checks, then the hostile calls twenty times as many.
import { spawnSync } from 'node:child_process';

const steps = [
  ['npm', 'run', 'check'],
  ['npm', 'test'],
  ['npm', 'run', 'test:native'],
  ['npm', 'run', 'test:asan', '--', '1000000'],
  ['node', 'test/hostile/hostile.cjs', '--calls=2000000'],
  ['npm', 'run', 'bench'],
];
for (const [command, ...args] of steps) {
  console.log(`\n== ${[command, ...args].join(' ')}`);
  const { status } = spawnSync(command, args, { stdio: 'inherit', shell: process.platform === 'win32' });
  if (status !== 0) process.exit(status ?? 1);
}
