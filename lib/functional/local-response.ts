import {
  checkRank,
  checkRule,
  checkWindowSize,
  localResponse,
  localResponseBack,
  readResponse,
  windowOf,
  type ChannelWindow,
  type WindowRule,
} from '../internal/local-response';
import { checkOptions, describe } from '../internal/errors';
import { lending } from '../output-pool';
import type { Tensor, TensorLike } from '../tensor';
import { besideOf, inputOf, type OutOption } from './arguments';

export interface LocalResponseNormOptions extends OutOption {
  /** What the window's mean square is multiplied by; default 1e-4. */
  alpha?: number | undefined;
  /** The power of the divisor; default 0.75. */
  beta?: number | undefined;
  /** Added to the divisor before it is raised to the power; default 1. */
  k?: number | undefined;
  /** Whose window `size` describes; default 'torch'. */
  window?: WindowRule | undefined;
}

/**
 * Divides each value by a power of what its neighbours in the channels amount to.
 *
 * y[c] = x[c] / (k + alpha / size * sum of x[j]^2)^beta, over `size` channels j around c.
 *
 * *Shape*: (N, C, ...) with one or more dimensions behind the channels, and the same out.
 *
 * *Options*: `alpha` (1e-4), `beta` (0.75), `k` (1), `window` ('torch'), `out`; all as of the layer LocalResponseNorm.
 *
 * *Train and eval*: the same.
 *
 * *Throws* RangeError for fewer than three dimensions, and for a size below 1; TypeError for integers.
 *
 * *Matches* torch.nn.functional.local_response_norm.
 *
 * *Reference*: Krizhevsky, Sutskever & Hinton 2012, ImageNet classification with deep convolutional neural networks, 3.3
 *
 * @example
 * const y = localResponseNorm(x, 5, { k: 2 });
 */
export function localResponseNorm(input: TensorLike, size: number, options: LocalResponseNormOptions = {}): Tensor {
  const where = 'localResponseNorm';
  const { x, window } = read(where, input, size, options);
  const { out } = options;
  return lending(out, () => localResponse(where, x, window, null, out)).y;
}

/**
 * The gradient of `localResponseNorm`'s input. Options and errors as there; `out` may be gradOutput or the input.
 *
 * @example
 * const dx = localResponseNormBackward(dy, x, 5, { k: 2 });
 */
export function localResponseNormBackward(
  gradOutput: TensorLike,
  input: TensorLike,
  size: number,
  options: LocalResponseNormOptions = {},
): Tensor {
  const where = 'localResponseNormBackward';
  const { x, window } = read(where, input, size, options);
  const dy = besideOf(gradOutput, where, 'grad_output', x, x.dtype);
  if (!dy) throw new TypeError(`${where}: grad_output must be a tensor, but got ${describe(gradOutput)}`);
  const channelsLast = !x.isContiguous && x.isChannelsLast;
  const saved = { window, channelsLast, x: channelsLast ? x : x.contiguous() };
  const { out } = options;
  return lending(out, () => localResponseBack(where, saved, dy, out));
}

function read(
  where: string,
  input: TensorLike,
  size: number,
  options: LocalResponseNormOptions,
): { x: Tensor; window: ChannelWindow } {
  checkOptions(where, options, ['alpha', 'beta', 'k', 'window', 'out']);
  const rule = checkRule(where, options.window ?? 'torch');
  const window = windowOf(checkWindowSize(where, size, rule), readResponse(where, options), rule);
  const x = inputOf(input, where);
  checkRank(where, x.ndim);
  return { x, window };
}
