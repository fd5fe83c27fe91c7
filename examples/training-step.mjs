// One training step of a BatchNorm2d by itself: forward, backward, parameters moved against their gradients.
// node examples/training-step.mjs

import { BatchNorm2d, tensor } from 'simdnorm';

const shape = [8, 3, 16, 16];
const random = () => Float32Array.from({ length: 8 * 3 * 16 * 16 }, () => 10 + 5 * Math.random());

const bn = new BatchNorm2d(3);
const x = tensor(random(), shape);
const y = bn.forward(x);

// The gradient of the loss: half the mean of (y - wanted)^2.
const wanted = random();
const dy = tensor(
  y.data.map((value, i) => (value - wanted[i]) / y.size),
  shape,
);
bn.zeroGrad();
const dx = bn.backward(dy);

for (const parameter of bn.parameters()) {
  parameter.data.forEach((value, i) => (parameter.data[i] = value - 0.1 * parameter.grad.data[i]));
}

console.log(String(bn), '->', String(dx));
console.log('weight', bn.weight.toArray(), 'bias', bn.bias.toArray());
console.log('after', bn.numBatchesTracked, 'batch: running mean', bn.runningMean.toArray());
