// Every bit pattern of both formats, and every tie between two of them with the doubles on either side.

import { half, type HalfDType } from '../../lib/internal/half';

// Bound here: look-ups of globals are slow inside jest's sandbox.
const { abs } = Math;
const words = new DataView(new ArrayBuffer(8));
/** The double next to a positive one. */
const beside = (x: number, step: 1n | -1n): number => {
  words.setFloat64(0, x);
  words.setBigUint64(0, words.getBigUint64(0) + step);
  return words.getFloat64(0);
};

/** What the bits say by the formats' definitions, written apart from what is tested. */
const meaning: Record<HalfDType, (bits: number) => number> = {
  float16: (bits) => {
    const [sign, e, f] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    if (e === 31) return f ? NaN : sign * Infinity;
    return sign * (e ? (1 + f / 1024) * 2 ** (e - 15) : (f / 1024) * 2 ** -14);
  },
  bfloat16: (bits) => {
    words.setUint32(0, bits << 16);
    return words.getFloat32(0);
  },
};
const formats: [HalfDType, number, number][] = [
  ['float16', 0x7c00, 0x7e00],
  ['bfloat16', 0x7f80, 0x7fc0],
];

describe.each(formats)('%s', (name, infinity, nan) => {
  const { decode, encode } = half[name];

  it('reads every bit pattern, and writes it back', () => {
    const wrong: string[] = [];
    for (let bits = 0; bits < 65536; bits++) {
      const value = decode(bits);
      const back = value !== value ? nan : bits;
      if (!Object.is(value, meaning[name](bits)) || encode(value) !== back) wrong.push(bits.toString(16));
    }
    expect(wrong).toEqual([]);
  });

  it('rounds to nearest, ties to even, from the very next double on', () => {
    const wrong: string[] = [];
    const judge = (x: number, expected: number): void => {
      if (encode(x) !== expected || encode(-x) !== (expected | 0x8000)) wrong.push(`${x}: ${encode(x)}, ${expected}`);
    };
    for (let bits = 0; bits < infinity; bits++) {
      const low = decode(bits);
      // Beyond the largest stands the number that would follow it.
      const high = bits + 1 === infinity ? low + (low - decode(bits - 1)) : decode(bits + 1);
      const tie = (low + high) / 2;
      judge(tie, bits & 1 ? bits + 1 : bits);
      judge(beside(tie, -1n), bits);
      judge(beside(tie, 1n), bits + 1);
    }
    expect(wrong).toEqual([]);
  });

  it('takes what is too large to infinity, what is too small to a zero of its sign, and every NaN to the quiet one', () => {
    expect([1e300, Number.MAX_VALUE, Infinity].map(encode)).toEqual([infinity, infinity, infinity]);
    expect([-1e300, -Infinity].map(encode)).toEqual([infinity | 0x8000, infinity | 0x8000]);
    expect([5e-324, 1e-300, 0].map(encode)).toEqual([0, 0, 0]);
    expect([-5e-324, -1e-300, -0].map(encode)).toEqual([0x8000, 0x8000, 0x8000]);
    expect(encode(NaN)).toBe(nan);
  });

  it('errs by half a unit at most', () => {
    let worst = 0;
    for (let i = 1; i < 5000; i++) {
      const x = 1 + (i * 0.6180339887498949) / 3100;
      const off = abs(decode(encode(x)) - x) / (name === 'float16' ? 2 ** -10 : 2 ** -7);
      if (off > worst) worst = off;
    }
    expect(worst).toBeLessThanOrEqual(0.5);
  });
});
