// The scalers mean what scikit-learn's and torchvision's do: figures of theirs, and their formulas in double.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tensor, tensor } from '../../lib';
import {
  imagesToTensor,
  MinMaxScaler,
  Normalize,
  presets,
  RunningMoments,
  StandardScaler,
} from '../../lib/preprocessing';
import { everyWay, onEveryIsa } from '../support/isa';
import { values } from '../support/shapes';
import { expectClose, expectSameBits } from '../support/tolerance';

type Figures = Record<string, (number | null)[]>;
const theirs = JSON.parse(readFileSync(join(__dirname, 'scikit-learn.json'), 'utf8')) as {
  x: (number | null)[];
  standard: Figures;
  weighted: Figures & { nSamplesSeen: number };
  minMax: Figures;
};
const numbers = (list: readonly (number | null)[]): Float64Array => Float64Array.from(list, (v) => v ?? NaN);
const x = new Tensor(numbers(theirs.x), [12, 4]);
const near = (what: string, actual: ArrayLike<number> | null, expected: readonly (number | null)[]): void =>
  expectClose(what, actual!, numbers(expected), 1e-14, 'float64');
const data = (t: Tensor): Float64Array => t.data as Float64Array;

onEveryIsa('StandardScaler', () => {
  it("has scikit-learn's attributes and results, NaN and constants included", () => {
    const scaler = new StandardScaler().fit(x);
    for (const name of ['mean', 'var', 'scale', 'nSamplesSeen'] as const) {
      near(name, scaler[name] as Float64Array, theirs.standard[name]!);
    }
    expect(scaler.nFeaturesIn).toBe(4);
    near('y', data(scaler.transform(x)), theirs.standard.y!);
    near('x', data(scaler.inverseTransform(scaler.transform(x))), theirs.x);
    near('without mean', data(new StandardScaler({ withMean: false }).fitTransform(x)), theirs.standard.withoutMean!);
    const plain = new StandardScaler({ withStd: false }).fit(x);
    expect([plain.var, plain.scale]).toEqual([null, null]);
    near('without std', data(plain.inverseTransform(plain.transform(x))), theirs.x);
  });

  it('weights samples as scikit-learn does', () => {
    const whole = numbers(theirs.x).map((v) => (Number.isNaN(v) ? 1 : v));
    const three = new Tensor(Float64Array.from({ length: 36 }, (_, i) => whole[Math.floor(i / 3) * 4 + [0, 1, 3][i % 3]!]!), [12, 3]); // prettier-ignore
    const scaler = new StandardScaler().fit(three, { sampleWeight: Array.from({ length: 12 }, (_, i) => 1 + (i % 3)) });
    near('mean', scaler.mean, theirs.weighted.mean!);
    near('var', scaler.var, theirs.weighted.var!);
    expect(scaler.nSamplesSeen).toBe(theirs.weighted.nSamplesSeen);
  });

  it('is fitted in parts, and merges', () => {
    const rows = values(1000 * 5, 'float32', 3, 2) as Float32Array;
    const part = (from: number, to: number): Tensor => new Tensor(rows.slice(from * 5, to * 5), [to - from, 5]);
    const whole = new StandardScaler().fit(part(0, 1000));
    const parts = new StandardScaler().partialFit(part(0, 10)).partialFit(part(10, 600));
    parts.merge(new StandardScaler().fit(part(600, 1000))).merge(new StandardScaler());
    expectSameBits('mean', parts.mean!, whole.mean!);
    expectSameBits('var', parts.var!, whole.var!);
    expect(parts.nSamplesSeen).toBe(1000);
    // fit begins anew.
    expectSameBits('fit', parts.fit(part(0, 1000)).var!, whole.var!);
    const moments = new RunningMoments(5).update(part(0, 1000));
    expectSameBits('fromMoments', StandardScaler.fromMoments(moments).var!, whole.var!);
  });

  it.each(['float32', 'float64', 'float16', 'bfloat16'] as const)(
    '%s: y = (x - mean) / scale in any layout',
    (dtype) => {
      const digits = { float32: 2 ** -23, float64: 2 ** -52, float16: 2 ** -10, bfloat16: 2 ** -7 }[dtype];
      for (const shape of [
        [50, 3],
        [9, 17, 5],
        [4, 3, 7, 9],
      ]) {
        // prettier-ignore
        const size = shape.reduce((a, b) => a * b, 1);
        const given = new Tensor(values(size, 'float64', 40, 3) as Float64Array, shape).to(dtype);
        const axes = shape.map((_, i) => i);
        const last = given.permute(0, ...axes.slice(2), 1).copy().permute(0, shape.length - 1, ...axes.slice(1, -1)); // prettier-ignore
        const scaler = new StandardScaler().fit(given);
        const inner = shape.slice(2).reduce((a, b) => a * b, 1);
        const [from, c] = [given.to('float64').toArray() as number[], shape[1]!];
        const expected = from.map((v, i) => {
          const j = Math.floor(i / inner) % c;
          return (v - scaler.mean![j]!) / scaler.scale![j]!;
        });
        for (const own of [given, last]) {
          const y = scaler.transform(own);
          expect([y.dtype, y.isChannelsLast && !y.isContiguous]).toEqual([
            dtype,
            own.isChannelsLast && !own.isContiguous,
          ]);
          expectClose(
            `${dtype} ${shape.join('x')}`,
            y.to('float64').toArray() as number[],
            expected,
            digits * 8,
            'float64',
          );
        }
      }
    },
  );

  it('works in place, into out, and along another axis', () => {
    const own = new Tensor(values(60, 'float32', 5, 2) as Float32Array, [20, 3]);
    const scaler = new StandardScaler().fit(own);
    const y = scaler.transform(own);
    const out = new Float32Array(60);
    expect(scaler.transform(own, { out }).data).toBe(out);
    expectSameBits('out', out, data(y));
    const before = own.copy();
    expect(scaler.transform(own, { out: own })).toBe(own);
    expectSameBits('in place', data(own), data(y));
    expectClose('back', data(scaler.inverseTransform(own, { out: own })), data(before), 1e-5, 'float32');
    const first = new StandardScaler({ axis: 0 });
    expectSameBits('axis 0', first.fitTransform(before.permute(1, 0)).permute(1, 0).toArray() as number[], data(y));
  });

  it('makes float64 of integers', () => {
    const bytes = new Tensor(Uint8Array.of(1, 2, 3, 6), [2, 2]);
    const y = new StandardScaler().fitTransform(bytes);
    expect([y.dtype, [...data(y)]]).toEqual(['float64', [-1, -1, 1, 1]]);
  });

  it('is right where float32 statistics are not', () => {
    const own = new Tensor((values(4000, 'float64') as Float64Array).map((v, i) => (i % 2 ? 1e-30 * v : 1e30 * v)), [2000, 2]).to('float32'); // prettier-ignore
    const y = new StandardScaler().fitTransform(own);
    const found = new RunningMoments(2).update(y);
    for (const v of found.variance()) expect(Math.abs(v - 1)).toBeLessThan(1e-6);
  });
});

onEveryIsa('MinMaxScaler', () => {
  it("has scikit-learn's attributes and results", () => {
    const scaler = new MinMaxScaler({ featureRange: [-1, 2], clip: true }).fit(new Tensor(x.data.slice(0, 36), [9, 4]));
    for (const name of ['dataMin', 'dataMax', 'dataRange', 'scale', 'min'] as const) {
      near(name, scaler[name], theirs.minMax[name]!);
    }
    near('y', data(scaler.transform(x)), theirs.minMax.y!);
    const half = scaler.transform(x.to('float16'));
    expect(Math.max(...(half.to('float64').toArray() as number[]).filter((v) => v === v))).toBe(2);
  });
  it('goes back', () => {
    const scaler = new MinMaxScaler().fit(x);
    near('x', data(scaler.inverseTransform(scaler.transform(x))), theirs.x);
  });
});

onEveryIsa('Normalize', () => {
  const images = imagesToTensor({ data: Uint8Array.from({ length: 35 * 3 }, (_, i) => (i * 37) % 256), width: 7, height: 5 }); // prettier-ignore
  it('is (x - mean) / std, as imagesToTensor has it', () => {
    const { mean, std } = presets.imageNet;
    const scaler = new Normalize(mean, std);
    const bytes = Float32Array.from(data(images), (v) => v * 255);
    const expected = Float64Array.from(
      bytes,
      (v, i) => (v / 255 - mean[Math.floor(i / 35)]!) / std[Math.floor(i / 35)]!,
    );
    expectClose('y', data(scaler.transform(images)), expected, 1e-6, 'float32');
    expectClose('x', data(scaler.inverseTransform(scaler.transform(images))), data(images), 1e-6, 'float32');
    expect(scaler.transform(images.reshape(1, 1, 3, 5, 7)).shape).toEqual([1, 1, 3, 5, 7]);
  });
  it('is fitted to channels', () => {
    const scaler = new Normalize().partialFit(images).merge(new Normalize().fit(images));
    const y = new RunningMoments(3).update(scaler.transform(images), { axis: 0 });
    for (const c of [0, 1, 2]) {
      expect(Math.abs(y.mean[c]!)).toBeLessThan(1e-6);
      expect(Math.abs(y.variance()[c]! - 1)).toBeLessThan(1e-6);
    }
  });
});

it('has the same bits on every ISA and for any number of threads', () => {
  const own = new Tensor(values(30_000 * 5, 'float32', 7, 3) as Float32Array, [30_000, 5]);
  const results = everyWay(() => data(new StandardScaler().fitTransform(own)));
  for (const { way, result } of results.slice(1)) expectSameBits(way, result, results[0]!.result);
});

it('refuses, and stays as fitted', () => {
  const scaler = new StandardScaler().fit(x);
  const before = JSON.stringify(scaler.moments);
  const f32 = tensor([[1, 2, 3, 4]]);
  const refusals: [() => unknown, new (...args: never[]) => Error, RegExp][] = [
    [
      () => new StandardScaler({ with_mean: false } as never),
      TypeError,
      /unknown option "with_mean"; did you mean "withMean"/,
    ],
    [() => new StandardScaler({ axis: 1.5 }), TypeError, /StandardScaler: axis must be an integer/],
    [() => new StandardScaler().transform(x), Error, /StandardScaler is not fitted yet/],
    [() => scaler.partialFit([[1, 2]]), RangeError, /StandardScaler\.partialFit: expected 4 features, but got 2/],
    [() => scaler.partialFit([[1, 2, Infinity, 4]]), RangeError, /feature 2 contains an infinity/],
    [() => scaler.fit([1, 2]), RangeError, /StandardScaler\.fit: input must have at least 2 dimensions/],
    [() => scaler.fit(x, { sampleWeight: [-1] }), RangeError, /weight 0 is -1/],
    [() => scaler.transform([[1, 2]]), RangeError, /StandardScaler\.transform: expected 4 features, but got 2/],
    [() => scaler.transform(f32, { out: new Float32Array(3) }), RangeError, /out must be float32 with 4 elements/],
    [() => scaler.transform(f32, { out: new Float64Array(4) }), TypeError, /out must be float32/],
    [() => scaler.merge(new MinMaxScaler() as never), TypeError, /expected a StandardScaler/],
    [
      () => scaler.merge(new StandardScaler().fit([[1], [2]])),
      RangeError,
      /expected 4 features, but the other one has 1/,
    ],
    [() => StandardScaler.fromMoments({} as never), TypeError, /expected a RunningMoments/],
    [() => new MinMaxScaler({ featureRange: [1, 1] }), RangeError, /minimum below its maximum, but got 1, 1/],
    [() => new MinMaxScaler({ featureRange: 1 as never }), TypeError, /two numbers/],
    [() => new Normalize([0.5], [0]), RangeError, /std evaluated to zero/],
    [() => new Normalize([0.5], [1, 2]), RangeError, /mean has 1 values, std has 2/],
    [() => new Normalize([0.5]), TypeError, /std must be an array of numbers/],
    [() => new Normalize([1, 1, 1], [1, 1, 1]).transform(new Tensor(new Uint8Array(3), [3, 1, 1])), TypeError, /imagesToTensor/], // prettier-ignore
    [() => new Normalize([1], [1]).transform([[1]]), RangeError, /at least 3 dimensions/],
  ];
  for (const [f, Kind, message] of refusals) {
    expect(f).toThrow(message);
    expect(f).toThrow(Kind);
    expect(JSON.stringify(scaler.moments)).toBe(before);
  }
});
