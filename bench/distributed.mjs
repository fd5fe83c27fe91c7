// What an exchange between ranks costs: p50 of SyncBatchNorm, forward and backward, and of what carries it, for each engine
// and number of ranks on this machine; then the law that the figures follow, and what it says of more ranks than that.
//
//   node bench/distributed.mjs [--engines=threads,gloo,mpi] [--ranks=1,2,4,8] [--channels=64,512] [--rows=32] [--runs=3]
//                              [--rounds=5] [--ms=100] [--json=FILE]
//
// Every group first gives the bits of a BatchNorm of the whole batch, or the run fails. A figure is the median over --runs
// passes of the median over --rounds windows of --ms milliseconds; within a window all ranks make one kind of call, and
// kinds take turns. Engines that are not installed are named and left out.

import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { fitted, predicted } from './distributed/fit.mjs';
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

const { cpu } = machine();
console.log(`\n${cpu}, ${cores} cores; p50 in us, ${plan.rows} rows a rank, one thread each\n`);
const columns = ['alone', 'forward', 'gather5', 'reduce5', 'aloneBack', 'backward', 'gather2', 'reduce2', 'barrier'];
const titles = {
  alone: 'BatchNorm',
  forward: '**forward**',
  gather5: 'allGather',
  reduce5: 'allReduce',
  aloneBack: 'BatchNorm back',
  backward: '**backward**',
  gather2: 'allGather',
  reduce2: 'allReduce',
  barrier: 'barrier',
};
const figure = (us) => (us < 10 ? us.toFixed(1) : us.toFixed(0));
const row = (texts) => console.log(`| ${texts.join(' | ')} |`);
row(['engine', 'C', 'ranks', ...columns.map((what) => titles[what])]);
row(['---', '--:', '--:', ...columns.map(() => '--:')]);
for (const engine of present) {
  for (const c of channels) {
    for (const ranks of numbers(options.ranks)) {
      const us = (what) => figure(median(times[[engine, ranks, c, what]]));
      row([engine, c, ranks, ...columns.map(us)]);
    }
  }
}

console.log(`\nus = a + (ranks - 1) * (o + bytes / rate), a core for each rank:\n`);
row(['engine', 'a, us', 'o, us', 'rate, MB/s', 'off by at most', ...channels.map((c) => `${FAR} ranks, C = ${c}, ms`)]);
row(['---', '--:', '--:', '--:', '--:', ...channels.map(() => '--:')]);
for (const [engine, law] of Object.entries(laws)) {
  const { a, o, perByte, off } = law;
  law.far = Object.fromEntries(channels.map((c) => [c, predicted(law, FAR, bytes.gather5 * c)]));
  const rate = perByte > 0 ? figure(1 / perByte) : '-';
  row([engine, figure(a), figure(o), rate, `${off.toFixed(1)} x`, ...channels.map((c) => figure(law.far[c] / 1000))]);
}
console.log(`\nWithout a network, the rest of the work with ${FAR} ranks, ms:\n`);
row(['C', 'MB received', 'forward', 'backward']);
row(['--:', '--:', '--:', '--:']);
for (const c of channels) {
  const { forward, backward } = far[c];
  const received = ((FAR - 1) * bytes.gather5 * c) / 1e6;
  row([c, figure(received), figure(forward / 1000), figure(backward / 1000)]);
}

if (options.json) {
  const command = ['node bench/distributed.mjs', ...process.argv.slice(2)].join(' ');
  const date = new Date().toISOString().slice(0, 10);
  const report = { date, command, machine: machine(), cores, absent, cells, laws, withoutNetwork: far };
  writeFileSync(options.json, `${JSON.stringify(report, null, 1)}\n`);
}
