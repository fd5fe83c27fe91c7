// Promise: right to the last digits, whatever the data are, however they are cut and merged, with the same bits on every
// CPU and for any number of threads.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tensor, tensor, type DType, type TensorData } from '../../lib';
import { RunningMoments } from '../../lib/preprocessing';
import { readSafetensors } from '../../lib/io/safetensors';
import { exactMoments } from '../support/exact';
import { everyWay, onEveryIsa } from '../support/isa';
import { values } from '../support/shapes';
import { expectSameBits } from '../support/tolerance';

const bitsOf = (m: RunningMoments): string => JSON.stringify(m);
/** Feature j of (N, C, S), in row-major order. */
const feature = (x: Tensor, j: number): number[] => {
  const [n, c, s] = x.shape as [number, number, number];
  const all = x.to('float64').toArray() as number[];
  return Array.from({ length: n * s }, (_, i) => all[(Math.floor(i / s) * c + j) * s + (i % s)]!);
};
const column = (x: ArrayLike<number>, c: number, features: number): number[] =>
  Array.from({ length: x.length / features }, (_, i) => x[i * features + c]!);

/** Within 4 ulp of the exact results; of a mean that is small beside its data, of their deviation. */
function expectExact(what: string, m: RunningMoments, columns: ArrayLike<number>[], weights?: ArrayLike<number>): void {
  columns.forEach((own, c) => {
    const exact = exactMoments(own, weights);
    const near = (name: string, actual: number, expected: number, size: number): void => {
      if (Math.abs(actual - expected) <= 4 * 2 ** -52 * size || actual === expected) return;
      throw new Error(`${what}, feature ${c}: ${name} is ${actual}, exactly ${expected}`);
    };
    near('mean', m.mean[c]!, exact.mean, Math.max(Math.abs(exact.mean), exact.deviation));
    near('variance', m.variance()[c]!, exact.variance, exact.variance);
    const present = weights ? Array.from(own).filter((_, i) => weights[i]! > 0) : Array.from(own);
    expect([m.count[c], m.min[c], m.max[c]]).toEqual([exact.count, Math.min(...present), Math.max(...present)]);
  });
}

const dtypes: [DType, (x: Float64Array) => TensorData][] = [
  ['float64', (x) => x],
  ['float32', (x) => Float32Array.from(x)],
  ['float16', (x) => new Tensor(x, [x.length]).to('float16').data],
  ['bfloat16', (x) => new Tensor(x, [x.length]).to('bfloat16').data],
  ['uint8', (x) => Uint8Array.from(x, (v) => 100 + 20 * v)],
  ['int8', (x) => Int8Array.from(x, (v) => 20 * v)],
  ['int16', (x) => Int16Array.from(x, (v) => 5000 * v)],
  ['int32', (x) => Int32Array.from(x, (v) => 3e8 * v)],
];

onEveryIsa('RunningMoments', () => {
  it.each(dtypes)(
    '%s: rows of any width, (N, C, ...S) and (N, ...S, C), as exact numbers have it',
    (dtype, convert) => {
      for (const [n, c, s] of [
        [1, 1, 1],
        [40, 1, 1],
        [33, 3, 1],
        [200, 7, 1],
        [50, 17, 1],
        [3, 300, 1],
        [5, 3, 49],
        [2, 2, 5003],
        [4, 1, 33],
      ] as const) {
        // prettier-ignore
        const x = new Tensor(convert(values(n * c * s, 'float64') as Float64Array), [n, c, s], { dtype });
        const columns = Array.from({ length: c }, (_, j) => feature(x, j));
        expectExact(`${dtype} ${n}x${c}x${s}`, new RunningMoments(c).update(x), columns);
        const last = x.permute(0, 2, 1).copy().permute(0, 2, 1);
        expectExact(`${dtype} ${n}x${c}x${s} channels-last`, new RunningMoments(c).update(last), columns);
        if (s === 1) expectExact(`${dtype} ${n}x${c}`, new RunningMoments(c).update(x.reshape(n, c)), columns);
      }
    },
  );

  it('takes few of the channels, from any axis and any view', () => {
    const rgba = new Tensor(
      Uint8Array.from({ length: 2 * 6 * 5 * 4 }, (_, i) => (i * 37) % 256),
      [2, 6, 5, 4],
    );
    const planes = rgba.permute(0, 3, 1, 2);
    const columns = [0, 1, 2].map((c) => column(rgba.data as Uint8Array, c, 4));
    for (const [name, batch, options] of [
      ['a permuted view', planes, { channels: 3 }],
      ['the last axis', rgba, { axis: -1, channels: 3 }],
      ['planes', planes.copy(), { channels: 3 }],
      ['another order', rgba.permute(3, 2, 1, 0).copy(), { axis: 0, channels: 3 }],
      ['a view with gaps', new Tensor(rgba.data, [2, 6, 5, 3], { strides: rgba.strides }), { axis: 3 }],
    ] as const) {
      expectExact(name, new RunningMoments(3).update(batch, options), columns);
    }
    // Memory that ends with the last channel that is read.
    const short = new Tensor((rgba.data as Uint8Array).slice(0, 239), [60, 3], { strides: [4, 1] });
    expectExact('a short end', new RunningMoments(3).update(short), columns);
  });

  it('is right for large means, outliers in front, sorted data, constants and extremes', () => {
    const noise = values(20_000, 'float64') as Float64Array;
    const sets: Record<string, Float64Array> = {
      'mean 1e9': noise.map((v) => 1e9 + v * 1e-3),
      outlier: noise.map((v, i) => (i === 0 ? 1e7 : v)),
      sorted: noise.slice().sort(),
      tiny: noise.map((v) => v * 1e-150),
      huge: noise.map((v) => v * 1e150),
      alternating: noise.map((_, i) => (i % 2 ? 1 : -1)),
    };
    for (const [name, x] of Object.entries(sets)) {
      expectExact(name, new RunningMoments(1).update(x), [x]);
      expectExact(`${name}, columns`, new RunningMoments(4).update(new Tensor(x, [5000, 4])), [0, 1, 2, 3].map((c) => column(x, c, 4))); // prettier-ignore
    }
    for (const v of [0.1, -1e30, 1e-300, 16777217]) {
      const m = new RunningMoments(2).update(new Tensor(new Float64Array(20_001 * 2).fill(v), [20_001, 2]));
      expect([...m.mean, ...m.m2]).toEqual([v, v, 0, 0]);
    }
  });

  it('leaves NaN out, without a trace in other features', () => {
    const [n, c] = [5000, 5];
    const x = values(n * c, 'float32') as Float32Array;
    const clean = new RunningMoments(c).update(new Tensor(x, [n, c]));
    const holed = x.slice();
    for (let i = 0; i < n; i++) if (i % 3 === 0 || i < 20) holed[i * c + 2] = NaN;
    for (let i = 0; i < n; i++) holed[i * c + 4] = NaN;
    const m = new RunningMoments(c).update(new Tensor(holed, [n, c]));
    expectExact('holes', new RunningMoments(1).update(Float32Array.from(column(holed, 2, c))), [column(holed, 2, c).filter((v) => v === v)]); // prettier-ignore
    const own = column(holed, 2, c).filter((v) => v === v);
    expect(m.count[2]).toBe(own.length);
    expect(m.missing).toEqual(Float64Array.of(0, 0, n - own.length, 0, n));
    const exact = exactMoments(own);
    expect(Math.abs(m.mean[2]! / exact.mean - 1)).toBeLessThan(1e-14);
    expect(Math.abs(m.variance()[2]! / exact.variance - 1)).toBeLessThan(1e-15);
    for (const i of [0, 1, 3])
      expect([m.mean[i], m.m2[i], m.min[i]]).toEqual([clean.mean[i], clean.m2[i], clean.min[i]]);
    expect([m.mean[4], m.variance()[4], m.min[4], m.count[4]]).toEqual([NaN, NaN, NaN, 0]);
    // (N, C, S)
    const planes = new Tensor(holed, [n, c]).reshape(50, 100, c).permute(0, 2, 1).copy();
    const p = new RunningMoments(c).update(planes);
    expect(Math.abs(p.variance()[2]! / exact.variance - 1)).toBeLessThan(1e-15);
    expect(p.missing).toEqual(m.missing);
  });

  it('has the mean of a plain sum where there are infinities', () => {
    const m = new RunningMoments(3).update([[1, Infinity, Infinity], [2, 1, -Infinity], [NaN, 2, 1]]); // prettier-ignore
    expect([...m.mean]).toEqual([1.5, Infinity, NaN]);
    expect([...m.variance()]).toEqual([0.25, NaN, NaN]);
    expect(m.max[1]).toBe(Infinity);
    m.merge(new RunningMoments(3).update([[1, 1, 1]]));
    expect([...m.mean].slice(1)).toEqual([Infinity, NaN]);
  });

  it('weights positions, and masks them', () => {
    const [n, c, s] = [6, 3, 7];
    const x = new Tensor(values(n * c * s, 'float32') as Float32Array, [n, c, s]);
    const ofSamples = [1, 0, 2, 3, 1, 5];
    const ofPositions = Array.from({ length: n * s }, (_, i) => (i * 5) % 4);
    const columns = Array.from({ length: c }, (_, j) => feature(x, j));
    const spread = ofPositions.map((_, i) => ofSamples[Math.floor(i / s)]!);
    const last = x.permute(0, 2, 1).copy().permute(0, 2, 1);
    for (const batch of [x, last]) {
      const of = (options: object): RunningMoments => new RunningMoments(c).update(batch, options);
      expectExact('of samples', of({ weights: ofSamples }), columns, spread);
      expectExact('of positions', of({ weights: tensor(ofPositions, [n, s]) }), columns, ofPositions);
      const mask = ofPositions.map((w) => (w > 1 ? 1 : 0));
      expectExact('a mask', of({ mask: Uint8Array.from(mask) }), columns, mask);
      expectExact('a mask of samples', of({ mask: [true, false, true, true, true, true] }), columns, spread.map((w) => (w > 0 ? 1 : 0))); // prettier-ignore
      expectExact('both', of({ weights: ofSamples, mask: Uint8Array.from(mask) }), columns, spread.map((w, i) => w * mask[i]!)); // prettier-ignore
    }
    const [m] = [new RunningMoments(2).update([[1, 5], [1, 6]], { weights: [1, 3] })]; // prettier-ignore
    expect([...m.mean, ...m.variance(), ...m.count]).toEqual([1, 5.75, 0, 0.1875, 4, 4]); // scikit-learn's
    expect(m.variance({ unbiased: true })[1]).toBe(0.25);
  });

  it('does not depend on how data are cut, nor on the order of merges', () => {
    const [n, c] = [9001, 3];
    const x = values(n * c, 'float64', 3, 2) as Float64Array;
    const columns = [0, 1, 2].map((j) => column(x, j, c));
    for (const cuts of [1, 2, 3, 10, 97, 9001]) {
      const size = Math.ceil(n / cuts);
      const parts = Array.from({ length: Math.ceil(n / size) }, (_, i) =>
        new RunningMoments(c).update(
          new Tensor(x.slice(i * size * c, (i + 1) * size * c), [Math.min(size, n - i * size), c]),
        ),
      );
      const all = (order: RunningMoments[]): RunningMoments =>
        order.reduce((into, part) => into.merge(part), new RunningMoments(c));
      expectExact(`${cuts} cuts`, all(parts), columns);
      expectExact(`${cuts} cuts, backwards`, all([...parts].reverse()), columns);
      const stream = new RunningMoments(c);
      for (let i = 0; i < n; i += size)
        stream.update(new Tensor(x.slice(i * c, (i + size) * c), [Math.min(size, n - i), c]));
      expectExact(`${cuts} cuts, a stream`, stream, columns);
    }
  });

  it('merges empty states, itself, and 2^40 samples made by doubling', () => {
    const m = new RunningMoments(2).update([[1, 10], [2, 30], [4, 20]]); // prettier-ignore
    const before = bitsOf(m);
    expect(bitsOf(m.merge(new RunningMoments(2)))).toBe(before);
    expect(bitsOf(new RunningMoments(2).merge(m))).toBe(before);
    const twice = m.clone().merge(m.clone());
    expect(bitsOf(m.merge(m))).toBe(bitsOf(twice));
    expect([...m.count]).toEqual([6, 6]);
    let many = new RunningMoments(1).update([0, 1]);
    for (let i = 1; i < 40; i++) many = many.merge(many);
    expect([many.count[0], many.mean[0], many.variance()[0]]).toEqual([2 ** 40, 0.5, 0.25]);
    expect(many.variance({ unbiased: true })[0]).toBe(2 ** 38 / (2 ** 40 - 1));
    many.merge(new RunningMoments(1).update([0.5 + 2 ** 20]));
    expect(many.mean[0]).toBe(0.5 + 2 ** 20 / (2 ** 40 + 1));
  });

  it('keeps its whole state in JSON and safetensors', () => {
    const dir = mkdtempSync(join(tmpdir(), 'moments-'));
    try {
      const m = new RunningMoments(3, { names: ['a', 'b', '__proto__'] });
      m.update(new Tensor(values(300, 'float64', 1e5, 3) as Float64Array, [100, 3]));
      m.update([[Infinity, NaN, -0]]);
      const empty = new RunningMoments(1);
      for (const state of [m, empty]) {
        const json = RunningMoments.fromJSON(JSON.parse(JSON.stringify(state)));
        expect([bitsOf(json), json.names]).toEqual([bitsOf(state), state.names]);
        const path = join(dir, 'stats.safetensors');
        state.save(path);
        const loaded = RunningMoments.load(path);
        expect([bitsOf(loaded), loaded.names]).toEqual([bitsOf(state), state.names]);
        expect(readSafetensors(path).metadata.get('format')).toBe('simdnorm.RunningMoments');
        // It goes on where it was.
        expect(bitsOf(loaded.merge(state))).toBe(bitsOf(state.clone().merge(state)));
      }
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  const strd = join(__dirname, '../strd');
  it.each(readdirSync(strd).filter((f) => f.endsWith('.json')))('NIST StRD %s: 15.5 digits in any sharding', (file) => {
    const set = JSON.parse(readFileSync(join(strd, file), 'utf8')) as {
      data: string[];
      exactF64: { mean: string; sd: string };
    };
    const x = Float64Array.from(set.data, Number);
    const digits = (v: number, exact: number): number =>
      v === exact ? 15.9 : Math.min(15.9, -Math.log10(Math.abs(v / exact - 1)));
    let worst = 15.9;
    for (const shards of [1, 2, 3, 7, 16, Math.ceil(Math.sqrt(x.length)), Math.ceil(x.length / 2), x.length]) {
      const size = Math.ceil(x.length / shards);
      const parts = Array.from({ length: Math.ceil(x.length / size) }, (_, i) =>
        new RunningMoments(1).update(x.slice(i * size, (i + 1) * size)),
      );
      const m = parts.reduce((into, part) => into.merge(part), new RunningMoments(1));
      const found = Math.min(digits(m.mean[0]!, Number(set.exactF64.mean)), digits(m.std({ unbiased: true })[0]!, Number(set.exactF64.sd))); // prettier-ignore
      worst = Math.min(worst, found);
    }
    expect(worst).toBeGreaterThan(15.5);
  });
});

it('has the same bits on every ISA and for any number of threads', () => {
  const cases: [string, Tensor][] = [
    ['rows', new Tensor(values(40_000 * 6, 'float32', 5, 1) as Float32Array, [40_000, 6])],
    ['wide rows', new Tensor(values(3000 * 300, 'float64', 5, 1) as Float64Array, [3000, 300])],
    ['planes', new Tensor(values(6 * 3 * 40_000, 'float32') as Float32Array, [6, 3, 200, 200])],
    ['with NaN', new Tensor((values(20_000 * 5, 'float32') as Float32Array).map((v, i) => (i % 11 ? v : NaN)), [20_000, 5])], // prettier-ignore
  ];
  for (const [name, x] of cases) {
    const results = everyWay(() => new RunningMoments(x.shape[1]!).update(x));
    for (const { way, result } of results.slice(1)) {
      if (bitsOf(result) !== bitsOf(results[0]!.result)) throw new Error(`${name}: other bits with ${way}`);
    }
  }
});

it('refuses, and is as before', () => {
  const m = new RunningMoments(2, { names: ['a', 'b'] }).update([[1, 2]]);
  const before = bitsOf(m);
  const detached = new Float32Array(4);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const json = JSON.parse(before) as Record<string, unknown>;
  const refusals: [() => unknown, typeof TypeError | typeof RangeError, RegExp][] = [
    [() => new RunningMoments(0), RangeError, /features must be an integer of at least 1/],
    [() => new RunningMoments(2, { names: ['a'] }), RangeError, /names has 1 entries for 2 features/],
    [() => m.update([[1, 2, 3]]), RangeError, /RunningMoments\.update: expected 2 features, but got 3 .*\[1, 3\]/],
    [() => m.update([1, 2]), RangeError, /expected 2 features, but got 1/],
    [() => m.update([[1, 2], [3]] as never), RangeError, /ragged nested arrays/], // prettier-ignore
    [() => m.update([['1', 2]] as never), TypeError, /numbers, but got the string "1"/],
    [() => m.update('x' as never), TypeError, /batch/],
    [() => m.update(new Tensor(new Float32Array(1), [])), RangeError, /single number/],
    [() => m.update(new Tensor(new BigInt64Array(2), [1, 2])), TypeError, /int64/],
    [() => m.update({ data: detached, shape: [2, 2] }), RangeError, /0 elements/],
    [() => m.update([[1, 2]], { weights: [-1] }), RangeError, /weight 0 is -1/],
    [() => m.update([[1, 2]], { weights: [NaN] }), RangeError, /weight 0 is NaN/],
    [() => m.update([[1, 2]], { weights: [1, 2] }), RangeError, /weights must have the batch's first dimensions/],
    [() => m.update([[1, 2]], { mask: [true, true] }), RangeError, /mask must have the batch's first dimensions/],
    [() => m.update([[1, 2]], { axis: 2 }), RangeError, /axis must be from -2 to 1, but got 2/],
    [() => m.update([[1, 2]], { axis: 0.5 }), TypeError, /axis must be an integer/],
    [() => m.update([[1, 2]], { channels: 3 }), RangeError, /3 channels are asked for, the batch has 2/],
    [() => m.update([[1, 2]], { weight: [1] } as never), TypeError, /unknown option "weight"/],
    [() => m.merge(new RunningMoments(3)), RangeError, /expected 2 features, but the other one has 3/],
    [() => m.merge(new RunningMoments(2, { names: ['a', 'c'] })), RangeError, /feature 1 is the string "b" here and the string "c"/], // prettier-ignore
    [() => m.merge({} as never), TypeError, /expected a RunningMoments/],
    [() => RunningMoments.fromJSON({}), TypeError, /what toJSON gives/],
    [() => RunningMoments.fromJSON({ ...json, mean: [1] }), RangeError, /mean has 1 values for 2 features/],
    [() => RunningMoments.fromJSON({ ...json, mean: [1, 'x'] }), TypeError, /mean must hold numbers/],
    [() => RunningMoments.fromJSON({ ...json, count: [1, -1] }), RangeError, /count\[1\] is -1/],
    [() => RunningMoments.fromTensors(m.toTensors(), {}), TypeError, /no running moments/],
  ];
  for (const [f, Kind, message] of refusals) {
    expect(f).toThrow(Kind);
    expect(f).toThrow(message);
    expect(bitsOf(m)).toBe(before);
  }
  expect(() => RunningMoments.fromJSON({ ...json, version: 2 })).toThrow(/version 2 of the state is not known/);
});

it('takes nothing from a batch without samples', () => {
  const m = new RunningMoments(2).update(new Tensor(new Float32Array(0), [0, 2]));
  expectSameBits('count', m.count, [0, 0]);
  expect(m.mean).toEqual(Float64Array.of(NaN, NaN));
  // Nor from samples without positions, in whatever order their axes lie.
  const none = new Tensor(new Float32Array(0), [4, 2, 0]);
  for (const [batch, axis] of [
    [none, 1],
    [none.permute(0, 2, 1), 2],
    [none.permute(1, 0, 2), 0],
  ] as const) {
    // prettier-ignore
    expect([...m.update(batch, { axis, weights: axis === 1 ? [1, 2, 3, 4] : undefined }).count]).toEqual([0, 0]);
  }
});
