// What can be asked of the comparison.

import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { readGrid, shrunk } from './cells.mjs';
import { contestants } from './driver/peers.mjs';

const usage = `npm run bench -- [options]
  --cells=bn-,ln-4096     cells whose names begin so (default: all)
  --modes=train,eval,backward
  --grid=other            another grid: shapes that nothing is tuned on; or a file
  --peers=torch,onednn    instead of all: ${Object.keys(contestants).join(' ')}
  --threads=1,2           (default: 1,2)
  --variants=reused       reused, fresh (a new output every call), busy (reused, while another process spins)
  --isa=avx512,avx2       the product with each of these (SIMDNORM_ISA)
  --against=FOLDER        another build of the package beside this one
  --rounds=5 --ms=100     of one pass; --gap=20: ms between two contestants
  --tries=3               answers asked for while other processes take more than 15 % of a processor
  --runs=5                passes over the grid: figures are medians over them (default: 1)
  --huge                  huge pages for all (glibc 2.35): no luck with physical pages
  --markdown              the table to paste at the end, not only its summary
  --out=FILE.json         everything, and FILE.md and FILE.svg beside it
  --once                  every cell once and small: that all is right and starts (CI)
  --calls                 forwards of 1000 elements: what a call costs beyond the kernels`;

const defaults = { threads: '1,2', variants: 'reused', rounds: '5', ms: '100', gap: '20', tries: '3', runs: '1' };
const texts = ['cells', 'modes', 'grid', 'peers', 'isa', 'against', 'out'];
const flags = ['huge', 'markdown', 'once', 'calls', 'help'];
const known = {
  ...Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, { type: 'string', default: value }])),
  ...Object.fromEntries(texts.map((name) => [name, { type: 'string' }])),
  ...Object.fromEntries(flags.map((name) => [name, { type: 'boolean', default: false }])),
};

const list = (value) => value.split(',').filter(Boolean);
function among(name, value, all) {
  const wanted = value === undefined ? all : list(value);
  const unknown = wanted.find((each) => !all.includes(each));
  if (unknown !== undefined) throw new RangeError(`--${name}: no ${unknown}; there are ${all.join(', ')}`);
  return wanted;
}
function count(name, value, least = 1) {
  const number = Number(value);
  if (!(number >= least)) throw new RangeError(`--${name}=${value}: must be a number from ${least} on`);
  return number;
}

function gridOf({ grid, cells, once }) {
  const named = new URL(grid ? `grid-${grid}.txt` : 'grid.txt', import.meta.url);
  const file = grid?.includes('.') ? grid : fileURLToPath(named);
  const prefixes = cells === undefined ? [''] : list(cells);
  const chosen = readGrid(file).filter(({ id }) => prefixes.some((prefix) => id.startsWith(prefix)));
  if (chosen.length === 0) throw new RangeError(`--cells=${cells}: no such cell in ${file}`);
  return once ? chosen.map(shrunk) : chosen;
}

/** null where help was asked for, which has been given. */
export function readOptions() {
  const { values } = parseArgs({ options: known });
  if (values.help) {
    console.log(usage);
    return null;
  }
  if (values.once) Object.assign(values, { threads: '1', runs: '1' });
  if (values.calls) {
    values.grid ??= 'calls';
    values.peers ??= 'simdnorm,ops,onednn,plain-js';
    values.threads = '1';
  }
  const everybody = Object.keys(contestants);
  values.peers ??= everybody.filter((name) => contestants[name].role !== 'own').join();
  if (values.out !== undefined && !existsSync(dirname(resolve(values.out)))) {
    throw new RangeError(`--out=${values.out}: there is no such folder`);
  }
  const [rounds, tries] = ['rounds', 'tries'].map((name) => count(name, values[name]));
  const [ms, gap] = ['ms', 'gap'].map((name) => count(name, values[name], 0));
  return {
    ...values,
    grid: gridOf(values),
    names: [...new Set(['simdnorm', ...among('peers', values.peers, everybody)])],
    isas: values.isa === undefined ? [null] : list(values.isa),
    modes: among('modes', values.modes, ['train', 'eval', 'backward']),
    variants: among('variants', values.variants, ['reused', 'fresh', 'busy']),
    threads: list(values.threads).map((value) => count('threads', value)),
    runs: count('runs', values.runs),
    timing: { rounds, ms, gap, tries },
  };
}
