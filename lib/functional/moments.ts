import { checkBoolean, checkNumber, checkOptions } from '../internal/errors';
import type { Tensor, TensorLike } from '../tensor';
import { inputOf } from './arguments';
import { checkAxes, keptTensor, momentsOver, reduce } from './reduction';

export interface MomentsOptions {
  /** What is taken from the number of values before M2 is divided by it: 0 (default) is biased, 1 unbiased. */
  correction?: number | undefined;
  /** Whether reduced axes stay, with size 1; default false. */
  keepDims?: boolean | undefined;
}

/**
 * Mean and variance over any axes, both in one pass.
 *
 * mean = sum(x) / n, var = sum((x - mean)^2) / (n - correction)
 *
 * *Shape*: any; the axes that are left, or with `keepDims` all, with ones for those reduced. Memory in any dense order
 * is read as it lies; axes that alternate more often than keep, reduce, keep, reduce cost one copy.
 *
 * *Options*: `correction` (0: biased), `keepDims` (false).
 *
 * *Throws* RangeError for axes that do not exist or come twice; TypeError for data that are not floating point.
 *
 * *Matches* torch.var_mean, but for `correction`, which is 1 there, and for the dtype: float64 for float32 data too.
 * Nothing of no values is NaN. float64 variances beyond the range of doubles are infinite.
 *
 * *Reference*: Chan, Golub & LeVeque 1983
 *
 * @param axes an axis or several, negative ones from the end; default all
 * @example
 * const { mean, var: variance } = moments(x, [0, 2, 3]); // by channel
 */
export function moments(
  input: TensorLike,
  axes?: number | readonly number[],
  options: MomentsOptions = {},
): { mean: Tensor; var: Tensor } {
  const where = 'moments';
  checkOptions(where, options, ['correction', 'keepDims']);
  const x = inputOf(input, where);
  const correction = checkNumber(where, 'correction', options.correction ?? 0);
  const keepDims = checkBoolean(where, 'keepDims', options.keepDims ?? false);
  const reduction = reduce(x, checkAxes(axes, x.ndim, where, 'axes'));
  const [n, mean, m2] = momentsOver(where, reduction);
  if (n === 0) mean.fill(NaN);
  const over = Math.max(0, n - correction);
  return {
    mean: keptTensor(reduction, mean, keepDims),
    var: keptTensor(
      reduction,
      m2.map((sum) => sum / over),
      keepDims,
    ),
  };
}
