// Trains a classifier of handwritten digits with Adam: residual blocks around LayerNorm. Saves it as a safetensors file,
// and loads that into a second network. Fails unless it learns, and the second network gives the same outputs.

import { resolve } from 'node:path';
import { isa, LayerNorm, noGrad, Sequential, tensor } from 'simdnorm';
import { readSafetensors, writeSafetensors } from 'simdnorm/safetensors';
import { Adam } from './adam.mjs';
import { Block } from './block.mjs';
import { batches, pixels, readDigits } from './digits.mjs';
import { floats } from './floats.mjs';
import { Linear } from './linear.mjs';
import { crossEntropy, heldOutAccuracy, mean, percent } from './loss.mjs';
import { seeded } from './random.mjs';

const width = 64;
const epochs = 5;
const batchSize = 100;
const learningRate = 0.003;
const goal = 0.93;

function build(seed: number): Sequential {
  const random = seeded(seed);
  return new Sequential(
    new Linear(pixels, width, random, { inputGrad: false }),
    new Block(width, random),
    new Block(width, random),
    new LayerNorm(width),
    new Linear(width, 10, random),
  );
}

function main(): void {
  const started = performance.now();
  const { train: digits, test: heldOut } = readDigits(2000, seeded(1));
  const net = build(2);
  console.log(String(net));
  const parameters = net.parameters();
  const numbers = parameters.reduce((sum, { size }) => sum + size, 0);
  console.log(
    `${numbers} numbers in ${parameters.length} parameters, Adam, learning rate ${learningRate} falling to 0`,
  );

  const optimizer = new Adam(parameters);
  const order = seeded(3);
  const steps = epochs * Math.floor(digits.labels.length / batchSize);
  let step = 0;
  for (let epoch = 1; epoch <= epochs; epoch++) {
    const losses: number[] = [];
    for (const { x, labels } of batches(digits, batchSize, order)) {
      const { loss, dlogits } = crossEntropy(net.forward(x), labels);
      losses.push(loss);
      net.zeroGrad();
      net.backward(dlogits);
      optimizer.step(learningRate * (1 - step++ / steps));
    }
    console.log(
      `  epoch ${epoch}  loss ${mean(losses).toFixed(4)}  accuracy ${percent(heldOutAccuracy(net, heldOut))}`,
    );
  }

  const file = resolve('mnist-adam.safetensors');
  writeSafetensors(file, net.stateDict());
  const copy = build(4);
  copy.loadStateDict(readSafetensors(file).tensors);
  const images = tensor(heldOut.images, [heldOut.labels.length, pixels]);
  const [outputs, again] = noGrad(() => [net, copy].map((one) => floats(one.eval().forward(images)))) as [
    Float32Array,
    Float32Array,
  ];
  const same = outputs.every((value, i) => value === again[i]);
  console.log(`saved in ${file} and loaded: the outputs are ${same ? 'the same' : 'not the same'}`);
  const accuracy = heldOutAccuracy(copy, heldOut);
  const seconds = (performance.now() - started) / 1000;
  console.log(`${percent(accuracy)} of the held-out digits are right (${isa.active}, ${seconds.toFixed(1)} s)`);

  if (!same) throw new Error('expected the loaded network to give the same outputs');
  if (!(accuracy >= goal)) throw new Error(`expected at least ${percent(goal)} right`);
}

main();
