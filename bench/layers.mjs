// Every layer of the grid against plain JavaScript loops and against a copy of the same bytes. Each cell is first
// checked against the oracle; its error, in float32 ulp, stands beside its time. A cell beyond the tests' tolerances is
// a failure.
//
//   node bench/layers.mjs [--cells=bn-,ln-4096] [--threads=1] [--isa=avx2] [--markdown | --json] [--once]
//
// --once: every cell once, small: that the bench still runs and the results are right (CI); times mean nothing then.

import { parseArgs } from 'node:util';
import { cpus } from 'node:os';
import { getNumThreads, isa, setNumThreads } from 'simdnorm';
import { prepare, rowOf, tinyCalls } from './cells.mjs';
import { cells } from './grid.mjs';
import { race } from './timing.mjs';

const { values: options } = parseArgs({
  options: {
    cells: { type: 'string', default: '' },
    threads: { type: 'string', default: '1' },
    isa: { type: 'string' },
    once: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '7' },
    ms: { type: 'string', default: '25' },
  },
});

setNumThreads(Number(options.threads));
if (options.isa) isa.use(options.isa);
const timing = { rounds: Number(options.rounds), ms: Number(options.ms), once: options.once };
const head = { isa: isa.active, threads: getNumThreads(), cpu: cpus()[0]?.model, node: process.version };

const digits = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
const columns = [
  ['cell', (r) => r.cell],
  ['us', (r) => digits(r.us)],
  ['plain us', (r) => digits(r.plainUs)],
  ['times faster than plain', (r) => digits(1 / r.ofPlain)],
  ['of the copy', (r) => digits(r.ofCopy)],
  ['ulp', (r) => r.ulp.toFixed(2)],
];

function print(row, isHeader = false) {
  if (options.json) {
    if (!isHeader) console.log(JSON.stringify({ ...row, ...head }));
    return;
  }
  const texts = columns.map(([name, of], i) => {
    const text = isHeader ? name : of(row);
    return i === 0 ? text.padEnd(26) : text.padStart(Math.max(9, name.length));
  });
  if (!options.markdown) return console.log(texts.join('  '));
  console.log(`| ${texts.map((text) => text.trim()).join(' | ')} |`);
  if (isHeader) console.log(`|:--|${'--:|'.repeat(columns.length - 1)}`);
}

const chosen = cells({ prefixes: options.cells.split(','), once: options.once });
if (chosen.length === 0) throw new RangeError(`--cells=${options.cells}: no such cell`);
if (!options.json) console.log(`${head.isa}, ${head.threads} thread(s), ${head.cpu}, Node ${head.node}\n`);
print(null, true);

const failures = [];
const ratios = [];
let row, id;
for (const cell of chosen) {
  if (cell.id !== id) row = rowOf(cell);
  id = cell.id;
  const { ulp, faults, contestants } = prepare(cell, row);
  failures.push(...faults.map((fault) => `${cell.name}: ${fault}`));
  const { us, ratio } = race(contestants, timing);
  const result = { cell: cell.name, us: us.simdnorm, plainUs: us.plain, copyUs: us.copy };
  Object.assign(result, { ofPlain: ratio('simdnorm', 'plain'), ofCopy: ratio('simdnorm', 'copy'), ulp });
  ratios.push(result);
  print(result);
}

const mean = (of) => Math.exp(ratios.reduce((total, r) => total + Math.log(of(r)), 0) / ratios.length);
const summary = { cells: ratios.length, fasterThanPlain: mean((r) => 1 / r.ofPlain), ofCopy: mean((r) => r.ofCopy) };
summary.mostUlp = Math.max(...ratios.map((r) => r.ulp));
if (options.json) console.log(JSON.stringify({ summary, ...head }));
else {
  console.log(
    `\n${summary.cells} cells, geometric means: ${digits(summary.fasterThanPlain)} times faster than plain, ` +
      `${digits(summary.ofCopy)} of the copy; largest error ${summary.mostUlp.toFixed(2)} ulp`,
  );
}

if (!options.cells) {
  const { us } = race(tinyCalls(), timing);
  if (options.json)
    console.log(
      JSON.stringify({ tinyCallsNs: Object.fromEntries(Object.entries(us).map(([k, v]) => [k, v * 1e3])), ...head }),
    );
  else {
    console.log('\nOne call on 1000 elements, with `out`, inside noGrad, ns:');
    for (const [name, each] of Object.entries(us)) console.log(`  ${name.padEnd(36)}${digits(each * 1e3).padStart(7)}`);
  }
}

if (failures.length > 0) {
  console.error(`\n${failures.length} results beyond the tests' tolerances:\n  ${failures.join('\n  ')}`);
  process.exitCode = 1;
}
