// The comparison: the product and whichever peers are installed, on one grid, interleaved. Each cell is checked against
// the tests' oracle before it is timed; a product beyond their tolerances is a failure. --help lists the options.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { machine } from './driver/machine.mjs';
import { race } from './driver/race.mjs';
import { endAll, startAll } from './driver/start.mjs';
import { readOptions } from './options.mjs';
import { judgeOf } from './oracle.mjs';
import { overRuns, rated } from './ratios.mjs';
import { callsTable, line, markdown, summary, write } from './report.mjs';

// A peer further off than this does something else, and is no measure.
const OTHER_WORK_ULP = 1 << 13;

const options = readOptions();
if (!options) process.exit();
// glibc 2.35's malloc asks for huge pages then, and the peers in C++ do.
if (options.huge) Object.assign(process.env, { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1', BENCH_HUGE: '1' });

const scratch = mkdtempSync(join(tmpdir(), 'simdnorm-bench-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
const present = await startAll(options);
const roles = Object.fromEntries(present.map(({ name, role }) => [name, role]));
const products = present.filter(({ role }) => role === 'product').map(({ name }) => name);
const isOurs = ({ name, role }) => role !== 'peer' || name === 'plain-js';
const failures = [];

function resultOf(name) {
  const { buffer, byteOffset, byteLength } = readFileSync(join(scratch, name));
  const Kind = name === 'mean' || name === 'var' ? Float64Array : Float32Array;
  return [name, new Kind(buffer.slice(byteOffset, byteOffset + byteLength))];
}

/** The first call of a contestant, against the oracle: { ulp }, or { unsupported } where it does not do the cell. */
async function examine(contestant, process, cell, variant, judge) {
  const { id, op, shape, param, layout, mode, threads } = cell;
  const memory = variant === 'fresh' ? 'fresh' : 'reused';
  const folder = judge ? scratch : '-';
  const words = ['cell', op, shape.join(), param, layout, mode, threads, memory, folder];
  const { unsupported, results } = await process.ask(words.join(' '));
  const fail = (fault) => failures.push(`${id} ${mode}, ${threads} thread(s), ${contestant.name}: ${fault}`);
  if (unsupported) {
    if (contestant.role === 'product') fail(unsupported);
    return { unsupported };
  }
  if (results.length === 0) return {};
  const { ulp, coarse, faults } = judge(Object.fromEntries(results.map(resultOf)));
  // Plain sums of a million terms round as often.
  if (isOurs(contestant) && !(op === 'statistics' && contestant.role === 'peer')) faults.forEach(fail);
  else if (!(coarse < OTHER_WORK_ULP)) return { ulp, unsupported: `off by ${ulp.toPrecision(2)} ulp` };
  return { ulp };
}

/** One row of the report. `before`: the same row of the first run, whose verdicts hold. */
async function measure(cell, variant, judge, before) {
  const row = { ...cell, variant, ulp: before?.ulp ?? {}, unsupported: before?.unsupported ?? {}, times: {} };
  // Once, the peers from elsewhere only show that they start and do the same work: on the first cell of each op.
  const isFirst = options.grid.find(({ op }) => op === cell.op).id === cell.id;
  const able = [];
  for (const contestant of options.once && !isFirst ? present.filter(isOurs) : present) {
    const { name } = contestant;
    if (row.unsupported[name]) continue;
    const process = contestant.process(variant);
    const { ulp, unsupported } = await examine(contestant, process, cell, variant, judge);
    if (ulp !== undefined) row.ulp[name] = ulp;
    if (unsupported) row.unsupported[name] = unsupported;
    else able.push({ name, process });
  }
  if (!options.once) row.times = await race(able, { ...options.timing, busy: variant === 'busy' });
  return rated(row, roles);
}

/** A pass over the grid. */
async function pass(first) {
  const rows = [];
  for (const { modes, ...row } of options.grid) {
    const judges = {};
    for (const mode of options.modes.filter((each) => modes.includes(each))) {
      // Running statistics in the place of the batch's: other answers.
      const key = mode === 'eval' && row.op === 'batchnorm' ? 'running' : 'batch';
      const judge = first ? null : (judges[key] ??= judgeOf({ ...row, mode }));
      for (const threads of options.threads) {
        for (const variant of options.variants) {
          rows.push(await measure({ ...row, mode, threads }, variant, judge, first?.[rows.length]));
          if (!options.once) console.log(line(rows.at(-1), products));
        }
      }
    }
  }
  return rows;
}

const runs = [];
for (let run = 0; run < options.runs; run++) runs.push(await pass(runs[0]));
endAll();

const report = {
  date: new Date().toISOString().slice(0, 10),
  command: ['npm run bench --', ...process.argv.slice(2)].join(' '),
  machine: machine(),
  versions: Object.fromEntries(present.map(({ name, version }) => [name, version])),
  products,
  roles,
  cells: overRuns(runs),
};
const words = options.calls ? callsTable : options.markdown ? markdown : summary;
if (options.once) console.log(`${report.cells.length} cells with ${present.map(({ name }) => name).join(', ')}`);
else console.log(`\n${words(report)}`);
if (options.out) {
  writeFileSync(options.out, `${JSON.stringify(report, null, 1)}\n`);
  write(report, options.out.replace(/\.json$/, ''));
}
if (failures.length > 0) {
  console.error(`\n${failures.length} results are wrong:\n  ${failures.join('\n  ')}`);
  process.exitCode = 1;
}
