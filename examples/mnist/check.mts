// One batch through BatchNorm1d and back, against the slow double-precision oracle of the tests.

import { BatchNorm1d, tensor, type Tensor } from 'simdnorm';
import { reference, type Question } from '../../test/support/reference.js';
import { expectClose, tolerances } from '../../test/support/tolerance.js';
import { floats } from './floats.mjs';
import type { Random } from './random.mjs';

/**
 * Runs x (N, C) through a new layer with random weight, bias and dy.
 * @returns the names of what was compared
 * @throws Error that names the first value further from the oracle than float32 arithmetic explains
 */
export function checkBatchNorm(x: Tensor, random: Random): string[] {
  const [n, c] = x.shape as [number, number];
  const uniform = (values: Float32Array): Float32Array => values.map(() => 2 * random() - 1);
  const layer = new BatchNorm1d(c);
  const [weight, bias] = [floats(layer.weight!), floats(layer.bias!)];
  weight.set(uniform(weight));
  bias.set(uniform(bias));
  const dy = uniform(new Float32Array(n * c));

  const y = layer.forward(x);
  const dx = layer.backward(tensor(dy, [n, c]));

  const question: Question = {
    geometry: [1, n, c, 1, 1, c],
    x: floats(x),
    weight,
    bias,
    eps: layer.eps,
    about: 'mean',
  };
  const answer = reference(question, dy);
  const allowed = tolerances(question, answer, dy, 'float32');
  // Of a layer that has seen one batch with momentum 0.1, starting from mean 0 and variance 1; the variance is unbiased.
  const runningMean = answer.mean.map((mean) => 0.1 * mean);
  const runningVar = answer.var.map((biased) => 0.9 + (0.1 * biased * n) / (n - 1));

  const compared: [string, Tensor, Float64Array, number | Float64Array][] = [
    ['y', y, answer.y, allowed.y],
    ['dx', dx, answer.dx, allowed.dx],
    ['dweight', layer.weight!.grad!, answer.dweight, allowed.dweight],
    ['dbias', layer.bias!.grad!, answer.dbias, allowed.dbias],
    ['runningMean', layer.runningMean!, runningMean, allowed.mean],
    // Near 1 whatever the variance is: one rounding of that on top.
    ['runningVar', layer.runningVar!, runningVar, allowed.var + 2 ** -23],
  ];
  for (const [name, actual, expected, off] of compared) expectClose(name, floats(actual), expected, off, 'float32');
  return compared.map(([name]) => name);
}
