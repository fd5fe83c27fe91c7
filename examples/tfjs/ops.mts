// Our kernels as operations of TensorFlow.js: `tf.customGrad` around a native… function and its …Backward.

import * as tf from '@tensorflow/tfjs-core';
import { tensor, type Tensor } from 'simdnorm';
import {
  nativeBatchNorm,
  nativeBatchNormBackward,
  nativeLayerNorm,
  nativeLayerNormBackward,
  type Gradients,
  type Normalized,
} from 'simdnorm/functional';

/** A tensor of theirs in one of our shapes: the same memory, on TensorFlow.js's CPU backend. */
const ours = (t: tf.Tensor, shape = t.shape): Tensor => tensor(t.dataSync<'float32'>(), shape);
/**
 * TensorFlow.js has the channels last, so that images are a list of pixels: BatchNorm over (N, H, W, C) is BatchNorm over
 * (N H W, C).
 */
const rows = (t: tf.Tensor): Tensor => ours(t, [t.size / t.shape.at(-1)!, t.shape.at(-1)!]);
const theirs = (t: Tensor | null, shape: number[]): tf.Tensor => tf.tensor(t!.data as Float32Array, shape);

type Forward = (x: Tensor, weight: Tensor, bias: Tensor) => Normalized;
type Backward = (dy: Tensor, x: Tensor, weight: Tensor, ran: Normalized) => Gradients;

/** Of x, gamma and beta. TensorFlow.js keeps x and gamma for the way back, and disposes of them; `ran` is garbage after. */
function operation(forward: Forward, backward: Backward): (...inputs: tf.Tensor[]) => tf.Tensor {
  return tf.customGrad((...inputs) => {
    const [x, gamma, beta, save] = inputs as [tf.Tensor, tf.Tensor, tf.Tensor, (kept: tf.Tensor[]) => void];
    const ran = forward(rows(x), ours(gamma), ours(beta));
    save([x, gamma]);
    return {
      value: theirs(ran.output, x.shape),
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [x, gamma] = saved as [tf.Tensor, tf.Tensor];
        const { gradInput, gradWeight, gradBias } = backward(rows(dy), rows(x), ours(gamma), ran);
        return [theirs(gradInput, x.shape), theirs(gradWeight, gamma.shape), theirs(gradBias, gamma.shape)];
      },
    };
  });
}

/** By the batch's own statistics: the output, and the mean and the biased variance of each channel. */
export function batchNorm(
  x: tf.Tensor,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  eps: number,
): { output: tf.Tensor; mean: Float64Array; variance: Float64Array } {
  let statistics: Pick<Normalized, 'mean' | 'rstd'>;
  const output = operation(
    (x, weight, bias) => {
      const ran = nativeBatchNorm(x, { weight, bias, eps, training: true });
      statistics = ran;
      return ran;
    },
    (dy, x, weight, { mean, rstd }) => nativeBatchNormBackward(dy, x, { weight, mean, rstd, training: true }),
  )(x, gamma, beta);
  const { mean, rstd } = statistics!;
  const variance = (rstd.data as Float64Array).map((r) => 1 / (r * r) - eps);
  return { output, mean: mean.data as Float64Array, variance };
}

/** By statistics of earlier batches, for evaluation: there is no way back through it. */
export function batchNormInference(
  x: tf.Tensor,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  mean: tf.Tensor,
  variance: tf.Tensor,
  eps: number,
): tf.Tensor {
  const [weight, bias, runningMean, runningVar] = [gamma, beta, mean, variance].map((t) => ours(t));
  return theirs(nativeBatchNorm(rows(x), { weight, bias, runningMean, runningVar, eps }).output, x.shape);
}

/** Over the last dimension. */
export function layerNorm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, eps: number): tf.Tensor {
  return operation(
    (x, weight, bias) => nativeLayerNorm(x, weight.size, { weight, bias, eps }),
    (dy, x, weight, { mean, rstd }) => nativeLayerNormBackward(dy, x, weight.size, { weight, mean, rstd }),
  )(x, gamma, beta);
}
