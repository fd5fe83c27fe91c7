// Promise: the same bits on every instruction set and for any number of threads, asserted with equality.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { isa, getNumThreads, LayerNorm, noGrad, setNumThreads, Tensor } from '../lib';
import { everyWay } from './support/isa';
import { forms, prepare, values, type AnyLayer, type Form } from './support/shapes';
import { expectSameBits, type Dtype } from './support/tolerance';

const data = (t: Tensor | null | undefined): Float64Array => t!.data as Float64Array;

/** Everything a training step and an evaluation produce. */
function step(layer: AnyLayer, x: Tensor, dy: Tensor): Record<string, Float64Array> {
  const found: Record<string, Float64Array> = {};
  found.y = data(layer.forward(x));
  found.dx = data(layer.backward(dy));
  if (layer.weight) found.dweight = data(layer.weight.grad);
  if (layer.bias) found.dbias = data(layer.bias.grad);
  if (layer.runningMean) {
    found.runningMean = data(layer.runningMean);
    found.runningVar = data(layer.runningVar);
    layer.eval();
    found.evalY = data(layer.forward(x));
    found.evalDx = data(layer.backward(dy));
  }
  return found;
}

function sameEveryWay(form: Form, dtype: Dtype, fill: (x: Float64Array) => void = () => {}): void {
  const { layer: first, x, dy } = prepare(form, dtype);
  fill(data(x));
  const results = everyWay(() => {
    const layer = form.make(dtype);
    if (layer.weight) data(layer.weight).set(data(first.weight));
    if (layer.bias) data(layer.bias).set(data(first.bias));
    return step(layer, x, dy);
  });
  for (const { way, result } of results.slice(1)) {
    for (const [name, array] of Object.entries(result)) {
      expectSameBits(`${form.name}, ${dtype}, ${way}: ${name}`, array, results[0]!.result[name]!);
    }
  }
}

// Large enough that helpers take part, and that a statistic has several blocks and units.
const sized = (name: string, shape: number[], channelsLast = false): Form => {
  const like = forms.find(
    (form) => form.name.startsWith(name) && form.shape.length === shape.length && !!form.channelsLast === channelsLast,
  )!;
  const [n, c, ...spatial] = shape as [number, number, ...number[]];
  return {
    ...like,
    name: `${name} ${shape.join('x')}`,
    shape,
    make: (dtype, options) => remake(name, n, c, spatial, dtype, options),
  };
};
function remake(name: string, _n: number, c: number, spatial: number[], dtype: Dtype, options?: object): AnyLayer {
  const lib = require('../lib') as Record<string, new (...args: unknown[]) => AnyLayer>;
  if (name === 'LayerNorm' || name === 'RMSNorm') return new lib[name]!([c, ...spatial], { dtype, ...options });
  if (name === 'GroupNorm') return new lib[name]!(4, c, { dtype, ...options });
  return new lib[name]!(c, { dtype, affine: true, ...options });
}
const large = [
  sized('BatchNorm2d', [6, 3, 150, 151]),
  sized('BatchNorm2d', [9, 70, 31, 33]),
  sized('BatchNorm2d', [5, 36, 61, 63], true),
  sized('BatchNorm1d', [3001, 130]),
  sized('InstanceNorm2d', [2, 3, 230, 231]),
  sized('InstanceNorm2d', [7, 20, 41, 43], true),
  sized('GroupNorm', [3, 8, 9000].slice(0, 3)),
  sized('GroupNorm', [5, 1200, 7, 11], true),
  sized('LayerNorm', [2, 150001]),
  sized('LayerNorm', [1500, 203]),
  sized('RMSNorm', [1500, 203]),
  {
    ...forms.find((form) => form.name.startsWith('LayerNorm(5, axis 1)'))!,
    name: 'LayerNorm over axis 1 of 3x200x700',
    shape: [3, 200, 700],
    make: (dtype: Dtype, options?: object) => new LayerNorm(200, { dtype, axis: 1, ...options }) as unknown as AnyLayer,
  },
];

describe('the same bits on every instruction set and for 1, 2, 3 and 7 threads', () => {
  describe.each<Dtype>(['float32', 'float64'])('%s', (dtype) => {
    it.each([...forms, ...large].map((form) => [form.name, form] as const))('%s', (_, form) =>
      sameEveryWay(form, dtype),
    );

    const hard: [string, (x: Float64Array) => void][] = [
      ['means a million deviations away', (x) => x.forEach((v, i) => (x[i] = 1e6 + v))],
      ['outliers', (x) => x.forEach((_, i) => i % 37 === 5 && (x[i] = 1e10))],
      ['constants', (x) => x.fill(1 / 3)],
      ['two values', (x) => x.forEach((v, i) => (x[i] = v > 0.1 ? 0.7 : -0.1))],
      ['values near 1e30', (x) => x.forEach((v, i) => (x[i] = v * 1e30))],
      ['values near the largest float', (x) => x.forEach((v, i) => (x[i] = Math.max(-3e38, Math.min(3e38, v * 1e38))))],
      ['values near 1e-30', (x) => x.forEach((v, i) => (x[i] = v * 1e-30))],
      ['denormals', (x) => x.forEach((v, i) => (x[i] = v * 1e-42))],
      ['a NaN', (x) => (x[Math.floor(x.length / 3)] = NaN)],
      ['an infinity', (x) => (x[Math.floor(x.length / 2)] = -Infinity)],
    ];
    const few = [...large.slice(0, 8), ...large.slice(9), ...forms.filter((form) => /17|33/.test(form.name))];
    it.each(hard)('%s', (_, fill) => few.forEach((form) => sameEveryWay(form, dtype, fill)));
  });

  it('in place gives the bits of out of place', () => {
    for (const dtype of ['float32', 'float64'] as const) {
      for (const form of forms) {
        const { layer, x } = prepare(form, dtype);
        const copy = new Tensor(x.data.slice() as Float32Array, x.shape, { strides: x.strides });
        const twin = form.make(dtype);
        if (layer.weight) data(twin.weight).set(data(layer.weight));
        if (layer.bias) data(twin.bias).set(data(layer.bias));
        const y = noGrad(() => layer.forward(x));
        noGrad(() => twin.forward(copy, { out: copy }));
        expectSameBits(form.name, data(copy), data(y));
      }
    }
  });

  it('dx over dy, and dx over x, give the bits of a dx of its own', () => {
    for (const form of [...forms, ...large]) {
      const { layer, x, dy } = prepare(form, 'float32');
      const copyOf = (t: Tensor): Tensor => new Tensor(t.data.slice() as Float32Array, t.shape, { strides: t.strides });
      layer.forward(x);
      const dx = data(layer.backward(dy));
      const grads = layer.parameters().map((p) => data(p.grad).slice());
      for (const over of ['dy', 'x']) {
        const [xCopy, dyCopy] = [copyOf(x), copyOf(dy)];
        layer.zeroGrad().forward(xCopy);
        const target = over === 'dy' ? dyCopy : xCopy;
        expectSameBits(`${form.name}: dx over ${over}`, data(layer.backward(dyCopy, { out: target })), dx);
        layer.parameters().forEach((p, i) => expectSameBits(`${form.name}: gradient ${i}`, data(p.grad), grads[i]!));
      }
    }
  });

  it('data at any offset give the same bits', () => {
    for (const form of forms.filter((f) => !f.channelsLast).slice(0, 140)) {
      const { layer, x } = prepare(form, 'float32');
      layer.eval();
      const y = data(noGrad(() => layer.forward(x)));
      for (const offset of [1, 2, 3, 5, 8, 15]) {
        const big = values(x.size + 20, 'float32');
        big.set(x.data as Float32Array, offset);
        const out = new Tensor(new Float32Array(x.size + 31), x.shape, { offset: 16 - offset });
        noGrad(() => layer.forward(new Tensor(big, x.shape, { offset }), { out }));
        expectSameBits(form.name, data(out).subarray(16 - offset, 16 - offset + x.size), y);
        expect(
          data(out)
            .subarray(16 - offset + x.size)
            .every((v) => v === 0),
        ).toBe(true);
        expect(
          data(out)
            .subarray(0, 16 - offset)
            .every((v) => v === 0),
        ).toBe(true);
      }
    }
  });
});

describe('isa', () => {
  it('lists what is supported, best first, ending with portable, and uses the best', () => {
    expect(isa.supported.at(-1)).toBe('portable');
    expect(isa.all).toEqual(expect.arrayContaining([...isa.supported]));
    expect(isa.active).toBe(isa.supported[0]);
  });
  it('uses the one named, and refuses others with a message that lists what there is', () => {
    isa.use('portable');
    expect(isa.active).toBe('portable');
    expect(() => isa.use('sse9')).toThrow(/unknown instruction set "sse9"; this machine supports .*portable/);
    expect(() => isa.use(undefined as never)).toThrow(RangeError);
    expect(isa.active).toBe('portable');
    isa.use(isa.supported[0]!);
  });
});

describe('threads', () => {
  it.each([0, -1, 1.5, NaN, 257, 2 ** 32 + 1, '2', undefined])('refuses %p', (n) => {
    const before = getNumThreads();
    expect(() => setNumThreads(n as number)).toThrow(typeof n === 'number' ? RangeError : TypeError);
    expect(() => setNumThreads(n as number)).toThrow(/an integer from 1 to 256, but got/);
    expect(getNumThreads()).toBe(before);
  });
});

describe('the environment', () => {
  const run = (env: Record<string, string>, script: string): string =>
    execFileSync(
      process.execPath,
      ['-e', `const s = require('./dist/index.js'); process.stdout.write(String(${script}))`],
      {
        cwd: join(__dirname, '..'),
        env: { ...process.env, ...env },
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
  it('SIMDNORM_ISA and SIMDNORM_NUM_THREADS choose before the first call', () => {
    expect(run({ SIMDNORM_ISA: 'portable', SIMDNORM_NUM_THREADS: '3' }, 's.isa.active + s.getNumThreads()')).toBe(
      'portable3',
    );
  });
  it('an unknown SIMDNORM_ISA is an error at load that lists what there is', () => {
    expect(() => run({ SIMDNORM_ISA: 'doesnotexist' }, '1')).toThrow(
      /SIMDNORM_ISA: unknown instruction set "doesnotexist"; this machine supports .*portable/,
    );
  });
  it('denormals survive the load: nothing in the addon was built with -ffast-math', () => {
    expect(run({}, '5e-324 + 0')).toBe('5e-324');
  });
});
