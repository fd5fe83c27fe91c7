// What the figures were measured on.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { root } from '../build.mjs';

function caches() {
  const folder = '/sys/devices/system/cpu/cpu0/cache';
  try {
    const read = (index, name) => readFileSync(join(folder, index, name), 'utf8').trim();
    const levels = readdirSync(folder).filter((name) => name.startsWith('index'));
    const data = levels.filter((index) => read(index, 'type') !== 'Instruction');
    return data.map((index) => `L${read(index, 'level')} ${read(index, 'size')}`).join(', ');
  } catch {
    return 'unknown';
  }
}

function commit() {
  try {
    const git = (...args) =>
      execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return git('rev-parse', '--short', 'HEAD').trim() + (git('status', '--porcelain').trim() ? ', changed' : '');
  } catch {
    return 'unknown';
  }
}

export const machine = () => ({
  cpu: cpus()[0]?.model ?? process.arch,
  processors: availableParallelism(),
  caches: caches(),
  memory: `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
  system: `${type()} ${release()}`,
  node: process.version,
  commit: commit(),
});
