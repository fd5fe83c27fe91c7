// How the cases of test/vectors name things, and what passes against their entries.

import { expectEqual } from './check';
import type { Case, Data, Dtype, Entry } from './vectors';

export const camel = (name: string): string => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

export const arrays = { float32: Float32Array, float64: Float64Array };

// Bound here for the same reason as in support/vectors.ts.
const { abs, sign } = Math;
const { isFinite, isNaN } = Number;
const FLOAT32_MAX = 3.4028234663852886e38;

/** Throws unless `got` passes against `entry`, by the rules of test/vectors/README.md. */
export function compare(
  what: string,
  got: { data: unknown; shape: readonly number[] },
  entry: Entry,
  test: Pick<Case, 'bar'>,
  dtype: Dtype,
  tensors: Map<string, Data>,
): void {
  if (entry.optional) return;
  const numbers = (v: string | number[]): ArrayLike<number> => (typeof v === 'string' ? tensors.get(v)!.values : v);
  const actual = got.data as Float64Array;
  let expected: ArrayLike<number>;
  let picked: ArrayLike<number>;
  if (entry.tensor === undefined) {
    expectEqual(`${what}: shape`, got.shape, entry.shape);
    expected = numbers(entry.values!);
    picked = Array.from(numbers(entry.index!), (i) => actual[i]!);
  } else {
    const { shape, values } = tensors.get(typeof entry.tensor === 'string' ? entry.tensor : entry.tensor[dtype])!;
    expectEqual(`${what}: shape`, got.shape, shape);
    expected = values;
    picked = actual;
  }
  const precise = dtype === 'float64' && entry.precision !== 'float32';
  const unit = precise ? 1e-12 : 2e-6;
  const torch = dtype === 'float32' ? entry.torch_float32 : entry.torch_float64;
  let limit: (e: number) => number;
  if (test.bar && entry.floor) {
    const floor = entry.floor[dtype];
    const unusable =
      !torch || torch.max_abs === null || torch.nonfinite > 0 || torch.max_abs > (entry.magnitude ?? Infinity) / 5;
    const good = unusable ? floor : Math.max(torch.max_abs!, floor);
    limit = () => good;
  } else {
    limit = (e) => unit * abs(e) + unit * entry.scale + (entry.abs ?? 0);
  }
  const fail = (i: number, e: number): never => {
    throw new Error(
      `${what}[${i}]: got ${picked[i]}, expected ${e}, allowed ${limit(e)}, torch ${JSON.stringify(torch)}`,
    );
  };
  for (let i = 0; i < expected.length; i++) {
    let e = expected[i]!;
    const a = picked[i]!;
    if (dtype === 'float32' && isFinite(e) && abs(e) > FLOAT32_MAX) e = sign(e) * Infinity;
    if (isNaN(e) ? !isNaN(a) : !isFinite(e) ? a !== e : !(abs(a - e) <= limit(e))) fail(i, e);
  }
  if (entry.block_sums) {
    const sums = numbers(entry.block_sums);
    for (let b = 0; b < sums.length; b++) {
      const block = actual.subarray(b * entry.block!, (b + 1) * entry.block!);
      let sum = 0;
      for (let i = 0; i < block.length; i++) sum += block[i]!;
      const allowed = block.length * (unit * entry.scale + (entry.abs ?? 0)) + unit * abs(sums[b]!);
      if (!(abs(sum - sums[b]!) <= allowed)) throw new Error(`${what}: block ${b} sums to ${sum}, not ${sums[b]}`);
    }
  }
}
