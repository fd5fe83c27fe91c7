// npm runs this at `npm install` in a clone, and before it packs. A tarball carries prebuilds (npm run prebuild), never
// the build of this machine, so packing does not make one.
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fillHeaders } from './native-headers.mjs';

const packs = ['pack', 'publish'].includes(process.env.npm_command);
fillHeaders();
// Nothing of an earlier build goes into a tarball.
if (packs) rmSync('dist', { recursive: true, force: true });
for (const script of packs ? ['build:lib'] : ['build:native', 'build:lib']) {
  const { status } = spawnSync('npm', ['run', script], { stdio: 'inherit', shell: process.platform === 'win32' });
  if (status !== 0) process.exit(status ?? 1);
}
