// Every tolerance, as a formula with its reason. Errors are counted in units of the size of what was added up, so that
// cancellation is neither punished nor hidden.

import type { Answer, Question } from './reference';

export type Dtype = 'float32' | 'float64';
export const unitRoundoff = { float32: 2 ** -24, float64: 2 ** -53 } as const;

const peak = (values: ArrayLike<number>): number => {
  let most = 0;
  for (let i = 0; i < values.length; i++) {
    const magnitude = values[i]! < 0 ? -values[i]! : values[i]!;
    if (magnitude > most) most = magnitude;
  }
  return most;
};

/**
 * What a result may be off by.
 *
 * Outputs: y = (x - center) * scale + shift has three roundings of at most |xHat * weight| + |bias| + |y|, and scale and
 * shift were rounded once each; a float64 mean carries a relative 2^-53 of the deviations, a float32 one nothing. 8 units.
 * Statistics: a chain of 24 additions is within 12.5 units of the largest, 24 with the roundings of the terms.
 * Gradients of x: as outputs, with sums in chains of 24: 32 units of |dy| * |weight| * rstd * (1 + |xHat|)^2.
 * Gradients of parameters: sums in lanes and chains of 24, the lanes in double: for each channel, 32 units of the sum of
 * |dy| * (1 + |xHat|), or of |dy|.
 */
export function tolerances(
  q: Question,
  answer: Answer,
  dy: ArrayLike<number>,
  dtype: Dtype,
): Record<'y' | 'mean' | 'var' | 'dx', number> & Record<'dweight' | 'dbias', Float64Array> {
  const u = unitRoundoff[dtype];
  const weight = q.weight ? peak(q.weight) : 1;
  const bias = q.bias ? peak(q.bias) : 0;
  const xHat = (peak(answer.y) + bias) / (weight || 1);
  const dyPeak = peak(dy);
  return {
    y: 8 * u * (xHat * weight + bias),
    mean: 8 * u * (peak(answer.mean) + Math.sqrt(peak(answer.var))),
    var: 24 * u * peak(answer.var),
    dx: 32 * u * dyPeak * weight * peak(answer.rstd) * (1 + xHat) ** 2,
    dweight: answer.dweightTerms.map((sum) => 32 * u * sum),
    dbias: answer.dbiasTerms.map((sum) => 32 * u * sum),
  };
}

/** Distance in units in the last place of `dtype`, for messages and tables. */
export function ulps(actual: number, expected: number, dtype: Dtype): number {
  if (actual === expected || (Number.isNaN(actual) && Number.isNaN(expected))) return 0;
  const exponent = Math.max(
    Math.floor(Math.log2(Math.abs(expected) || Number.MIN_VALUE)),
    dtype === 'float32' ? -126 : -1022,
  );
  return Math.abs(actual - expected) / 2 ** (exponent - (dtype === 'float32' ? 23 : 52));
}

/** Throws where `actual` is further than `allowed` (or allowed[i]) from `expected`; names the worst element, in ulp. */
export function expectClose(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  allowed: number | ArrayLike<number>,
  dtype: Dtype,
): void {
  if (actual.length !== expected.length)
    throw new Error(`${what}: ${actual.length} elements, expected ${expected.length}`);
  const limit = (i: number): number => (typeof allowed === 'number' ? allowed : allowed[i]!);
  let [worst, most] = [-1, 0];
  for (let i = 0; i < expected.length; i++) {
    if (Number.isFinite(expected[i]!) && !Number.isFinite(limit(i))) throw new Error(`${what}[${i}]: no finite limit`);
    const off = Math.abs(actual[i]! - expected[i]!);
    if (off <= limit(i) || (Number.isNaN(actual[i]!) && Number.isNaN(expected[i]!)) || actual[i] === expected[i])
      continue;
    if (worst >= 0 && off <= most) continue;
    [worst, most] = [i, off];
  }
  if (worst < 0) return;
  const [a, e] = [actual[worst]!, expected[worst]!];
  throw new Error(
    `${what}[${worst}]: got ${a}, expected ${e}, off by ${most} (${ulps(a, e, dtype)} ulp), allowed ${limit(worst)}`,
  );
}

/** Throws unless the bits are the same; all NaNs are one, -0 is not 0. */
export function expectSameBits(what: string, actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  if (actual.length !== expected.length)
    throw new Error(`${what}: ${actual.length} elements, expected ${expected.length}`);
  const same = Object.is;
  for (let i = 0; i < expected.length; i++) {
    if (!same(actual[i], expected[i]))
      throw new Error(`${what}[${i}]: got ${actual[i]}, expected exactly ${expected[i]}`);
  }
}
