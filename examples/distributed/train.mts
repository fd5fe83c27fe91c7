// Data-parallel training of a classifier of handwritten digits: each rank takes its share of every batch, SyncBatchNorm
// normalizes by the whole batch, and gradients are averaged. Fails unless that gives what one rank with whole batches gives.
//
//   npm run example:distributed                               four threads
//   npm run example:distributed -- --engine=gloo              four processes
//   mpirun -n 4 node build/examples/distributed/train.mjs     whatever a launcher has started

import { parseArgs } from 'node:util';
import { isMainThread, workerData } from 'node:worker_threads';
import { BatchNorm1d, convertSyncBatchNorm, Sequential, tensor } from 'simdnorm';
import {
  averageGradients,
  broadcastState,
  initProcessGroup,
  type InitOptions,
  type ProcessGroup,
} from 'simdnorm/distributed';
import { batches, pixels, readDigits, type Batch, type Digits } from '../mnist/digits.mjs';
import { floats } from '../mnist/floats.mjs';
import { Linear } from '../mnist/linear.mjs';
import { crossEntropy, heldOutAccuracy, mean, percent } from '../mnist/loss.mjs';
import { seeded } from '../mnist/random.mjs';
import { ReLU } from '../mnist/relu.mjs';
import { SGD } from '../mnist/sgd.mjs';
import { startProcesses, startThreads } from './start.mjs';

const epochs = 3;
const batchSize = 120;
const learningRate = 0.1;
const goal = 0.93;
/** How far a weight of four ranks may be from that of one, whose sums of gradients have another order. */
const bound = 1e-4;

function build(seed: number): Sequential {
  const random = seeded(seed);
  return new Sequential(
    new Linear(pixels, 128, random, { inputGrad: false }),
    new BatchNorm1d(128),
    new ReLU(),
    new Linear(128, 64, random),
    new BatchNorm1d(64),
    new ReLU(),
    new Linear(64, 10, random),
  );
}

/** The rows of a batch that are this rank's. */
function share({ x, labels }: Batch, { rank, size }: ProcessGroup): Batch {
  const n = labels.length / size;
  if (!Number.isInteger(n)) throw new RangeError(`a batch of ${labels.length} has no equal shares for ${size} ranks`);
  const rows = floats(x).subarray(rank * n * pixels, (rank + 1) * n * pixels);
  return { x: tensor(rows, [n, pixels]), labels: labels.subarray(rank * n, (rank + 1) * n) };
}

function train(group: ProcessGroup, digits: Digits, heldOut: Digits): { net: Sequential; accuracy: number } {
  // Each rank could begin with other weights: they become rank 0's.
  const net = convertSyncBatchNorm(build(2 + group.rank), group);
  broadcastState(net, group);

  const optimizer = new SGD(net.parameters(), 0.9);
  const order = seeded(3); // the same on all ranks
  const steps = epochs * Math.floor(digits.labels.length / batchSize);
  let step = 0;
  let accuracy = 0;
  for (let epoch = 1; epoch <= epochs; epoch++) {
    const losses: number[] = [];
    for (const batch of batches(digits, batchSize, order)) {
      const { x, labels } = share(batch, group);
      const { loss, dlogits } = crossEntropy(net.forward(x), labels);
      losses.push(loss);
      net.zeroGrad();
      net.backward(dlogits);
      averageGradients(net, group);
      optimizer.step(learningRate * (1 - step++ / steps));
    }
    const [loss] = group.allReduce(Float64Array.of(mean(losses)), { op: 'avg' });
    if (group.rank > 0) continue;
    accuracy = heldOutAccuracy(net, heldOut);
    console.log(`  epoch ${epoch}  loss ${loss!.toFixed(4)}  accuracy ${percent(accuracy)}`);
  }
  return { net, accuracy };
}

/** All weights and running statistics, one after the other. */
function numbersOf(net: Sequential): Float32Array {
  const tensors = [...net.stateDict().values()].filter(({ dtype }) => dtype === 'float32');
  return Float32Array.from(tensors.flatMap((t) => [...floats(t)]));
}

async function compare(group: ProcessGroup): Promise<void> {
  const { train: digits, test: heldOut } = readDigits(2000, seeded(1));
  if (group.rank === 0) console.log(`${group.size} ranks (${group.engine}), ${batchSize / group.size} digits each`);
  const together = train(group, digits, heldOut);
  const ours = numbersOf(together.net);
  const all = group.allGather(ours);
  group.close();
  if (group.rank > 0) return;

  const same = all.every((theirs) => Buffer.compare(new Uint8Array(theirs.buffer), new Uint8Array(ours.buffer)) === 0);
  console.log(`one rank, ${batchSize} digits`);
  const alone = train(await initProcessGroup({ rank: 0, size: 1 }), digits, heldOut);
  const theirs = numbersOf(alone.net);
  const apart = ours.reduce((most, value, i) => Math.max(most, Math.abs(value - theirs[i]!)), 0);

  console.log(
    `${ours.length} weights and running statistics: ${same ? 'the same bits' : 'not the same bits'} on all ranks, at most ` +
      `${apart.toExponential(1)} from those of one rank; ${percent(together.accuracy)} and ${percent(alone.accuracy)} ` +
      'of the held-out digits are right',
  );
  if (!same) throw new Error('expected the same bits on all ranks');
  if (!(apart <= bound)) throw new Error(`expected weights within ${bound} of those of one rank`);
  if (!(Math.min(together.accuracy, alone.accuracy) >= goal))
    throw new Error(`expected at least ${percent(goal)} right`);
}

const group = await initProcessGroup(isMainThread ? {} : (workerData as InitOptions));
if (group.size > 1) await compare(group);
else {
  group.close();
  const { values } = parseArgs({ options: { engine: { type: 'string', default: 'threads' } } });
  const start = { threads: startThreads, gloo: startProcesses }[values.engine];
  if (!start) throw new Error(`--engine is threads or gloo; mpi is started by mpirun`);
  await start(new URL(import.meta.url), 4);
}
