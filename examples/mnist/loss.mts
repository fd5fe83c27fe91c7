// How wrong a batch of logits is.

import { tensor, type Tensor } from 'simdnorm';
import type { Batch } from './digits.mjs';
import { floats } from './floats.mjs';

/** The mean over the batch of -log softmax(logits)[label], and its gradient. */
export function crossEntropy(logits: Tensor, labels: Batch['labels']): { loss: number; dlogits: Tensor } {
  const classes = logits.shape[1]!;
  const all = floats(logits);
  const dlogits = new Float32Array(all.length);
  let loss = 0;
  labels.forEach((label, row) => {
    const z = all.subarray(row * classes, (row + 1) * classes);
    // Less their maximum, or exp overflows.
    const most = Math.max(...z);
    const sum = z.reduce((total, value) => total + Math.exp(value - most), 0);
    loss += Math.log(sum) + most - z[label]!;
    z.forEach((value, k) => {
      dlogits[row * classes + k] = (Math.exp(value - most) / sum - (k === label ? 1 : 0)) / labels.length;
    });
  });
  return { loss: loss / labels.length, dlogits: tensor(dlogits, logits.shape) };
}

/** The share of rows whose largest logit is their label's. */
export function accuracy(logits: Tensor, labels: Batch['labels']): number {
  const classes = logits.shape[1]!;
  const all = floats(logits);
  const right = labels.filter((label, row) => {
    const z = all.subarray(row * classes, (row + 1) * classes);
    return z.indexOf(Math.max(...z)) === label;
  });
  return right.length / labels.length;
}
