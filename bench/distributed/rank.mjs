// One rank of bench/distributed.mjs: checks, then times. Rank 0 prints a line of JSON: what was measured, or `missing`,
// what is to be installed.

import { isMainThread, workerData } from 'node:worker_threads';
import { BatchNorm1d, setNumThreads, SyncBatchNorm, tensor } from 'simdnorm';
import { initProcessGroup } from 'simdnorm/distributed';
import { median } from '../statistics.mjs';

const { init, plan } = isMainThread ? JSON.parse(process.argv[2]) : workerData;
// Ranks of so many rows have the bits of the whole batch (docs/distributed.md).
const wholeUnit = 256;

const values = (n, seed) => Float32Array.from({ length: n }, (_, i) => (((i + seed) * 2654435761) % 1009) / 250 - 1);
const matrix = (data, c) => tensor(data, [data.length / c, c]);

/** Throws unless this rank's part of a batch has the bits that a BatchNorm of all of it gives. */
function check({ rank, size }, c) {
  const part = (data) => data.slice(rank * wholeUnit * c, (rank + 1) * wholeUnit * c);
  const [x, dy] = [values(size * wholeUnit * c, 1), values(size * wholeUnit * c, 7)];
  const [whole, sync] = [new BatchNorm1d(c), new SyncBatchNorm(c)];
  const compared = [
    ['y', sync.forward(matrix(part(x), c)).data, part(whole.forward(matrix(x, c)).data)],
    ['dx', sync.backward(matrix(part(dy), c)).data, part(whole.backward(matrix(dy, c)).data)],
    ['runningMean', sync.runningMean.data, whole.runningMean.data],
    ['runningVar', sync.runningVar.data, whole.runningVar.data],
  ];
  for (const [what, actual, expected] of compared) {
    const at = actual.findIndex((value, i) => !Object.is(value, expected[i]));
    if (at >= 0) throw new Error(`rank ${rank} of ${size}, ${what}[${at}]: ${actual[at]}, and not ${expected[at]}`);
  }
}

/** What is timed: each gives the microseconds of its parts. */
function kinds(group, c) {
  const [x, dy] = [matrix(values(plan.rows * c, 1), c), matrix(values(plan.rows * c, 7), c)];
  const [five, two] = [new Float64Array(5 * c), new Float64Array(2 * c)];
  const timed = (call) => {
    const begin = performance.now();
    call();
    return 1000 * (performance.now() - begin);
  };
  const step = (layer) => [timed(() => layer.forward(x)), timed(() => layer.backward(dy))];
  const [alone, sync] = [new BatchNorm1d(c), new SyncBatchNorm(c)];
  return [
    [['alone', 'aloneBack'], () => step(alone)],
    [['forward', 'backward'], () => step(sync)],
    [['gather5'], () => [timed(() => group.allGather(five))]],
    [['reduce5'], () => [timed(() => group.allReduce(five))]],
    [['gather2'], () => [timed(() => group.allGather(two))]],
    [['reduce2'], () => [timed(() => group.allReduce(two))]],
    [['barrier'], () => [timed(() => group.barrier())]],
  ];
}

function measure(group, c) {
  check(group, c);
  const all = kinds(group, c).map(([names, call]) => ({ names, call, windows: names.map(() => []), calls: 0 }));
  for (const kind of all) {
    const trial = Array.from({ length: 20 }, () => kind.call().reduce((sum, us) => sum + us));
    // Rank 0's guess is everybody's number.
    const calls = Math.ceil((1000 * plan.ms) / median(trial));
    kind.calls = group.broadcast(Int32Array.of(Math.min(Math.max(calls, 5), 2000)))[0];
  }
  // In the first one V8 still compiles.
  for (let round = 0; round <= plan.rounds; round++) {
    for (const kind of [...all.slice(round % all.length), ...all.slice(0, round % all.length)]) {
      group.barrier();
      const samples = Array.from({ length: kind.calls }, kind.call);
      if (round === 0) continue;
      kind.windows.forEach((window, part) => window.push(median(samples.map((parts) => parts[part]))));
    }
  }
  return Object.fromEntries(all.flatMap(({ names, windows }) => names.map((name, i) => [name, median(windows[i])])));
}

async function main() {
  let group;
  try {
    group = await initProcessGroup({ ...init, timeout: 30_000 });
  } catch (error) {
    if (error.code !== 'ERR_ENGINE_NOT_FOUND') throw error;
    console.log(JSON.stringify({ missing: error.message }));
    return;
  }
  setNumThreads(1);
  const results = Object.fromEntries(plan.channels.map((c) => [c, measure(group, c)]));
  if (group.rank === 0) console.log(JSON.stringify({ results }));
  group.barrier();
  group.close();
}

await main();
