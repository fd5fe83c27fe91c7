// Promise: right where others are wrong. NIST StRD through the float64 moments in any sharding, float32 variances at
// any mean, constants, extremes.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BatchNorm1d, BatchNorm2d, GroupNorm, InstanceNorm1d, LayerNorm, RMSNorm, Tensor } from '../lib';
import { addon, Block } from '../lib/internal/addon';
import { onEveryIsa } from './support/isa';
import { reference } from './support/reference';
import { forms, prepare, values } from './support/shapes';
import { expectClose, expectSameBits } from './support/tolerance';

/** (count, mean, meanLow, m2, m2Low) of a data set. */
function moments(x: Float64Array | Float32Array): Float64Array {
  const block = new Float64Array(Block.length);
  block.set([1, 1, 1, x.length, x.length, 1]);
  const state = new Float64Array(5);
  if (x.length > 0) expect(addon.moments(block, x, state)).toBe(0);
  return state;
}

function mergeAll(states: Float64Array[], tree: boolean): Float64Array {
  const into = (a: Float64Array, b: Float64Array): Float64Array => {
    const sum = a.slice();
    expect(addon.merge(sum, b)).toBe(0);
    return sum;
  };
  if (!tree) return states.reduce(into, new Float64Array(5));
  let level = states;
  while (level.length > 1) {
    level = level.flatMap((s, i) => (i % 2 === 1 ? [] : i + 1 < level.length ? [into(s, level[i + 1]!)] : [s]));
  }
  return level[0] ?? new Float64Array(5);
}

const digits = (x: number, c: number): number =>
  x === c ? 15.9 : Math.min(15.9, -Math.log10(Math.abs(x - c) / Math.abs(c)));

const strd = join(__dirname, 'strd');
const dataSets = readdirSync(strd).filter((f) => f.endsWith('.json'));
interface Exact {
  mean: string;
  sd: string;
}

onEveryIsa('NIST StRD', (isaName) => {
  it.each(dataSets)('%s: mean and sd to 15.5 digits and more in any sharding, from float64 and float32', (file) => {
    const set = JSON.parse(readFileSync(join(strd, file), 'utf8')) as {
      data: string[];
      exactF64: Exact;
      exactF32: Exact;
    };
    const x64 = Float64Array.from(set.data, Number);
    const inputs = [
      ['float64', x64, set.exactF64],
      ['float64 of float32', Float64Array.from(new Float32Array(x64)), set.exactF32],
    ] as const;
    let worst = 15.9;
    for (const [name, x, exact] of inputs) {
      const n = x.length;
      for (const shards of [1, 2, 3, 7, 16, Math.ceil(Math.sqrt(n)), Math.ceil(n / 2), n]) {
        for (const tree of [true, false]) {
          const size = Math.ceil(n / shards);
          const parts = Array.from({ length: shards }, (_, i) => moments(x.slice(i * size, (i + 1) * size)));
          // Empty states before, between and after change nothing.
          const state = mergeAll([new Float64Array(5), ...parts.flatMap((p) => [p, new Float64Array(5)])], tree);
          expect(state[0]).toBe(n);
          const sd = Math.sqrt((state[3]! + state[4]!) / (n - 1));
          const found = Math.min(digits(sd, Number(exact.sd)), digits(state[1]! + state[2]!, Number(exact.mean)));
          worst = Math.min(worst, found);
          if (found < 15.5) throw new Error(`${name}, ${shards} shards, ${tree ? 'tree' : 'serial'}: ${found} digits`);
        }
      }
    }
    if (isaName === 'portable') console.info(`StRD ${file}: ${worst.toFixed(2)} digits in the worst sharding`);
  });
});

onEveryIsa('float32 layers', () => {
  /** running_var with momentum 1 is the unbiased variance the layer found. */
  const varianceOf = (x: Float32Array, shape: number[], channelsLast: boolean): number => {
    const layer =
      channelsLast || shape.length === 2 ? new BatchNorm1d(1, { momentum: 1 }) : new BatchNorm2d(1, { momentum: 1 });
    layer.forward(new Tensor(x, shape));
    return layer.runningVar!.data[0] as number;
  };
  const exactVariance = (x: Float32Array): number => {
    const question = { geometry: [1, 1, 1, x.length, x.length, 1] as const, x, eps: 0, about: 'mean' as const };
    return (reference(question).var[0]! * x.length) / (x.length - 1);
  };
  const sets: [string, (size: number) => Float32Array][] = [
    ...[0, 1, 1e2, 1e4, 1e5, 1e6, -1e6].map((mean): [string, (size: number) => Float32Array] => [
      `mean/std = ${mean}`,
      (size) => values(size, 'float32', mean, 1) as Float32Array,
    ]),
    ['an outlier of a million deviations, first', (size) => outlier(size, 0)],
    ['an outlier of a million deviations, within', (size) => outlier(size, Math.floor(size / 2))],
    ['two values', (size) => values(size, 'float32').map((v) => (v > 0.3 ? 0.7 : -0.1)) as Float32Array],
    ['sorted', (size) => values(size, 'float32').sort() as Float32Array],
    ['1e30', (size) => values(size, 'float32', 0, 1).map((v) => v * 1e15) as Float32Array],
    ['1e-15', (size) => values(size, 'float32', 0, 1).map((v) => v * 1e-15) as Float32Array],
  ];
  function outlier(size: number, at: number): Float32Array {
    const x = values(size, 'float32') as Float32Array;
    x[at] = 1e6;
    return x;
  }
  it.each(sets)('%s: variance within 1e-6, rows and columns', (_, make) => {
    for (const size of [100, 4096, 4097, 30_011]) {
      const x = make(size);
      const exact = exactVariance(x);
      for (const [shape, channelsLast] of [
        [[1, 1, 1, size], false],
        [[size, 1], true],
      ] as const) {
        const got = varianceOf(x, [...shape], channelsLast);
        if (!(Math.abs(got / exact - 1) <= 1e-6)) throw new Error(`${size} in ${shape}: ${got}, exactly ${exact}`);
      }
    }
  });

  it('the output keeps its digits at mean/std = 1e6', () => {
    for (const form of forms.filter((f) => f.about === 'mean' && Math.min(...f.shape) > 1)) {
      const { layer, x, dy, question } = prepare(form, 'float32', { mean: 1e6, spread: 1 });
      const answer = reference(question, dy.data as Float32Array);
      // Eight units of the output alone: nothing of the mean is lost.
      const peak = Math.max(...answer.y.map(Math.abs));
      expectClose(form.name, layer.forward(x).data as Float32Array, answer.y, 8 * 2 ** -24 * (1 + peak) * 4, 'float32');
    }
  });

  it.each([0, 1, -3.5, 1 / 3, 16777216, 1e4, 1e30, 1e-30, 3.4e38])('constant %p gives exactly bias', (value) => {
    for (const form of forms.filter((f) => f.about === 'mean')) {
      const { layer, x, question } = prepare(form, 'float32');
      x.data.fill(value as never);
      const y = layer.forward(x).data as Float32Array;
      const [, , , , run, channels] = form.geometry;
      const bias = question.bias!;
      y.forEach((v, e) => {
        const b = bias[Math.floor(e / run) % channels]!;
        if (v !== b) throw new Error(`${form.name}: y[${e}] = ${v}, bias ${b}`);
      });
    }
  });

  it('a constant channel beside others gives exactly bias, and does not depend on them', () => {
    const bn = new BatchNorm1d(3);
    const x = new Tensor(
      Float32Array.from({ length: 300 }, (_, i) => (i % 3 === 1 ? 5.7 : Math.sin(i))),
      [100, 3],
    );
    const y = bn.forward(x).data as Float32Array;
    for (let i = 1; i < 300; i += 3) expect(y[i]).toBe(0);
  });

  it('a channel does not depend on its neighbours, extreme ones included', () => {
    const columns = values(40 * 300, 'float32') as Float32Array;
    const spoiled = columns.map((v, i) =>
      i % 40 === 3 ? v * 1e38 : i % 40 === 7 ? v * 1e-42 : i % 40 === 11 ? NaN : v,
    );
    const run = (x: Float32Array): Float32Array =>
      new BatchNorm1d(40).forward(new Tensor(x, [300, 40])).data as Float32Array;
    const [a, b] = [run(columns), run(spoiled)];
    const pick = (y: Float32Array): Float32Array => y.filter((_, i) => ![3, 7, 11].includes(i % 40));
    expectSameBits('neighbours', pick(b), pick(a));
  });

  it('one NaN or infinity spoils its own statistic and no other', () => {
    for (const bad of [NaN, Infinity, -Infinity]) {
      const x = values(4 * 50, 'float32');
      x[60] = bad;
      const y = new LayerNorm(50).forward(new Tensor(x, [4, 50])).data as Float32Array;
      y.forEach((v, i) => expect(Number.isNaN(v)).toBe(i >= 50 && i < 100));
      const rms = new RMSNorm(50).forward(new Tensor(x, [4, 50])).data as Float32Array;
      rms.forEach((v, i) =>
        expect(Number.isFinite(v)).toBe(
          i < 50 || i >= 100 || (Number.isFinite(bad) ? true : i !== 60 && !Number.isNaN(bad)),
        ),
      );
      const bn = new BatchNorm1d(50, { momentum: 1 });
      bn.forward(new Tensor(x, [4, 50]));
      const means = bn.runningMean!.data as Float32Array;
      means.forEach((v, c) => expect(c === 10 ? Object.is(v, bad) : Number.isFinite(v)).toBe(true));
    }
  });
});

describe('equivalences', () => {
  const x = values(3 * 6 * 4 * 5, 'float32', 2, 3) as Float32Array;
  const t = new Tensor(x, [3, 6, 4, 5]);
  const close = (a: Tensor, b: Tensor): void =>
    expectClose('y', a.data as Float32Array, b.data as Float32Array, 1e-6, 'float32');
  it('GroupNorm(C) is InstanceNorm', () => {
    close(new GroupNorm(6, 6).forward(t), new InstanceNorm1d(6).forward(t.reshape(3, 6, 20)));
  });
  it('GroupNorm(1) is LayerNorm without affine', () => {
    close(new GroupNorm(1, 6).forward(t), new LayerNorm([6, 4, 5], { elementwiseAffine: false }).forward(t));
  });
  it('BatchNorm of one sample is InstanceNorm', () => {
    const one = new Tensor(x.slice(0, 120), [1, 6, 20]);
    expectSameBits(
      'y',
      new BatchNorm1d(6).forward(one).data as Float32Array,
      new InstanceNorm1d(6).forward(one).data as Float32Array,
    );
  });
  it('channels-last gives what channels-first gives', () => {
    for (const make of [() => new BatchNorm2d(6), () => new GroupNorm(3, 6)]) {
      const nhwc = new Tensor(t.permute(0, 2, 3, 1).contiguous().data, [3, 4, 5, 6]).permute(0, 3, 1, 2);
      const y = make().forward(nhwc);
      expect(y.isChannelsLast).toBe(true);
      close(y.contiguous(), make().forward(t));
    }
  });
  it('LayerNorm of a channels-last input, taken as it lies, is that of its logical order', () => {
    const nhwc = new Tensor(t.permute(0, 2, 3, 1).contiguous().data, [3, 4, 5, 6]).permute(0, 3, 1, 2);
    const y = new LayerNorm([6, 4, 5]).forward(nhwc);
    expect(y.isChannelsLast).toBe(true);
    close(y.contiguous(), new LayerNorm([6, 4, 5]).forward(t));
  });
});

onEveryIsa('gradients against central differences', () => {
  // In float64: f(x) = sum of dy * layer(x), whose gradient is what backward returns.
  const small = forms.filter((form) => form.shape.reduce((a, b) => a * b) <= 130);
  it.each(small.map((form) => [form.name, form] as const))('%s: dx, dweight, dbias', (_, form) => {
    const { layer, x, dy } = prepare(form, 'float64', { mean: 0.5, spread: 1.5 });
    const g = dy.data as Float64Array;
    const loss = (): number => (layer.forward(x).data as Float64Array).reduce((sum, y, i) => sum + y * g[i]!, 0);
    loss();
    const dx = layer.backward(dy);
    const targets: [string, Float64Array, Float64Array][] = [['dx', x.data as Float64Array, dx.data as Float64Array]];
    if (layer.weight)
      targets.push(['dweight', layer.weight.data as Float64Array, layer.weight.grad!.data as Float64Array]);
    if (layer.bias) targets.push(['dbias', layer.bias.data as Float64Array, layer.bias.grad!.data as Float64Array]);
    for (const [name, at, gradient] of targets) {
      for (let i = 0; i < at.length; i += Math.ceil(at.length / 25)) {
        const [old, h] = [at[i]!, 1e-4];
        // Fourth order, so that the truncation is h^4 and h can stay large enough for the rounding.
        const f = [-2, -1, 1, 2].map((k) => ((at[i] = old + k * h), loss()));
        at[i] = old;
        const slope = (f[0]! - 8 * f[1]! + 8 * f[2]! - f[3]!) / (12 * h);
        const scale = 1 + Math.abs(slope) + Math.max(...gradient.map(Math.abs));
        if (!(Math.abs(slope - gradient[i]!) <= 1e-8 * scale))
          throw new Error(`${name}[${i}]: ${gradient[i]}, by differences ${slope}`);
      }
    }
  });
});
