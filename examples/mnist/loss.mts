// How wrong a batch of logits is.

import { noGrad, tensor, type Sequential, type Tensor } from 'simdnorm';
import { pixels, type Batch, type Digits } from './digits.mjs';
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

/** The network's accuracy in evaluation mode; it is in training mode after. */
export function heldOutAccuracy(net: Sequential, { images, labels }: Digits): number {
  net.eval();
  const found = noGrad(() => accuracy(net.forward(tensor(images, [labels.length, pixels])), labels));
  net.train();
  return found;
}

export const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
export const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;
