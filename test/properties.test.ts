// What holds for any data: fast-check looks for the counterexample.

import * as fc from 'fast-check';
import { BatchNorm1d, GroupNorm, LayerNorm, noGrad, RMSNorm, Tensor } from '../lib';
import { onEveryIsa } from './support/isa';
import { expectSameBits } from './support/tolerance';

const data = (t: Tensor): Float64Array => t.data as Float64Array;

/** A matrix of moderate doubles, each row not constant. */
const matrix = fc
  .tuple(fc.integer({ min: 2, max: 9 }), fc.integer({ min: 2, max: 70 }))
  .chain(([rows, cols]) =>
    fc.record({
      rows: fc.constant(rows),
      cols: fc.constant(cols),
      values: fc.array(fc.double({ min: -100, max: 100, noNaN: true }), {
        minLength: rows * cols,
        maxLength: rows * cols,
      }),
    }),
  )
  .map(
    ({ rows, cols, values }) =>
      new Tensor(
        Float64Array.from(values, (v, i) => v + (i % 2) * 0.5 + (i % 7)),
        [rows, cols],
      ),
  );

const rowsOf = (t: Tensor): Float64Array[] => {
  const [rows, cols] = t.shape as [number, number];
  return Array.from({ length: rows }, (_, i) => data(t).subarray(i * cols, (i + 1) * cols));
};
const mean = (x: ArrayLike<number>): number => Array.from(x).reduce((s, v) => s + v, 0) / x.length;
const near = (a: number, b: number, allowed: number): void => {
  if (!(Math.abs(a - b) <= allowed)) throw new Error(`${a} is not within ${allowed} of ${b}`);
};

onEveryIsa('properties', () => {
  const layerNorm = (x: Tensor): Tensor =>
    noGrad(() => new LayerNorm(x.shape[1]!, { dtype: 'float64', eps: 0 }).forward(x));

  it('LayerNorm rows have mean 0 and variance 1', () => {
    fc.assert(
      fc.property(matrix, (x) => {
        for (const row of rowsOf(layerNorm(x))) {
          near(mean(row), 0, 1e-12);
          near(mean(row.map((v) => v * v)), 1, 1e-12);
        }
      }),
    );
  });

  it('BatchNorm columns have mean 0, and variance var / (var + eps)', () => {
    fc.assert(
      fc.property(matrix, (x) => {
        const [rows, cols] = x.shape as [number, number];
        const y = data(new BatchNorm1d(cols, { dtype: 'float64' }).forward(x));
        for (let c = 0; c < cols; c++) {
          const column = (of: Float64Array): number[] => Array.from({ length: rows }, (_, r) => of[r * cols + c]!);
          const center = mean(column(data(x)));
          const variance = mean(column(data(x)).map((v) => (v - center) ** 2));
          near(mean(column(y)), 0, 1e-9);
          near(mean(column(y).map((v) => v * v)), variance / (variance + 1e-5), 1e-9);
        }
      }),
    );
  });

  it('adding a constant and multiplying by a power of two change nothing', () => {
    fc.assert(
      fc.property(matrix, fc.integer({ min: -8, max: 8 }), (x, k) => {
        const scaled = new Tensor(
          data(x).map((v) => v * 2 ** k),
          x.shape,
        );
        expectSameBits('scaled', data(layerNorm(scaled)), data(layerNorm(x)));
        const shifted = data(
          layerNorm(
            new Tensor(
              data(x).map((v) => v + 1000),
              x.shape,
            ),
          ),
        );
        shifted.forEach((v, i) => near(v, data(layerNorm(x))[i]!, 1e-9));
      }),
      { numRuns: 30 },
    );
  });

  it('RMSNorm rows have mean square 1 and the signs of x', () => {
    fc.assert(
      fc.property(matrix, (x) => {
        const y = new RMSNorm(x.shape[1]!, { dtype: 'float64', eps: 0 }).forward(x);
        for (const row of rowsOf(y)) near(mean(row.map((v) => v * v)), 1, 1e-12);
        data(y).forEach((v, i) => expect(v * data(x)[i]! >= 0).toBe(true));
      }),
    );
  });

  it('a row of GroupNorm does not depend on the other rows of the batch', () => {
    fc.assert(
      fc.property(matrix, fc.nat(), (x, pick) => {
        const [rows, cols] = x.shape as [number, number];
        const layer = new GroupNorm(1, cols, { dtype: 'float64' });
        const row = pick % rows;
        const alone = layer.forward(new Tensor(data(x).slice(row * cols, (row + 1) * cols), [1, cols]));
        expectSameBits('row', data(alone), rowsOf(layer.forward(x))[row]!);
      }),
    );
  });

  it('the gradient of x sums to 0, and to 0 against xHat', () => {
    fc.assert(
      fc.property(matrix, (x) => {
        const layer = new LayerNorm(x.shape[1]!, { dtype: 'float64', eps: 0 });
        const y = layer.forward(x);
        const dx = layer.backward(
          new Tensor(
            data(x).map((v) => Math.sin(v)),
            x.shape,
          ),
        );
        const scale = 1e-10 * Math.max(1, ...data(dx).map(Math.abs));
        rowsOf(dx).forEach((row, r) => {
          near(mean(row), 0, scale);
          near(mean(row.map((v, i) => v * rowsOf(y)[r]![i]!)), 0, scale);
        });
      }),
    );
  });
});
