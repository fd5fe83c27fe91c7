// What an exchange between ranks costs: p50 of SyncBatchNorm, forward and backward, and of what carries it, for each engine
// and number of ranks on this machine; then the law that the figures follow, and what it says of more ranks than that.
//
//   node bench/distributed.mjs [--engines=threads,gloo,mpi] [--ranks=1,2,4,8] [--channels=64,512] [--rows=32] [--runs=3]
//                              [--rounds=5] [--ms=100] [--json=FILE] [--update=docs/distributed.md]
//
// Every group first gives the bits of a BatchNorm of the whole batch, or the run fails. A figure is the median over --runs
// passes of the median over --rounds windows of --ms milliseconds; within a window all ranks make one kind of call, and
// kinds take turns. Engines that are not installed are named and left out. --update writes the tables into that page.

import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { format, resolveConfig } from 'prettier';
import { fitted } from './distributed/fit.mjs';
import { markdown } from './distributed/report.mjs';
import { startRanks } from './distributed/start.mjs';
import { withoutNetwork } from './distributed/without-network.mjs';
import { machine } from './driver/machine.mjs';
import { median } from './statistics.mjs';

const text = (value) => ({ type: 'string', default: value });
const { values: options } = parseArgs({
  options: {
    engines: text('threads,gloo,mpi'),
    ranks: text('1,2,4,8'),
    channels: text('64,512'),
    rows: text('32'),
    runs: text('3'),
    rounds: text('5'),
    ms: text('100'),
    json: { type: 'string' },
    update: { type: 'string' },
  },
});
const numbers = (value) => value.split(',').map(Number);
const channels = numbers(options.channels);
const plan = { channels, rows: Number(options.rows), rounds: Number(options.rounds), ms: Number(options.ms) };
// Of the exchange of SyncBatchNorm on the way there and back, by channel.
const bytes = { gather5: 5 * 8, gather2: 2 * 8, barrier: 0 };
const FAR = 1000;

const present = [];
const absent = {};
const times = {};
for (let run = 0; run < Number(options.runs); run++) {
  for (const engine of run === 0 ? options.engines.split(',') : present) {
    for (const size of numbers(options.ranks)) {
      const { missing, results } = await startRanks(engine, size, plan);
      if (missing) {
        absent[engine] = missing;
        console.log(`${engine} is left out: ${missing}`);
        break;
      }
      if (run === 0 && !present.includes(engine)) present.push(engine);
      for (const [c, figures] of Object.entries(results)) {
        for (const [what, us] of Object.entries(figures)) {
          (times[[engine, size, c, what]] ??= []).push(us);
        }
      }
    }
  }
}
const cells = Object.entries(times).map(([key, all]) => {
  const [engine, ranks, c, what] = key.split(',');
  return { engine, ranks: Number(ranks), channels: Number(c), what, us: median(all) };
});

const cores = availableParallelism();
const laws = {};
for (const engine of present) {
  const points = cells
    .filter((cell) => cell.engine === engine && cell.ranks > 1 && cell.what in bytes)
    .map((cell) => ({ ranks: cell.ranks, bytes: bytes[cell.what] * cell.channels, us: cell.us }));
  if (points.length > 3) laws[engine] = fitted(points, cores);
}
const far = withoutNetwork(FAR, plan);

const command = ['node bench/distributed.mjs', ...process.argv.slice(2)].join(' ');
const date = new Date().toISOString().slice(0, 10);
const report = { date, command, machine: machine(), ...plan, bytes, absent, cells, laws, far: { ranks: FAR, ...far } };
const words = markdown(report);
console.log(`\n${words}`);
if (options.json) writeFileSync(options.json, `${JSON.stringify(report, null, 1)}\n`);
if (options.update) {
  const [begin, end] = ['<!-- begin: bench/distributed.mjs -->', '<!-- end: bench/distributed.mjs -->'];
  const [before, rest] = readFileSync(options.update, 'utf8').split(begin);
  const after = rest.split(end)[1];
  const page = `${before}${begin}\n\n${words}\n${end}${after}`;
  const style = await resolveConfig(options.update);
  writeFileSync(options.update, await format(page, { ...style, filepath: options.update }));
}
