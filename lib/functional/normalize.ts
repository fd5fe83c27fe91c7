import { Flag } from '../internal/addon';
import { forward, parametersOf } from '../internal/call';
import { checkNumber, checkOptions, describe } from '../internal/errors';
import { statistics } from '../internal/geometry';
import { planOf } from '../internal/plan';
import { allocate, elementsOf, Tensor, type TensorLike } from '../tensor';
import { inputOf } from './arguments';
import { checkAxes, inOrder, reduce, type Reduction } from './reduction';

export interface NormalizeOptions {
  /** The exponent of the norm: any number, Infinity and -Infinity too; default 2. */
  p?: number | undefined;
  /** The dimension or dimensions to normalize; default 1. */
  dim?: number | readonly number[] | undefined;
  /** The least that is divided by; default 1e-12. */
  eps?: number | undefined;
}

/** f(element, statistic) for all elements, as they lie. */
function each({ geometry: [batch, outer, groups, inner] }: Reduction, f: (e: number, s: number) => void): void {
  let e = 0;
  for (let b = 0; b < batch; b++) {
    for (let o = 0; o < outer; o++) {
      for (let g = 0; g < groups; g++) for (let i = 0; i < inner; i++) f(e++, b * groups + g);
    }
  }
}

/** In double, with the largest term (for p < 0 the smallest) taken out, so that no power leaves the range. */
function norms(r: Reduction, p: number): Float64Array {
  const data = r.x.data as Float64Array;
  const { offset } = r.x;
  const n = statistics(r.geometry);
  const sums = new Float64Array(n);
  if (p === 0) {
    each(r, (e, s) => void (sums[s]! += data[offset + e] === 0 ? 0 : 1));
    return sums;
  }
  const { abs, pow } = Math;
  const peaks = new Float64Array(n).fill(p > 0 ? 0 : Infinity);
  each(r, (e, s) => {
    const size = abs(data[offset + e]!);
    const peak = peaks[s]!;
    if ((p > 0 ? size > peak : size < peak) || size !== size) peaks[s] = size;
  });
  if (abs(p) === Infinity) return peaks;
  each(r, (e, s) => {
    const part = abs(data[offset + e]!) / peaks[s]!;
    sums[s]! += p === 1 ? part : p === 2 ? part * part : pow(part, p);
  });
  // Where the peak is 0, infinite or NaN it is the norm.
  return sums.map((sum, s) => {
    const peak = peaks[s]!;
    if (peak === 0 || !(peak < Infinity)) return peak;
    return peak * (p === 1 ? sum : p === 2 ? Math.sqrt(sum) : pow(sum, 1 / p));
  });
}

/**
 * p = 2 by the kernels: x / sqrt(mean(x^2)) / sqrt(n), RMSNorm's own form. Returns which statistics that does not serve,
 * those near eps and those not finite, or null.
 */
function euclidean(where: string, { x, geometry }: Reduction, y: Tensor, eps: number): Uint8Array | null {
  const [, outer, , inner, , channels] = geometry;
  const root = Math.sqrt(outer * inner);
  const weight = new Tensor((allocate(x.dtype, channels) as Float64Array).fill(1 / root), [channels]);
  const plan = planOf({ channelsLast: false }, geometry, Flag.aboutZero, 0, { weight, bias: null });
  const { statistics: all } = forward(where, x, plan, 'statistics', y).saved!;
  const odd = new Uint8Array(all.length / 5);
  for (let s = 0; s < odd.length; s++) {
    const rstd = all[5 * s + 3]! * all[5 * s + 4]!;
    if (!(rstd > 0 && rstd < Infinity && root / rstd > 2 * eps)) odd[s] = 1;
  }
  return odd.includes(1) ? odd : null;
}

/**
 * Divides by the Lp norm over a dimension.
 *
 * y = x / max(norm(x, p), eps)
 *
 * *Shape*: any, and the same out.
 *
 * *Options*: `p` (2), `dim` (1, or several), `eps` (1e-12).
 *
 * *Throws* RangeError for a dimension that does not exist; TypeError for data that are not floating point.
 *
 * *Matches* torch.nn.functional.normalize. Differences: norms are computed in double, without overflow; there is no
 * `out`. p = 2 runs in the kernels, as a product with 1 / norm within 2 ulp of the quotient; other norms in plain loops.
 *
 * @example
 * const unit = normalize(embeddings, { dim: -1 });
 */
export function normalize(input: TensorLike, options: NormalizeOptions = {}): Tensor {
  const where = 'normalize';
  checkOptions(where, options, ['p', 'dim', 'eps']);
  const { p = 2, dim = 1, eps = 1e-12 } = options;
  if (typeof p !== 'number' || Number.isNaN(p)) {
    throw new TypeError(`${where}: p must be a number, but got ${describe(p)}`);
  }
  checkNumber(where, 'eps', eps);
  const given = inputOf(input, where);
  // The plain loops below read numbers, not their bits.
  const x = parametersOf(given.dtype) === given.dtype ? given : given.to('float32');
  const r = reduce(x, checkAxes(dim, x.ndim, where, 'dim'));
  const y = new Tensor(allocate(x.dtype, elementsOf(x.shape)), r.x.shape);
  if (y.size > 0) {
    const odd = p === 2 ? euclidean(where, r, y, eps) : null;
    if (p !== 2 || odd) {
      const [from, to] = [r.x.data as Float64Array, y.data as Float64Array];
      const { offset } = r.x;
      const divisors = norms(r, p).map((norm) => (norm < eps ? eps : norm));
      each(r, (e, s) => {
        if (!odd || odd[s]) to[e] = from[offset + e]! / divisors[s]!;
      });
    }
  }
  return inOrder(y, r.order).to(given.dtype);
}
