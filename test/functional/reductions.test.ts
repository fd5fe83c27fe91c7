// moments and normalize against plain loops over the logical elements, over every set of axes and several memories.

import fc from 'fast-check';
import { tensor, Tensor } from '../../lib';
import * as F from '../../lib/functional';
import { onEveryIsa } from '../support/isa';
import { values } from '../support/shapes';
import { unitRoundoff, type Dtype } from '../support/tolerance';

const product = (sizes: readonly number[]): number => sizes.reduce((p, n) => p * n, 1);

/** The logical elements of x in groups by their indices on the axes kept, in row-major order of those. */
function grouped(x: Tensor, reduced: readonly boolean[]): number[][] {
  const flat = x.toArray() as number[];
  const kept = x.shape.map((size, i) => (reduced[i] ? 1 : size));
  const groups: number[][] = Array.from({ length: product(kept) }, () => []);
  flat.forEach((value, e) => {
    let [rest, group, step] = [e, 0, 1];
    for (let axis = x.ndim - 1; axis >= 0; axis--) {
      const at = rest % x.shape[axis]!;
      rest = Math.floor(rest / x.shape[axis]!);
      if (!reduced[axis]) [group, step] = [group + at * step, step * x.shape[axis]!];
    }
    groups[group]!.push(value);
  });
  return groups;
}

const shape = [2, 3, 4, 2, 5];
const memories: [string, (dtype: Dtype) => Tensor][] = [
  ['contiguous', (dtype) => new Tensor(values(product(shape), dtype, 3), shape)],
  ['channels-last', (dtype) => new Tensor(values(product(shape), dtype, 3), [2, 4, 2, 5, 3]).permute(0, 4, 1, 2, 3)],
  ['permuted', (dtype) => new Tensor(values(product(shape), dtype, 3), [5, 4, 2, 2, 3]).permute(2, 4, 1, 3, 0)],
  [
    'with gaps',
    (dtype) =>
      new Tensor(values(2 * product(shape) + 3, dtype, 3), shape, { strides: [240, 80, 20, 10, 2], offset: 3 }),
  ],
];
const everySet = Array.from({ length: 2 ** shape.length }, (_, bits) => shape.map((_, i) => ((bits >> i) & 1) === 1));

onEveryIsa('moments', () => {
  describe.each<Dtype>(['float32', 'float64'])('%s', (dtype) => {
    it.each(memories)('over every set of axes, memory %s', (_, make) => {
      const x = make(dtype);
      for (const reduced of everySet) {
        const axes = shape.flatMap((_, i) => (reduced[i] ? [i] : []));
        const { mean, var: variance } = F.moments(x, axes);
        expect(mean.shape).toEqual(shape.filter((_, i) => !reduced[i]));
        grouped(x, reduced).forEach((group, i) => {
          const m = group.reduce((sum, v) => sum + v, 0) / group.length;
          const v = group.reduce((sum, value) => sum + (value - m) ** 2, 0) / group.length;
          const u = unitRoundoff[dtype];
          expect(Math.abs((mean.data[i] as number) - m)).toBeLessThanOrEqual(16 * u * (Math.abs(m) + Math.sqrt(v)));
          expect(Math.abs((variance.data[i] as number) - v)).toBeLessThanOrEqual(32 * u * v);
        });
      }
    });
  });
  it('biased by default, and by the correction', () => {
    const x = tensor([1, 2, 6]);
    expect(F.moments(x).var.data[0]).toBeCloseTo(14 / 3, 12);
    expect(F.moments(x, 0, { correction: 1 }).var.data[0]).toBe(7);
    expect(F.moments([5], 0, { correction: 1 }).var.data[0]).toBeNaN();
    expect(F.moments([5], 0).var.data[0]).toBe(0);
  });
  it('keeps dimensions where asked; negative axes; float64 results', () => {
    const x = tensor(new Float32Array(24), [2, 3, 4]);
    const { mean, var: variance } = F.moments(x, [-1, 0], { keepDims: true });
    expect([mean.shape, variance.shape, mean.dtype]).toEqual([[1, 3, 1], [1, 3, 1], 'float64']);
    expect(F.moments(x).mean.shape).toEqual([]);
    expect(F.moments(x, []).mean.shape).toEqual([2, 3, 4]);
  });
  it('nothing of no values is NaN, and no statistics are none', () => {
    const { mean, var: variance } = F.moments(tensor(new Float32Array(0), [2, 0]), 1);
    expect([...(mean.data as Float64Array), ...(variance.data as Float64Array)]).toEqual([NaN, NaN, NaN, NaN]);
    expect(F.moments(tensor(new Float32Array(0), [2, 0]), 0).mean.shape).toEqual([0]);
  });
  it('has the mean and variance that a layer normalizes by', () => {
    const x = new Tensor(values(6 * 5 * 7, 'float32', 1e4), [6, 5, 7]);
    const { mean, rstd } = F.nativeBatchNorm(x, { training: true, eps: 1e-9 });
    const found = F.moments(x, [0, 2]);
    expect(mean.toArray()).toEqual(found.mean.toArray());
    expect(rstd.toArray()).toEqual(found.var.toArray().map((v) => 1 / Math.sqrt((v as number) + 1e-9)));
  });
});

const lp = (group: number[], p: number): number => {
  const sizes = group.map(Math.abs);
  if (p === 0) return sizes.filter((v) => v !== 0).length;
  if (p === Infinity) return Math.max(...sizes);
  if (p === -Infinity) return Math.min(...sizes);
  return sizes.reduce((sum, v) => sum + v ** p, 0) ** (1 / p);
};

onEveryIsa('normalize', () => {
  it.each(memories)('by every norm over every set of dimensions, memory %s', (_, make) => {
    for (const dtype of ['float32', 'float64'] as const) {
      const x = make(dtype);
      for (const p of [2, 1, 0, 0.5, 3, 2.5, -1, Infinity, -Infinity]) {
        for (const reduced of everySet.filter((_, i) => i % 3 === 1)) {
          const dim = shape.flatMap((_, i) => (reduced[i] ? [i] : []));
          const y = F.normalize(x, { p, dim });
          expect([y.shape, y.dtype]).toEqual([shape, dtype]);
          const outs = grouped(y, reduced);
          grouped(x, reduced).forEach((group, i) => {
            const norm = Math.max(lp(group, p), 1e-12);
            group.forEach((v, j) => {
              const limit = 64 * unitRoundoff[dtype] * Math.abs(v / norm);
              if (!(Math.abs(outs[i]![j]! - v / norm) <= limit))
                throw new Error(`p ${p}: ${outs[i]![j]}, not ${v / norm}`);
            });
          });
        }
      }
    }
  });
  it('keeps dense memory as it lies', () => {
    const x = new Tensor(values(24, 'float32'), [2, 4, 3]).permute(0, 2, 1);
    expect(F.normalize(x).strides).toEqual(x.strides);
  });
  it('divides by no less than eps, and leaves zeros alone', () => {
    expect(F.normalize([[0, 0]]).toArray()).toEqual([0, 0]);
    expect(F.normalize([[3, 4]], { eps: 10 }).toArray()).toEqual([0.3, 0.4].map(Math.fround));
    expect(F.normalize([3, 4], { dim: 0 }).toArray()).toEqual([0.6, 0.8].map(Math.fround));
  });
  it('neither overflows nor vanishes', () => {
    for (const size of [1e-300, 1e300]) {
      const y = F.normalize(tensor(new Float64Array([3 * size, 4 * size]), [1, 2]), { eps: 0 }).toArray() as number[];
      expect(y[0]).toBeCloseTo(0.6, 14);
      expect(y[1]).toBeCloseTo(0.8, 14);
    }
    const small = F.normalize(tensor(new Float32Array([3e-30, 4e-30]), [1, 2]), { eps: 0 }).toArray() as number[];
    expect(small[0]).toBeCloseTo(0.6, 6);
  });
  it('NaN spoils its own row, infinity makes the others 0', () => {
    for (const p of [2, 1, 3, Infinity]) {
      const y = F.normalize(
        [
          [NaN, 1],
          [Infinity, 1],
          [3, 0],
        ],
        { p },
      ).toArray();
      // p = 2 multiplies by 1 / norm, rounded twice on the way.
      expect(Math.abs((y[4] as number) - 1)).toBeLessThanOrEqual(p === 2 ? 2 ** -23 : 0);
      expect(y.toSpliced(4, 1)).toEqual([NaN, NaN, NaN, 0, 0]);
    }
    expect(F.normalize(tensor(new Float32Array(0), [0, 3])).shape).toEqual([0, 3]);
  });
  it('has norm 1 afterwards', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 40 }),
        fc.double({ min: 0.5, max: 8, noNaN: true }),
        (row, p) => {
          fc.pre(row.some((v) => Math.abs(v) > 1e-3));
          const y = F.normalize(tensor(new Float64Array(row), [1, row.length]), { p });
          expect(lp(y.toArray() as number[], p)).toBeCloseTo(1, 9);
        },
      ),
      { numRuns: 200 },
    );
  });
});
