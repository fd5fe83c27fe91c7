// The two 16-bit floating-point formats as bits: exact to a number, one rounding to nearest even from it.

export type HalfDType = 'float16' | 'bfloat16';

export interface HalfFormat {
  /** The number that 16 bits stand for; every NaN is NaN. */
  decode(bits: number): number;
  /** The nearest bits, ties to even; infinity from half a unit beyond the largest; NaN is the quiet one. */
  encode(value: number): number;
}

const words = new DataView(new ArrayBuffer(8));

function format(exponentBits: number, mantissaBits: number): HalfFormat {
  const top = 2 ** exponentBits - 1;
  const bias = 2 ** (exponentBits - 1) - 1;
  const least = 1 - bias;
  const infinity = top << mantissaBits;
  const hidden = 1 << mantissaBits;
  const nan = infinity | (hidden >> 1);
  /** The last place of each exponent, and how many there are in 1: both are powers of two that a double holds. */
  const unit = Array.from({ length: top }, (_, e) => 2 ** (Math.max(e, 1) - 1 + least - mantissaBits));
  const perOne = unit.map((step) => 1 / step);
  return {
    decode(bits) {
      const sign = bits & 0x8000 ? -1 : 1;
      const exponent = (bits & 0x7fff) >> mantissaBits;
      const fraction = bits & (hidden - 1);
      if (exponent === top) return fraction === 0 ? sign * Infinity : NaN;
      return sign * (exponent === 0 ? fraction : fraction + hidden) * unit[exponent]!;
    },
    encode(value) {
      if (value !== value) return nan;
      words.setFloat64(0, value);
      const high = words.getUint32(0);
      const sign = (high >>> 16) & 0x8000;
      const exponent = Math.max(((high >>> 20) & 0x7ff) - 1023, least);
      if (exponent > bias) return sign | infinity;
      // In last places, exactly; adding 2^52 then rounds them to a whole number, ties to even. A carry out of the
      // mantissa moves the exponent on by itself, and at the top makes infinity.
      const places = Math.abs(value) * perOne[exponent - least + 1]! + 2 ** 52 - 2 ** 52;
      return sign | (((exponent - least) << mantissaBits) + places);
    },
  };
}

export const half: Readonly<Record<HalfDType, HalfFormat>> = { float16: format(5, 10), bfloat16: format(8, 7) };
