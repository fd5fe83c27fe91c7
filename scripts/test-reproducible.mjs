// Two builds of one commit give the same bytes: builds the targets again from a clone in another folder, and compares
// each with what lies in prebuilds/, then the tarballs.
//
//   node scripts/test-reproducible.mjs [--only=linux-x64,...]     after npm run prebuild
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { targets } from './targets.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const { values } = parseArgs({ options: { only: { type: 'string' } } });
const names = values.only?.split(',') ?? targets.map(({ name }) => name);

const run = (command, args, cwd, stdio = 'inherit') =>
  execFileSync(command, args, { cwd, stdio: ['ignore', stdio, 'inherit'], encoding: 'utf8' });
const hash = (file) => (existsSync(file) ? createHash('sha256').update(readFileSync(file)).digest('hex') : 'missing');

if (run('git', ['status', '--porcelain', '--untracked-files=no'], root, 'pipe') !== '') {
  console.error('test-reproducible: a clone would not have the changes that are not committed');
  process.exit(1);
}
const folder = mkdtempSync(join(tmpdir(), 'simdnorm-again-'));
const again = join(folder, 'clone');
let passed = 0;
let failed = 0;
const compare = (what, first, second) => {
  const equal = first === second && first !== 'missing';
  if (equal) passed++;
  else failed++;
  console.log(`${equal ? 'ok' : 'FAILED'} ${what}: ${first}${equal ? '' : `, then ${second}`}`);
};
try {
  run('git', ['clone', '--quiet', root, again], root);
  for (const shared of ['node_modules', 'build-tools']) symlinkSync(join(root, shared), join(again, shared));
  run('node', ['scripts/prebuild.mjs', `--only=${names.join()}`], again);
  for (const { name, file } of targets.filter((target) => names.includes(target.name))) {
    compare(name, hash(join(root, file)), hash(join(again, file)));
  }
  // The rest of the tarball, around the same prebuilds.
  cpSync(join(root, 'prebuilds'), join(again, 'prebuilds'), { recursive: true });
  const tarballs = [root, again].map((from, i) => {
    const to = ['--pack-destination', mkdtempSync(join(folder, `tarball${i}-`)), '--silent'];
    return join(
      to[1],
      run('npm', ['pack', ...to], from, 'pipe')
        .trim()
        .split('\n')
        .at(-1),
    );
  });
  compare('tarball', ...tarballs.map(hash));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
