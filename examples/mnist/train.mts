// Trains the same small classifier of handwritten digits with and without BatchNorm: same digits in the same order, same
// initial weights, same learning rate. Fails unless BatchNorm computes what the oracle does and earns its place.

import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { BatchNorm1d, isa, Sequential, type ModuleLike } from 'simdnorm';
import { chart, type Curve } from './chart.mjs';
import { checkBatchNorm } from './check.mjs';
import { batches, pixels, readDigits, type Digits } from './digits.mjs';
import { Linear } from './linear.mjs';
import { crossEntropy, heldOutAccuracy, mean, percent } from './loss.mjs';
import { seeded } from './random.mjs';
import { ReLU } from './relu.mjs';
import { SGD } from './sgd.mjs';

const hidden = [128, 128, 128];
const epochs = 10;
const batchSize = 100;
const learningRate = 0.3;
const momentum = 0.9;
const goal = 0.95;
const seed = 2;

interface Run {
  accuracies: number[];
  curve: Curve['points'];
}

function build(withBatchNorm: boolean): Sequential {
  const random = seeded(seed);
  const parts: ModuleLike[] = [];
  let width = pixels;
  for (const next of hidden) {
    parts.push(new Linear(width, next, random, { inputGrad: parts.length > 0 }));
    if (withBatchNorm) parts.push(new BatchNorm1d(next));
    parts.push(new ReLU());
    width = next;
  }
  return new Sequential(...parts, new Linear(width, 10, random));
}

function train(net: Sequential, digits: Digits, heldOut: Digits): Run {
  const run: Run = { accuracies: [], curve: [] };
  const optimizer = new SGD(net.parameters(), momentum);
  const order = seeded(seed + 1);
  const perEpoch = Math.floor(digits.labels.length / batchSize);
  const perPoint = perEpoch / 4;
  for (let epoch = 0; epoch < epochs; epoch++) {
    const started = performance.now();
    const losses: number[] = [];
    for (const { x, labels } of batches(digits, batchSize, order)) {
      const { loss, dlogits } = crossEntropy(net.forward(x), labels);
      losses.push(loss);
      net.zeroGrad();
      net.backward(dlogits);
      // Down to 0 in a straight line: at a constant rate the last epochs are noise.
      const done = (epoch * perEpoch + losses.length) / (epochs * perEpoch);
      optimizer.step(learningRate * (1 - done));
      if (losses.length % perPoint === 0) {
        run.curve.push({ x: epoch + losses.length / perEpoch, y: mean(losses.slice(-perPoint)) });
      }
    }
    run.accuracies.push(heldOutAccuracy(net, heldOut));
    const seconds = (performance.now() - started) / 1000;
    const line = [
      `loss ${mean(losses).toFixed(4)}`,
      `accuracy ${percent(run.accuracies.at(-1)!)}`,
      `${seconds.toFixed(1)} s`,
    ];
    console.log(`  epoch ${String(epoch + 1).padStart(2)}  ${line.join('  ')}`);
  }
  return run;
}

/** The first epoch, counted from 1, after which the goal was reached; Infinity for never. */
function reached({ accuracies }: Run): number {
  const at = accuracies.findIndex((share) => share >= goal);
  return at < 0 ? Infinity : at + 1;
}

function describe(run: Run): string {
  const epoch = reached(run);
  const when = Number.isFinite(epoch) ? `after epoch ${epoch}` : `not within ${epochs} epochs`;
  return `${when} (${percent(run.accuracies.at(-1)!)} at the end)`;
}

function draw(normed: Run, plain: Run): string {
  const file = resolve('mnist-loss.svg');
  const text = {
    title: 'The same network with and without BatchNorm',
    subtitle: `MNIST digits, ${hidden.length} hidden layers of ${hidden[0]}, SGD with learning rate ${learningRate}`,
    x: 'epoch',
    y: 'training loss (cross-entropy)',
  };
  const curves = [
    { name: 'without BatchNorm', color: '#d1622b', points: plain.curve },
    { name: 'with BatchNorm', color: '#2166ac', points: normed.curve },
  ];
  writeFileSync(file, chart(text, curves));
  return file;
}

function main(): void {
  const started = performance.now();
  const { train: digits, test: heldOut } = readDigits(2000, seeded(1));

  const [batch] = batches(digits, batchSize, seeded(seed));
  const activations = new Linear(pixels, hidden[0]!, seeded(seed)).forward(batch!.x);
  const compared = checkBatchNorm(activations, seeded(seed));
  console.log(`BatchNorm1d (${isa.active}) agrees with the oracle on one batch: ${compared.join(', ')}`);

  console.log(
    `${[pixels, ...hidden, 10].join('-')} network, learning rate ${learningRate} falling to 0, ` +
      `${digits.labels.length} digits to learn, ${heldOut.labels.length} held out`,
  );
  console.log('with BatchNorm');
  const normed = train(build(true), digits, heldOut);
  console.log('without');
  const plain = train(build(false), digits, heldOut);

  console.log(
    `With BatchNorm ${100 * goal} % of the held-out digits are right ${describe(normed)}, without it ${describe(plain)}.`,
  );
  const file = draw(normed, plain);
  console.log(`${((performance.now() - started) / 1000).toFixed(1)} s; both loss curves are in ${file}`);

  if (normed.accuracies.at(-1)! < goal) throw new Error(`expected at least ${100 * goal} % right with BatchNorm`);
  // Where the plain network never got there, it was given `epochs`, and that must be long enough to say so.
  if (Math.min(reached(plain), epochs) < 2 * reached(normed)) {
    throw new Error('expected the plain network to need at least twice the epochs');
  }
}

main();
