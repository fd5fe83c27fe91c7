// LocalResponseNorm and CrossMapLRN2d against their oracle.

import { CrossMapLRN2d, LocalResponseNorm, noGrad, StateError, Tensor, tensor } from '../../lib';
import { addon } from '../../lib/internal/addon';
import { everyWay, onEveryIsa } from '../support/isa';
import { oracle, type WindowQuestion } from '../support/local-response';
import { values } from '../support/shapes';
import { expectClose, expectSameBits, unitRoundoff, type Dtype } from '../support/tolerance';

const { abs, max, min } = Math;
const arrays = { float32: Float32Array, float64: Float64Array };
const dtypes: Dtype[] = ['float32', 'float64'];
const data = (t: Tensor): Float64Array => t.data as Float64Array;
const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

const windows = {
  torch: (size: number) => (c: number) =>
    [c - Math.floor(size / 2), c + Math.floor((size - 1) / 2)] as [number, number],
  onnx: (size: number) => (c: number) =>
    [c - Math.floor((size - 1) / 2), c + Math.ceil((size - 1) / 2)] as [number, number],
  tensorflow: (radius: number) => (c: number) => [c - radius, c + radius] as [number, number],
};

/** (N, C, ...S) elements under the same shape in channels-last memory. */
function channelsLast(x: Tensor): Tensor {
  const spatial = x.shape.slice(2).map((_, i) => i);
  return x
    .permute(0, ...spatial.map((i) => i + 2), 1)
    .copy()
    .permute(0, spatial.length + 1, ...spatial.map((i) => i + 1));
}

function checkAgainstOracle(layer: LocalResponseNorm | CrossMapLRN2d, q: Omit<WindowQuestion, 'x' | 'dy'>): void {
  const { dtype } = layer;
  const size = sizeOf(q.shape);
  const x = tensor(values(size, dtype, 0.5, 2), q.shape);
  const dy = tensor(values(size, dtype, 0, 1), q.shape);
  const expected = oracle({ ...q, x: data(x), dy: data(dy) });
  const what = `${String(layer)} of ${q.shape.join('x')} ${dtype}`;
  // One rounding to the dtype; sums, powers and the oracle's own in double.
  const u = unitRoundoff[dtype] + 64 * 2 ** -53;
  const y = layer.forward(x);
  expect(y.shape).toEqual(q.shape);
  const dx = layer.backward(dy);
  const least = dtype === 'float32' ? 2 ** -149 : 2 ** -1074;
  expectClose(
    `${what}: y`,
    data(y),
    expected.y,
    expected.y.map((v) => 2 * u * abs(v) + least),
    dtype,
  );
  expectClose(
    `${what}: dx`,
    data(dx),
    expected.dx,
    expected.terms.map((v) => 2 * u * v + least),
    dtype,
  );
  if (q.shape.length < 3) return;
  const last = layer.forward(channelsLast(x));
  expect(last.isChannelsLast).toBe(true);
  expectSameBits(`${what}: y, channels last`, data(last.contiguous()), data(y));
  const lastDx = layer.backward(channelsLast(dy));
  expect(lastDx.isChannelsLast).toBe(true);
  expectSameBits(`${what}: dx, channels last`, data(lastDx.contiguous()), data(dx));
  layer.forward(channelsLast(x));
  expectSameBits(`${what}: dx of a contiguous dy`, data(layer.backward(dy).contiguous()), data(dx));
}

onEveryIsa('LocalResponseNorm against the oracle', () => {
  describe.each(dtypes)('%s', (dtype) => {
    const response = { alpha: 0.3, beta: 0.75, k: 1.5 };
    const question = (size: number, shape: number[], options = response): Omit<WindowQuestion, 'x' | 'dy'> => ({
      shape,
      window: windows.torch(size),
      scale: options.alpha / size,
      beta: options.beta,
      k: options.k,
    });
    it.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 100])('size %i', (size) => {
      for (const shape of [
        [2, 5, 7],
        [1, 17, 3],
        [2, 33, 1],
        [3, 1, 4],
        [2, 40, 19],
      ]) {
        checkAgainstOracle(new LocalResponseNorm(size, { ...response, dtype }), question(size, shape));
      }
    });
    it.each([[[2, 6, 5]], [[2, 5, 3, 4]], [[2, 4, 3, 2, 5]], [[1, 7, 2, 3, 2, 2]]])('rank of %p', (shape) => {
      for (const size of [3, 4])
        checkAgainstOracle(new LocalResponseNorm(size, { ...response, dtype }), question(size, shape));
    });
    it.each([0.5, 0.75, 1, 0, 2, 0.6, 1 / 3, -0.5, -1, 3.7])('beta %p', (beta) => {
      const options = { ...response, beta };
      checkAgainstOracle(new LocalResponseNorm(5, { ...options, dtype }), question(5, [2, 9, 18], options));
    });
    it('negative and zero alpha, as torch computes them', () => {
      for (const alpha of [-0.01, 0]) {
        const options = { ...response, alpha };
        checkAgainstOracle(new LocalResponseNorm(3, { ...options, dtype }), question(3, [2, 9, 18], options));
      }
    });
    it.each(['torch', 'onnx', 'tensorflow'] as const)('the window of %s', (window) => {
      for (const size of [1, 2, 3, 4, 5, 10]) {
        checkAgainstOracle(new LocalResponseNorm(size, { ...response, window, dtype }), {
          ...question(size, [2, 13, 5]),
          window: windows[window](size),
          scale: window === 'tensorflow' ? response.alpha : response.alpha / size,
        });
      }
    });
    it('a depth radius of 0 is the channel alone', () => {
      checkAgainstOracle(new LocalResponseNorm(0, { ...response, window: 'tensorflow', dtype }), {
        ...question(1, [2, 3, 5]),
        window: (c) => [c, c],
      });
    });
    it.each([1, 2, 3, 4, 5, 6, 7])('CrossMapLRN2d of size %i: the same reach to both sides', (size) => {
      const reach = Math.floor((size - 1) / 2 + 1) - 1;
      checkAgainstOracle(new CrossMapLRN2d(size, { ...response, dtype }), {
        ...question(size, [2, 9, 3, 4]),
        window: (c) => [c - reach, c + reach],
      });
    });
  });

  it('gives the golden numbers', () => {
    const x = [0, 1, 2, 3, 5, 8, -1, 4, 0.5, 2, -2, 6];
    const dy = [1, -2, 0.5, 0, 3, -1, 2, 0.25, -1, 1, 1, -0.5];
    const layer = new LocalResponseNorm(2, { alpha: 1, beta: 0.5, k: 2, dtype: 'float64' });
    const close = (t: Tensor, expected: number[]): void => expectClose('golden', data(t), expected, 5e-10, 'float64');
    close(
      layer.forward(tensor(Float64Array.from(x), [2, 2, 3])),
      [
        0, 0.632455532, 1, 1.176696811, 1.290994449, 1.333333333, -0.632455532, 1.264911064, 0.34299717, 0.942809042,
        -0.577350269, 1.33746771,
      ],
    );
    close(
      layer.backward(tensor(Float64Array.from(dy), [2, 2, 3])),
      [
        0.707106781, -1.141028296, 0.162037037, 0, 0.129099445, -0.018518519, 1.116685411, 0.112036433, -0.637334479,
        0.2618914, 0.240562612, -0.011768608,
      ],
    );
  });

  it('is LocalResponseNorm, bit for bit, where the size of CrossMapLRN2d is odd', () => {
    for (const dtype of dtypes) {
      const x = tensor(values(2 * 11 * 12, dtype), [2, 11, 3, 4]);
      for (const size of [1, 3, 5, 7, 31]) {
        const [one, other] = [new LocalResponseNorm(size, { dtype }), new CrossMapLRN2d(size, { dtype })];
        expectSameBits('y', data(other.forward(x)), data(one.forward(x)));
        expectSameBits('dx', data(other.backward(x)), data(one.backward(x)));
      }
    }
  });

  it('has the gradient that central differences have', () => {
    const shape = [2, 6, 3];
    const dy = values(36, 'float64') as Float64Array;
    for (const [size, window] of [[1], [2], [3], [4], [5], [12], [4, 'onnx'], [2, 'tensorflow']] as const) {
      for (const beta of [0.75, 0.5, 1, 0.6, 2.5]) {
        const layer = new LocalResponseNorm(size, {
          alpha: 0.7,
          beta,
          k: 1.3,
          window: window ?? 'torch',
          dtype: 'float64',
        });
        const x = values(36, 'float64') as Float64Array;
        const loss = (at: Float64Array): number =>
          noGrad(() => data(layer.forward(tensor(at, shape)))).reduce((sum, y, i) => sum + y * dy[i]!, 0);
        layer.forward(tensor(x, shape));
        const dx = data(layer.backward(tensor(dy, shape)));
        const step = 1e-5;
        x.forEach((v, i) => {
          const at = (value: number): Float64Array => x.map((old, j) => (j === i ? value : old));
          const slope = (loss(at(v + step)) - loss(at(v - step))) / (2 * step);
          expect(abs(dx[i]! - slope)).toBeLessThan(1e-8);
        });
      }
    }
  });
});

onEveryIsa('hard data', () => {
  const shape = [1, 9, 20];
  const layerOf = (dtype: Dtype, size = 3, beta = 0.75): LocalResponseNorm =>
    new LocalResponseNorm(size, { alpha: 0.1, beta, dtype });

  it.each([1e30, 1e-30, 3e38, 1e-42])('float32 values near %p keep their squares', (magnitude) => {
    for (const beta of [0.75, 0.6]) {
      const layer = new LocalResponseNorm(5, { alpha: 2, beta, k: magnitude < 1 ? 0 : 1 });
      const x = values(180, 'float32', 0, 0.2).map((v) => max(-1, min(1, v)) * magnitude) as Float32Array;
      const dy = values(180, 'float32').map((v) => v * min(1, magnitude)) as Float32Array;
      const q = { shape, x, dy, window: windows.torch(5), scale: 2 / 5, beta, k: layer.k };
      const expected = oracle(q);
      const u = 3 * unitRoundoff.float32;
      const bounded = (t: Float64Array): Float64Array => t.map((v) => u * abs(v) + 2 ** -149);
      expectClose('y', data(layer.forward(tensor(x, shape))), expected.y, bounded(expected.y), 'float32');
      expectClose('dx', data(layer.backward(tensor(dy, shape))), expected.dx, bounded(expected.terms), 'float32');
    }
  });

  it('NaN and infinity stay in the windows that hold them', () => {
    for (const dtype of dtypes) {
      for (const [size, beta] of [
        [3, 0.75],
        [4, 0.6],
        [15, 0.75],
        [12, 2],
      ] as const) {
        for (const bad of [NaN, Infinity, -Infinity]) {
          for (let channel = 0; channel < 9; channel++) {
            const clean = values(180, dtype, 0, 1, 5);
            const [x, dy] = [clean.slice(), values(180, dtype, 0, 1, 6)];
            x[channel * 20 + 7] = bad;
            const layer = layerOf(dtype, size, beta);
            const results = [clean, x].map((input) => {
              const y = data(layer.forward(tensor(input, shape)));
              return { y, dx: data(layer.backward(tensor(dy, shape))) };
            }) as [Record<'y' | 'dx', Float64Array>, Record<'y' | 'dx', Float64Array>];
            for (let e = 0; e < 180; e++) {
              const c = (e / 20) | 0;
              const [first, last] = windows.torch(size)(c);
              const inside = e % 20 === 7 && channel >= first && channel <= last;
              // A gradient takes from every window that holds its channel; those may hold the bad one too.
              const near = e % 20 === 7 && abs(c - channel) < size;
              if (!inside) expect(results[1].y[e]).toBe(results[0].y[e]);
              if (!near) expect(results[1].dx[e]).toBe(results[0].dx[e]);
            }
            const own = results[1].y[channel * 20 + 7];
            expect(own).toBeNaN();
            // What stands beside an infinity is divided by one; beside NaN it is NaN.
            const beside = results[1].y[((channel + 1) % 9) * 20 + 7]!;
            if (size === 15 && channel < 7) expect(beside).toBe(Number.isNaN(bad) ? NaN : beside < 0 ? -0 : beside * 0);
          }
        }
      }
    }
  });

  it('k = 0: 0 / 0 where a window is zero, infinity where only k is', () => {
    for (const dtype of dtypes) {
      const zeros = tensor(new arrays[dtype](6), [1, 3, 2]);
      for (const beta of [0.75, 0.6, 1]) {
        const layer = new LocalResponseNorm(3, { k: 0, beta, dtype });
        expect(data(layer.forward(zeros)).every(Number.isNaN)).toBe(true);
        expect(data(layer.backward(zeros)).every(Number.isNaN)).toBe(true);
        const plain = new LocalResponseNorm(3, { k: 0, alpha: 0, beta, dtype });
        expect(
          data(plain.forward(tensor(new arrays[dtype](6).fill(-2), [1, 3, 2]))).every((v) => v === -Infinity),
        ).toBe(true);
      }
    }
  });

  it('a negative divisor has a power where beta is whole, and is NaN elsewhere', () => {
    const x = tensor(Float64Array.of(1, 2, 3), [1, 3, 1]);
    const of = (beta: number): number[] => [
      ...data(new LocalResponseNorm(1, { k: -20, alpha: 1, beta, dtype: 'float64' }).forward(x)),
    ];
    for (const beta of [0.5, 0.75, 0.6]) expect(of(beta)).toEqual([NaN, NaN, NaN]);
    expect(of(1)).toEqual([1 / -19, 2 / -16, 3 / -11]);
    expect(of(2)).toEqual([1 / 361, 2 / 256, 3 / 121]);
    expectClose('cubes', of(3), [1 / -6859, 2 / -4096, 3 / -1331], 1e-17, 'float64');
  });

  it('float64 squares that no double holds give 0, as torch', () => {
    const layer = new LocalResponseNorm(3, { dtype: 'float64' });
    expect([...data(layer.forward(tensor(Float64Array.of(1e200, 1), [1, 2, 1])))]).toEqual([0, 0]);
    expect([...data(layer.backward(tensor(Float64Array.of(1, 1), [1, 2, 1])))]).toEqual([0, 0]);
  });
});

describe('the same bits', () => {
  const options = { alpha: 0.3, k: 1.5 };
  it.each([
    [5, 0.75, [32, 24, 31, 9]],
    [5, 0.6, [7, 33, 90]],
    [20, 0.75, [3, 300, 61]],
    [9, 0.6, [2000, 37, 1]],
    [4, 2, [1, 5, 9001]],
    [1000, 0.5, [2, 64, 40, 5]],
  ] as const)(
    'size %i, beta %p, %p: on every instruction set, for 1, 2, 3 and 7 threads, in either order',
    (size, beta, shape) => {
      for (const dtype of dtypes) {
        const count = sizeOf(shape);
        const [x, dy] = [tensor(values(count, dtype), shape), tensor(values(count, dtype), shape)];
        const [lastX, lastDy] = [channelsLast(x), channelsLast(dy)];
        const results = everyWay(() => {
          const layer = new LocalResponseNorm(size, { ...options, beta, dtype });
          return [layer.forward(x), layer.backward(dy), layer.forward(lastX), layer.backward(lastDy)].map(data);
        });
        const [first, ...rest] = results;
        for (const { way, result } of rest)
          result.forEach((r, i) => expectSameBits(`${way}: ${i}`, r, first!.result[i]!));
        const contiguous = (flat: Float64Array, like: Tensor): Float64Array =>
          data(new Tensor(flat, like.shape, { strides: like.strides }).contiguous());
        expectSameBits('y, channels last', contiguous(first!.result[2]!, lastX), first!.result[0]!);
        expectSameBits('dx, channels last', contiguous(first!.result[3]!, lastX), first!.result[1]!);
      }
    },
  );

  it('in place: y over x, dx over dy, dx over x', () => {
    for (const dtype of dtypes) {
      for (const size of [3, 14]) {
        const layer = new LocalResponseNorm(size, { ...options, dtype });
        for (const shape of [
          [2, 17, 40],
          [3, 5, 1],
        ]) {
          const count = sizeOf(shape);
          const [x, dy] = [values(count, dtype), values(count, dtype)];
          const y = data(layer.forward(tensor(x, shape)));
          const dx = data(layer.backward(tensor(dy, shape)));
          const over = tensor(x.slice(), shape);
          expect(noGrad(() => layer.forward(over, { out: over }))).toBe(over);
          expectSameBits('y over x', data(over), y);
          const copied = tensor(x.slice(), shape);
          layer.forward(copied, { out: copied, saveInput: 'copy' });
          expectSameBits('y over x, which was copied', data(copied), y);
          const gradient = tensor(dy.slice(), shape);
          layer.backward(gradient, { out: gradient });
          expectSameBits('dx over dy', data(gradient), dx);
          const input = tensor(x.slice(), shape);
          layer.forward(input);
          layer.backward(tensor(dy, shape), { out: input });
          expectSameBits('dx over x', data(input), dx);
        }
      }
    }
  });

  it('data at any offset', () => {
    const x = values(180, 'float32');
    const layer = new LocalResponseNorm(4, options);
    const y = data(noGrad(() => layer.forward(tensor(x, [1, 9, 20]))));
    for (const offset of [1, 3, 8, 15]) {
      const big = new Float32Array(200);
      big.set(x as Float32Array, offset);
      const out = new Tensor(new Float32Array(200), [1, 9, 20], { offset: 16 - offset });
      noGrad(() => layer.forward(new Tensor(big, [1, 9, 20], { offset }), { out }));
      expectSameBits('y', data(out).subarray(16 - offset, 196 - offset), y);
      expect(data(out).every((v, i) => v === 0 || (i >= 16 - offset && i < 196 - offset))).toBe(true);
    }
  });
});

describe('as a layer', () => {
  it.each([[[0, 3, 4]], [[2, 0, 3]], [[2, 3, 0]], [[2, 3, 0, 4]]])('takes an empty input %p', (shape) => {
    const layer = new LocalResponseNorm(3);
    expect(layer.forward(tensor(new Float32Array(0), shape)).shape).toEqual(shape);
    expect(layer.backward(tensor(new Float32Array(0), shape)).shape).toEqual(shape);
  });

  it('keeps a forward in a context of its own, and nothing inside noGrad', () => {
    const layer = new LocalResponseNorm(3);
    const [x, z] = [tensor(values(12, 'float32'), [1, 4, 3]), tensor(values(12, 'float32'), [1, 4, 3])];
    const context = layer.context();
    layer.forward(x);
    const dx = data(layer.backward(z));
    layer.forward(x, { context });
    layer.forward(z);
    expectSameBits('dx', data(layer.backward(z, { context })), dx);
    layer.backward(z);
    noGrad(() => layer.forward(x));
    expect(() => layer.backward(z)).toThrow(StateError);
    expect(() => layer.backward(z, { context: new LocalResponseNorm(3).context() })).toThrow(
      /belongs to another layer/,
    );
  });

  it('has no parameters, and is the same in evaluation', () => {
    const layer = new LocalResponseNorm(3);
    const x = tensor(values(12, 'float32'), [1, 4, 3]);
    expect(layer.parameters()).toEqual([]);
    expect([layer.weight, layer.bias]).toEqual([null, null]);
    expectSameBits('y', data(layer.eval().forward(x)), data(layer.train().forward(x)));
  });

  it('prints as torch does', () => {
    expect(String(new LocalResponseNorm(2))).toBe('LocalResponseNorm(2, alpha=0.0001, beta=0.75, k=1.0)');
    expect(String(new LocalResponseNorm(5, { alpha: 1e-5, beta: 0.5, k: 2, window: 'onnx' }))).toBe(
      "LocalResponseNorm(5, alpha=1e-05, beta=0.5, k=2.0, window='onnx')",
    );
    expect(String(new CrossMapLRN2d(5))).toBe('CrossMapLRN2d(5, alpha=0.0001, beta=0.75, k=1)');
    expect(String(new CrossMapLRN2d(5, { k: 1.5 }))).toBe('CrossMapLRN2d(5, alpha=0.0001, beta=0.75, k=1.5)');
  });

  const f32 = (...shape: number[]): Tensor => tensor(new Float32Array(sizeOf(shape)), shape);
  const cases: [string, () => unknown, new (message: string) => Error, RegExp][] = [
    [
      'rank 2',
      () => new LocalResponseNorm(2).forward(f32(3, 4)),
      RangeError,
      /^LocalResponseNorm\.forward: Expected 3D or higher dimensionality input \(got 2 dimensions\)$/,
    ],
    [
      'rank 3 for 2d',
      () => new CrossMapLRN2d(2).forward(f32(2, 3, 4)),
      RangeError,
      /^CrossMapLRN2d\.forward: Expected input to be 4D, got 3D instead\.$/,
    ],
    [
      'size 0',
      () => new LocalResponseNorm(0),
      RangeError,
      /^LocalResponseNorm: kernel size should be greater than zero, but got size 0$/,
    ],
    ['size -1', () => new CrossMapLRN2d(-1), RangeError, /kernel size should be greater than zero/],
    [
      'radius -1',
      () => new LocalResponseNorm(-1, { window: 'tensorflow' }),
      RangeError,
      /size must be an integer of at least 0, but got -1/,
    ],
    ['size 1.5', () => new LocalResponseNorm(1.5), RangeError, /size must be an integer of at least 1, but got 1.5/],
    [
      'a string',
      () => new LocalResponseNorm('3' as never),
      TypeError,
      /size must be an integer, but got the string "3"/,
    ],
    ['alpha NaN', () => new LocalResponseNorm(3, { alpha: NaN }), RangeError, /alpha must be finite, but got NaN/],
    [
      'beta null',
      () => new CrossMapLRN2d(3, { beta: null as never }),
      TypeError,
      /beta must be a number, but got null/,
    ],
    ['k Infinity', () => new LocalResponseNorm(3, { k: Infinity }), RangeError, /k must be finite/],
    [
      'another window',
      () => new LocalResponseNorm(3, { window: 'caffe' as never }),
      TypeError,
      /window must be 'torch', 'onnx' or 'tensorflow', but got the string "caffe"/,
    ],
    [
      'a window for CrossMapLRN2d',
      () => new CrossMapLRN2d(3, { window: 'onnx' } as never),
      TypeError,
      /unknown option "window"/,
    ],
    [
      'options null',
      () => new LocalResponseNorm(3, null as never),
      TypeError,
      /options must be an object, but got null/,
    ],
    [
      'another dtype',
      () => new LocalResponseNorm(3, { dtype: 'int64' as never }),
      TypeError,
      /dtype must be 'float32' or 'float64'/,
    ],
    [
      'data of another dtype',
      () => new LocalResponseNorm(3, { dtype: 'float64' }).forward(f32(1, 2, 3)),
      TypeError,
      /mixed dtype/,
    ],
    [
      'in place with gradients on',
      () => {
        const x = f32(1, 2, 3);
        new LocalResponseNorm(3).forward(x, { out: x });
      },
      RangeError,
      /out overlaps the input, which backward needs/,
    ],
    [
      'out that lies over a part',
      () => {
        const all = new Float32Array(7);
        noGrad(() => new LocalResponseNorm(3).forward(tensor(all.subarray(0, 6), [1, 2, 3]), { out: all.subarray(1) }));
      },
      RangeError,
      /^LocalResponseNorm\.forward: out overlaps another argument$/,
    ],
    [
      'dx that lies over a part',
      () => {
        const all = new Float32Array(7);
        const layer = new LocalResponseNorm(3);
        layer.forward(f32(1, 2, 3));
        layer.backward(tensor(all.subarray(0, 6), [1, 2, 3]), { out: all.subarray(1) });
      },
      RangeError,
      /^LocalResponseNorm\.backward: out overlaps another argument$/,
    ],
    [
      'a gradient of another shape',
      () => {
        const layer = new LocalResponseNorm(3);
        layer.forward(f32(1, 2, 3));
        layer.backward(f32(1, 3, 2));
      },
      RangeError,
      /grad_output has shape \[1, 3, 2\], the latest forward's output has \[1, 2, 3\]/,
    ],
  ];
  it.each(cases)('refuses %s', (_, run, kind, message) => {
    expect(run).toThrow(kind);
    expect(run).toThrow(message);
  });

  it('the addon refuses numbers that do not fit together', () => {
    const block = (numbers: Record<number, number>): Float64Array =>
      Object.assign(Float64Array.of(1, 2, 3, 1, 1, 0, 0, 0, 1, 1, 0.75, 0), numbers);
    const call = (numbers: Record<number, number>): number =>
      addon.localResponse(block(numbers), new Float32Array(6), new Float32Array(6));
    expect(call({})).toBe(0);
    expect(call({ 3: 2 ** 53 })).toBe(0);
    for (const wrong of [{ 0: -1 }, { 1: 0.5 }, { 2: NaN }, { 3: -1 }, { 0: 2 ** 40, 1: 2 ** 40 }])
      expect(call(wrong) >> 4).toBe(5);
    for (const wrong of [{ 0: 2 }, { 5: 1 }, { 6: 1 }]) expect(call(wrong) >> 4).toBe(3);
    const x = new Float32Array(6);
    expect(addon.localResponse(block({ 11: 8 }), x, x) >> 4).toBe(4);
    expect(addon.localResponse(block({}), x, x)).toBe(0);
  });
});
