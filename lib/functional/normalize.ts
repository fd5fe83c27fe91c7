import { checkNumber, checkOptions, describe } from '../internal/errors';
import { statistics } from '../internal/geometry';
import { allocate, elementsOf, Tensor, type TensorLike } from '../tensor';
import { inputOf } from './arguments';
import { checkAxes, inOrder, momentsOver, reduce, type Reduction } from './reduction';

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
function norms(where: string, r: Reduction, p: number): Float64Array {
  const data = r.x.data as Float64Array;
  const { offset, dtype } = r.x;
  if (p === 2 && dtype === 'float32') {
    const squares = momentsOver(where, r, true)[2];
    if (squares.every(Number.isFinite)) return squares.map(Math.sqrt);
  }
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
 * *Matches* torch.nn.functional.normalize. Differences: norms are computed and divided by in double, without overflow;
 * there is no `out`. Plain loops, without SIMD but for the sums of squares of float32.
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
  const x = inputOf(input, where);
  const r = reduce(x, checkAxes(dim, x.ndim, where, 'dim'));
  const y = allocate(x.dtype, elementsOf(x.shape)) as Float64Array;
  if (y.length > 0) {
    const data = r.x.data as Float64Array;
    const { offset } = r.x;
    const divisors = norms(where, r, p).map((norm) => (norm < eps ? eps : norm));
    each(r, (e, s) => void (y[e] = data[offset + e]! / divisors[s]!));
  }
  return inOrder(new Tensor(y, r.x.shape), r.order);
}
