// The layers without state: each the same call as its layer's, with parameters as arguments. Nothing is kept for a
// backward: that is what the native forms are for.

import { forward } from '../internal/call';
import { lending } from '../output-pool';
import type { Tensor, TensorLike } from '../tensor';
import * as args from './arguments';
import type { Call, NormalizedShape, OutOption } from './arguments';

const run = ({ where, x, plan }: Call, { out }: OutOption): Tensor =>
  lending(out, () => forward(where, x, plan, null, out)).y;

/**
 * Normalizes each channel over the batch and all other dimensions.
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance; `runningVar` takes the unbiased one.
 *
 * *Shape*: (N, C, ...), and the same out, in the same memory order.
 *
 * *Options*: `runningMean`, `runningVar`, `weight`, `bias` (null, of shape (C)), `training` (false), `momentum` (0.1),
 * `eps` (1e-5), `out`.
 *
 * *Train and eval*: with `training` by the batch's statistics, which move the running ones in place where they are
 * given; without by the running ones, which must be given.
 *
 * *Throws* RangeError for parameters of another size, one value per channel in training, and for eps that is not
 * positive in training; TypeError for mixed dtypes, and for running statistics to be moved that are nested arrays.
 *
 * *Matches* torch.nn.functional.batch_norm.
 *
 * *Reference*: Ioffe & Szegedy 2015, arXiv:1502.03167
 *
 * @example
 * const y = batchNorm(x, { runningMean, runningVar, weight, bias, training: true });
 */
export function batchNorm(input: TensorLike, options: args.BatchNormOptions & OutOption = {}): Tensor {
  return run(args.batchNorm('batchNorm', input, options, ['out']), options);
}

/**
 * Normalizes each channel of each sample over all other dimensions.
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance of each (sample, channel).
 *
 * *Shape*: (N, C, ...), and the same out, in the same memory order.
 *
 * *Options*: `runningMean`, `runningVar`, `weight`, `bias` (null, of shape (C)), `useInputStats` (true), `momentum`
 * (0.1), `eps` (1e-5), `out`.
 *
 * *Train and eval*: with `useInputStats` by each sample's statistics, whose means over the samples move the running
 * ones in place where they are given; without by the running ones, which must be given.
 *
 * *Throws* RangeError for parameters of another size, and for one spatial element where it needs statistics; TypeError
 * for mixed dtypes.
 *
 * *Matches* torch.nn.functional.instance_norm. Difference: an empty batch leaves the running statistics alone.
 *
 * *Reference*: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022
 *
 * @example
 * const y = instanceNorm(x);
 */
export function instanceNorm(input: TensorLike, options: args.InstanceNormOptions & OutOption = {}): Tensor {
  return run(args.instanceNorm('instanceNorm', input, options, ['out']), options);
}

/**
 * Normalizes groups of neighbouring channels of each sample.
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance of each (sample, group).
 *
 * *Shape*: (N, C, ...), and the same out, in the same memory order; C in `numGroups` runs of C / numGroups channels.
 *
 * *Options*: `weight`, `bias` (null, of shape (C)), `eps` (1e-5), `out`.
 *
 * *Train and eval*: the same.
 *
 * *Throws* RangeError where the channels cannot be divided, for parameters of another size, and for a single value in
 * all; TypeError for mixed dtypes.
 *
 * *Matches* torch.nn.functional.group_norm.
 *
 * *Reference*: Wu & He 2018, arXiv:1803.08494
 *
 * @example
 * const y = groupNorm(x, 3, { weight, bias });
 */
export function groupNorm(input: TensorLike, numGroups: number, options: args.AffineOptions & OutOption = {}): Tensor {
  return run(args.groupNorm('groupNorm', input, numGroups, options, ['out']), options);
}

/**
 * Normalizes each sample over its trailing dimensions, or over one axis.
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance over `normalizedShape`.
 *
 * *Shape*: (..., *normalizedShape), and the same out.
 *
 * *Options*: `weight`, `bias` (null, of shape `normalizedShape`), `eps` (1e-5), `axis` (null: the last dimensions), `out`.
 *
 * *Train and eval*: the same.
 *
 * *Throws* RangeError where the trailing dimensions or the parameters' shapes differ; TypeError for mixed dtypes.
 *
 * *Matches* torch.nn.functional.layer_norm, which has no `axis`.
 *
 * *Reference*: Ba, Kiros & Hinton 2016, arXiv:1607.06450
 *
 * @example
 * const y = layerNorm(x, [64, 8], { weight });
 */
export function layerNorm(
  input: TensorLike,
  normalizedShape: NormalizedShape,
  options: args.LayerNormOptions & OutOption = {},
): Tensor {
  return run(args.layerNorm('layerNorm', input, normalizedShape, options, ['axis', 'out']), options);
}

/**
 * Scales each sample by the root mean square over its trailing dimensions.
 *
 * y = x / sqrt(mean(x^2) + eps) * weight, over `normalizedShape`.
 *
 * *Shape*: (..., *normalizedShape), and the same out.
 *
 * *Options*: `weight` (null, of shape `normalizedShape`), `eps` (null: 2^-23 for float32, 2^-52 for float64), `out`.
 *
 * *Train and eval*: the same.
 *
 * *Throws* RangeError where the trailing dimensions or the weight's shape differ; TypeError for mixed dtypes.
 *
 * *Matches* torch.nn.functional.rms_norm. Difference: the weight must have the input's dtype.
 *
 * *Reference*: Zhang & Sennrich 2019, arXiv:1910.07467
 *
 * @example
 * const y = rmsNorm(x, 4096, { weight, eps: 1e-6 });
 */
export function rmsNorm(
  input: TensorLike,
  normalizedShape: NormalizedShape,
  options: args.RMSNormOptions & OutOption = {},
): Tensor {
  return run(args.rmsNorm('rmsNorm', input, normalizedShape, options, ['out']), options);
}
