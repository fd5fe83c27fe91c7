// The comparison: the product and whichever peers are installed, on one grid, interleaved. Each cell is checked against
// the tests' oracle before it is timed; a product beyond their tolerances is a failure. See README.md.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readGrid, shrunk } from './cells.mjs';
import { machine } from './driver/machine.mjs';
import { contestants, Missing } from './driver/peers.mjs';
import { Peer } from './driver/process.mjs';
import { race } from './driver/race.mjs';
import { judgeOf } from './oracle.mjs';
import { callsTable, line, overRuns, rated, summary, write } from './report.mjs';

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
  --out=FILE.json         everything, and FILE.md and FILE.svg beside it
  --once                  every cell once and small: that all is right and starts (CI)
  --calls                 forwards of 1000 elements: what a call costs beyond the kernels`;

const { values: options } = parseArgs({
  options: {
    ...Object.fromEntries(
      ['cells', 'modes', 'grid', 'peers', 'isa', 'against', 'out'].map((name) => [name, { type: 'string' }]),
    ),
    threads: { type: 'string', default: '1,2' },
    variants: { type: 'string', default: 'reused' },
    rounds: { type: 'string', default: '5' },
    ms: { type: 'string', default: '100' },
    gap: { type: 'string', default: '20' },
    tries: { type: 'string', default: '3' },
    runs: { type: 'string', default: '1' },
    ...Object.fromEntries(['huge', 'once', 'calls', 'help'].map((name) => [name, { type: 'boolean', default: false }])),
  },
});
if (options.help) {
  console.log(usage);
  process.exit();
}
if (options.once) Object.assign(options, { threads: '2', runs: '1' });
if (options.calls) {
  options.grid ??= 'calls';
  options.peers ??= 'simdnorm,ops,onednn,plain-js';
  options.threads = '1';
}
if (options.huge) Object.assign(process.env, { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1', BENCH_HUGE: '1' });

const list = (text) => text?.split(',').filter(Boolean);
const among = (name, all) => {
  const wanted = list(options[name]) ?? all;
  const unknown = wanted.find((value) => !all.includes(value));
  if (unknown !== undefined) throw new RangeError(`--${name}: no ${unknown}; there are ${all.join(', ')}`);
  return wanted;
};
const modes = among('modes', ['train', 'eval', 'backward']);
const variants = list(options.variants);
among('variants', ['reused', 'fresh', 'busy']);
const threadCounts = list(options.threads).map(Number);

// ---- the grid ----

const gridFile = options.grid?.includes('.')
  ? options.grid
  : fileURLToPath(new URL(options.grid ? `grid-${options.grid}.txt` : 'grid.txt', import.meta.url));
const prefixes = list(options.cells) ?? [''];
const grid = readGrid(gridFile)
  .filter(({ id }) => prefixes.some((prefix) => id.startsWith(prefix)))
  .map((cell) => (options.once ? shrunk(cell) : cell));
if (grid.length === 0) throw new RangeError(`--cells=${options.cells}: no such cell in ${gridFile}`);

// ---- who takes part ----

const defaults = Object.keys(contestants).filter((name) => contestants[name].role !== 'own');
const withProduct = (names) => (names.includes('simdnorm') ? names : ['simdnorm', ...names]);
options.peers ??= defaults.join();
const names = withProduct(among('peers', Object.keys(contestants)));

/** The product once for each instruction set and build that was asked for; peers as they are. */
const entrants = names.flatMap((name) => {
  const { role, start } = contestants[name];
  if (role !== 'product') return [{ name, role, start }];
  const builds = [{ suffix: '', env: {} }];
  if (options.against) builds.push({ suffix: ' before', env: { BENCH_PACKAGE: options.against } });
  return builds.flatMap(({ suffix, env }) =>
    (list(options.isa) ?? [null]).map((isa) => ({
      name: `simdnorm${isa ? ` ${isa}` : ''}${suffix}`,
      role,
      start: (variant) => ({ ...start(variant), env: { ...env, ...(isa && { SIMDNORM_ISA: isa }) } }),
    })),
  );
});

const running = new Map();
function peerOf(entrant, variant) {
  const how = entrant.start(variant);
  const key = `${entrant.name} ${JSON.stringify(how.env ?? {})}`;
  if (!running.has(key) || running.get(key).ended) running.set(key, new Peer(how));
  return running.get(key);
}

const versions = {};
const present = [];
for (const entrant of entrants) {
  const missing = (why) => console.log(`without ${entrant.name}: ${why}`);
  try {
    const hello = await peerOf(entrant, variants[0]).hello;
    if (!hello.version) {
      if (entrant.role === 'product') throw new Error(`${entrant.name} does not start: ${hello.unsupported}`);
      missing(hello.missing ?? hello.unsupported);
      continue;
    }
    versions[entrant.name] = hello.version;
    present.push(entrant);
  } catch (error) {
    if (!(error instanceof Missing)) throw error;
    missing(error.message);
  }
}

// ---- the runs ----

const scratch = mkdtempSync(join(tmpdir(), 'simdnorm-bench-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
const failures = [];
const roles = Object.fromEntries(present.map(({ name, role }) => [name, role]));
const products = present.filter(({ role }) => role === 'product').map(({ name }) => name);
// A peer further off than this does something else, and is no measure.
const OTHER_WORK_ULP = 1 << 13;

/** What a contestant's first call gave, against the oracle; null where it does not do the cell. */
async function examined(entrant, cell, variant, judge) {
  const peer = peerOf(entrant, variant);
  const { op, shape, param, layout, mode, threads } = cell;
  const asked = variant === 'busy' ? 'reused' : variant;
  const request = ['cell', op, shape.join(), param, layout, mode, threads, asked, scratch];
  const answer = await peer.ask(request.join(' '));
  if (answer.unsupported) {
    if (entrant.role === 'product') failures.push(`${cell.id} ${mode}: ${entrant.name}: ${answer.unsupported}`);
    return { peer, unsupported: answer.unsupported };
  }
  if (!judge || answer.results.length === 0) return { peer };
  const results = answer.results.map((name) => {
    const { buffer, byteOffset, byteLength } = readFileSync(join(scratch, name));
    return [name, new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength))];
  });
  const { ulp, faults } = judge(Object.fromEntries(results));
  if (entrant.role === 'product' || entrant.name === 'plain-js') {
    failures.push(...faults.map((fault) => `${cell.id} ${mode}, ${threads} threads: ${entrant.name}: ${fault}`));
  } else if (!(ulp < OTHER_WORK_ULP)) return { peer, unsupported: `off by ${ulp.toPrecision(2)} ulp` };
  return { peer, ulp };
}

async function measured(cell, variant, judge) {
  const row = { ...cell, variant, ulp: {}, unsupported: {} };
  const able = [];
  for (const entrant of present) {
    const { peer, ulp, unsupported } = await examined(entrant, cell, variant, judge);
    if (unsupported) row.unsupported[entrant.name] = unsupported;
    else able.push({ name: entrant.name, peer });
    if (ulp !== undefined) row.ulp[entrant.name] = ulp;
  }
  const [rounds, ms, gap, tries] = [options.rounds, options.ms, options.gap, options.tries].map(Number);
  row.times = options.once ? {} : await race(able, { rounds, ms, gap, tries, busy: variant === 'busy' });
  return rated(row, roles);
}

const runs = [];
for (let run = 0; run < Number(options.runs); run++) {
  const rows = [];
  for (const { modes: its, ...cell } of grid) {
    const judges = {};
    for (const mode of modes.filter((each) => its.includes(each))) {
      // Running statistics in the place of the batch's: other answers.
      const key = mode === 'eval' && cell.op === 'batchnorm' ? 'running' : 'batch';
      const judge = run > 0 ? null : (judges[key] ??= judgeOf({ ...cell, mode }));
      for (const threads of threadCounts) {
        for (const variant of variants) {
          const row = await measured({ ...cell, mode, threads }, variant, judge);
          rows.push(row);
          if (!options.once) console.log(line(row, products));
        }
      }
    }
  }
  runs.push(rows);
}
for (const peer of running.values()) peer.quit();

// ---- what came of it ----

const report = {
  date: new Date().toISOString().slice(0, 10),
  command: `npm run bench -- ${process.argv.slice(2).join(' ')}`.trim(),
  machine: machine(),
  versions,
  products,
  roles,
  cells: overRuns(runs),
};
if (options.once) console.log(`${report.cells.length} cells with ${present.map(({ name }) => name).join(', ')}`);
else console.log(`\n${options.calls ? callsTable(report) : summary(report)}`);
if (options.out) {
  const base = options.out.replace(/\.json$/, '');
  writeFileSync(`${base}.json`, `${JSON.stringify(report, null, 1)}\n`);
  write(report, base);
}
if (failures.length > 0) {
  console.error(`\n${failures.length} results are wrong:\n  ${failures.join('\n  ')}`);
  process.exitCode = 1;
}
