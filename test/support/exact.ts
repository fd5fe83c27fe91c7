// Mean and M2 in whole numbers of any size: no rounding but the last one.

const scale = 1074n; // every double is a multiple of 2^-1074

function whole(value: number): bigint {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const bits = view.getBigUint64(0);
  const exponent = (bits >> 52n) & 0x7ffn;
  const fraction = bits & 0xfffffffffffffn;
  const size = exponent === 0n ? fraction : (fraction | (1n << 52n)) << (exponent - 1n);
  return bits >> 63n ? -size : size;
}

/** numerator / (denominator * 2^shift) to within a double's last place. */
function ratio(numerator: bigint, denominator: bigint, shift: bigint): number {
  const negative = numerator < 0n;
  const n = negative ? -numerator : numerator;
  if (n === 0n) return 0;
  const extra = BigInt(Math.max(0, 64 - (n.toString(2).length - denominator.toString(2).length)));
  const quotient = (n << extra) / denominator;
  // To 60 bits, so that Number() rounds once; the power of two in two steps, each of which is in range.
  const spare = BigInt(Math.max(0, quotient.toString(2).length - 60));
  const exponent = Number(spare - extra - shift);
  const half = Math.trunc(exponent / 2);
  const value = Number(quotient >> spare) * 2 ** half * 2 ** (exponent - half);
  return negative ? -value : value;
}

/** Of finite values with whole-number weights. */
export function exactMoments(
  values: ArrayLike<number>,
  weights?: ArrayLike<number>,
): { count: number; mean: number; variance: number; deviation: number } {
  let [n, sum, squares] = [0n, 0n, 0n];
  for (let i = 0; i < values.length; i++) {
    const [v, w] = [whole(values[i]!), BigInt(weights?.[i] ?? 1)];
    n += w;
    sum += w * v;
    squares += w * v * v;
  }
  const variance = ratio(n * squares - sum * sum, n * n, 2n * scale);
  return { count: Number(n), mean: ratio(sum, n, scale), variance, deviation: Math.sqrt(variance) };
}
