// The functions are their layers without state: the same bits, for every form; running statistics move the same way.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LocalResponseNorm, tensor, Tensor, type Parameter } from '../../lib';
import * as F from '../../lib/functional';
import { onEveryIsa } from '../support/isa';
import { reference } from '../support/reference';
import { forms, prepare, type AnyLayer, type Form } from '../support/shapes';
import { expectClose, expectSameBits, tolerances, type Dtype } from '../support/tolerance';

const data = (t: Tensor | null | undefined): Float64Array => t!.data as Float64Array;
const copyOf = (t: Tensor): Tensor => new Tensor(t.data.slice(), t.shape);

interface Pair {
  plain(layer: AnyLayer, x: Tensor): Tensor;
  native(layer: AnyLayer, x: Tensor): { output: Tensor; mean?: Tensor; rstd: Tensor };
  backward(layer: AnyLayer, dy: Tensor, x: Tensor, saved: object, outputMask?: F.OutputMask): F.Gradients;
}
const affine = ({ weight, bias }: AnyLayer): { weight: Parameter | null; bias: Parameter | null } => ({ weight, bias });
const tail = (layer: AnyLayer): number[] => (layer as unknown as { normalizedShape: number[] }).normalizedShape;

function pairOf(form: Form): Pair {
  if (form.name.startsWith('BatchNorm')) {
    const tracked = (layer: AnyLayer): object => ({
      ...affine(layer),
      runningMean: copyOf(layer.runningMean!),
      runningVar: copyOf(layer.runningVar!),
      training: true,
    });
    return {
      plain: (layer, x) => F.batchNorm(x, tracked(layer)),
      native: (layer, x) => F.nativeBatchNorm(x, tracked(layer)),
      backward: ({ weight }, dy, x, saved, outputMask) =>
        F.nativeBatchNormBackward(dy, x, { weight, training: true, ...saved, outputMask }),
    };
  }
  if (form.name.startsWith('LayerNorm')) {
    return {
      plain: (layer, x) => F.layerNorm(x, tail(layer), affine(layer)),
      native: (layer, x) => F.nativeLayerNorm(x, tail(layer), affine(layer)),
      backward: (layer, dy, x, saved, outputMask) =>
        F.nativeLayerNormBackward(dy, x, tail(layer), {
          weight: layer.weight,
          ...(saved as never as F.SavedStatistics),
          outputMask,
        }),
    };
  }
  if (form.name.startsWith('RMSNorm')) {
    return {
      plain: (layer, x) => F.rmsNorm(x, tail(layer), { weight: layer.weight }),
      native: (layer, x) => F.nativeRmsNorm(x, tail(layer), { weight: layer.weight }),
      backward: (layer, dy, x, saved, outputMask) => ({
        gradBias: null,
        ...F.nativeRmsNormBackward(dy, x, tail(layer), {
          weight: layer.weight,
          ...(saved as { rstd: Tensor }),
          ...(outputMask && { outputMask: [outputMask[0], outputMask[1]] }),
        }),
      }),
    };
  }
  const instance = form.name.startsWith('Instance');
  const groups = (layer: AnyLayer, x: Tensor): number =>
    instance ? x.shape[1]! : (layer as unknown as { numGroups: number }).numGroups;
  return {
    plain: (layer, x) =>
      instance ? F.instanceNorm(x, affine(layer)) : F.groupNorm(x, groups(layer, x), affine(layer)),
    native: (layer, x) => F.nativeGroupNorm(x, groups(layer, x), affine(layer)),
    backward: (layer, dy, x, saved, outputMask) =>
      F.nativeGroupNormBackward(dy, x, groups(layer, x), {
        weight: layer.weight,
        ...(saved as F.SavedStatistics),
        outputMask,
      }),
  };
}

onEveryIsa('functions have the bits of their layers', () => {
  describe.each<Dtype>(['float32', 'float64'])('%s', (dtype) => {
    const overAxis = forms.filter((form) => form.name.includes('axis'));
    it.each(overAxis.map((form) => [form.name, form] as const))('%s', (_, form) => {
      const { layer, x } = prepare(form, dtype);
      const { axis } = layer as unknown as { axis: number };
      const y = F.layerNorm(x, tail(layer), { ...affine(layer), axis });
      expectSameBits('y', data(y), data(layer.forward(x)));
    });

    const others = forms.filter((form) => !overAxis.includes(form));
    it.each(others.map((form) => [form.name, form] as const))('%s', (_, form) => {
      const { layer, x, dy, question } = prepare(form, dtype);
      const { plain, native, backward } = pairOf(form);
      const alone = plain(layer, x);
      const { output, ...saved } = native(layer, x);
      const y = layer.forward(x);
      const dx = layer.backward(dy);
      for (const t of [alone, output]) {
        expectSameBits('y', data(t), data(y));
        expect([t.shape, t.strides]).toEqual([y.shape, y.strides]);
      }
      const { gradInput, gradWeight, gradBias } = backward(layer, dy, x, saved);
      expect(gradInput!.strides).toEqual(dx.strides);
      // A float64 mean comes back without its rest; a float32 one comes back whole, but for the last bits of the rest.
      const allowed = tolerances(question, reference(question, data(dy)), data(dy), dtype);
      expectClose('dx', data(gradInput), data(dx), allowed.dx, dtype);
      if (layer.weight) expectClose('dweight', data(gradWeight), data(layer.weight.grad), allowed.dweight, dtype);
      if (layer.bias) expectClose('dbias', data(gradBias), data(layer.bias.grad), allowed.dbias, dtype);

      const none = backward(layer, dy, x, saved, [false, false, true]);
      expect([none.gradInput, none.gradWeight]).toEqual([null, null]);
      if (layer.bias) expectSameBits('dbias alone', data(none.gradBias), data(gradBias));
      const onlyWeight = backward(layer, dy, x, saved, [false, true, false]);
      expectSameBits('dweight alone', data(onlyWeight.gradWeight), data(gradWeight));
      const onlyInput = backward(layer, dy, x, saved, [true, false, false]);
      expectSameBits('dx alone', data(onlyInput.gradInput), data(gradInput));
      expect([onlyInput.gradWeight, onlyInput.gradBias]).toEqual([null, null]);
    });
  });
});

onEveryIsa('localResponseNorm', () => {
  it.each(['torch', 'onnx', 'tensorflow'] as const)('has the bits of the layer, window of %s', (window) => {
    const x = new Tensor(
      Float32Array.from({ length: 2 * 7 * 5 }, (_, i) => Math.sin(i)),
      [2, 7, 5],
    );
    const options = { alpha: 0.5, beta: 0.6, k: 2, window };
    const y = F.localResponseNorm(x, 4, options);
    expectSameBits('y', data(y), data(new LocalResponseNorm(4, options).forward(x)));
    const out = new Float32Array(x.size);
    expect(F.localResponseNorm(x, 4, { ...options, out }).data).toBe(out);
  });
  it('refuses what the layer refuses', () => {
    expect(() => F.localResponseNorm([[1]], 2)).toThrow(
      'localResponseNorm: Expected 3D or higher dimensionality input (got 2 dimensions)',
    );
    expect(() => F.localResponseNorm([[[1]]], 0)).toThrow(/kernel size should be greater than zero/);
  });
});

describe('running statistics', () => {
  const x = tensor([
    [1, 10],
    [2, 20],
    [6, 60],
  ]);
  const start = (): { runningMean: Tensor; runningVar: Tensor } => ({
    runningMean: tensor(new Float32Array(2)),
    runningVar: tensor(new Float32Array(2).fill(1)),
  });
  it('move in place in training, by momentum', () => {
    const running = start();
    F.batchNorm(x, { ...running, training: true, momentum: 0.5 });
    expect([...data(running.runningMean)]).toEqual([1.5, 15]);
    expect([...data(running.runningVar)]).toEqual([4, 350.5]);
  });
  it('either of them alone moves too', () => {
    const { runningMean, runningVar } = start();
    F.batchNorm(x, { runningMean, training: true, momentum: 1 });
    expect([...data(runningMean)]).toEqual([3, 30]);
    F.batchNorm(x, { runningVar, training: true, momentum: 1 });
    expect([...data(runningVar)]).toEqual([7, 700]);
  });
  it('serve without training, unmoved, and may then be nested arrays', () => {
    const y = F.batchNorm(x, { runningMean: [1, 10], runningVar: [4, 25], eps: 0 });
    expect(y.toArray()).toEqual([0, 0, 0.5, 2, 2.5, 10]);
    const { mean, rstd } = F.nativeBatchNorm(x, { runningMean: [1, 10], runningVar: [4, 25], eps: 0 });
    expect([mean.shape, rstd.shape]).toEqual([[0], [0]]);
    const { gradInput, gradWeight } = F.nativeBatchNormBackward(x, x, {
      runningMean: [1, 10],
      runningVar: [4, 25],
      eps: 0,
    });
    expect(gradInput!.toArray()).toEqual([0.5, 2, 1, 4, 3, 12]);
    expect(gradWeight!.toArray()).toEqual([0 + 1 + 15, 0 + 40 + 600]);
  });
  it('InstanceNorm averages over the samples', () => {
    const running = { runningMean: tensor(new Float32Array(1)), runningVar: tensor(new Float32Array(1)) };
    const pair = [[[0, 2]], [[10, 16]]];
    F.instanceNorm(pair, { ...running, momentum: 1 });
    expect([data(running.runningMean)[0], data(running.runningVar)[0]]).toEqual([7, 10]);
    const y = F.instanceNorm(pair, { ...running, useInputStats: false, eps: 6 });
    expect(y.toArray()).toEqual([-1.75, -1.25, 0.75, 2.25]);
  });
});

describe('out', () => {
  it('may be the input', () => {
    const x = tensor(new Float32Array([1, 2, 3, 4]), [2, 2]);
    const expected = F.layerNorm(x, 2).toArray();
    expect(F.layerNorm(x, 2, { out: x })).toBe(x);
    expect(x.toArray()).toEqual(expected);
  });
});

describe('statistics that a caller holds', () => {
  const x = tensor([[1, 2, 3, 6]]);
  it('are float64 of float32 data, and 1/sqrt(var + eps)', () => {
    const { mean, rstd } = F.nativeLayerNorm(x, [4], { eps: 0.5 });
    expect([mean.dtype, rstd.dtype, mean.shape, rstd.shape]).toEqual(['float64', 'float64', [1, 1], [1, 1]]);
    expect([mean.data[0], rstd.data[0]]).toEqual([3, 0.5]);
  });
  it('have the shapes of torch', () => {
    const z = tensor(
      new Float32Array(2 * 6 * 3 * 4).map((_, i) => i % 5),
      [2, 6, 3, 4],
    );
    expect(F.nativeBatchNorm(z, { training: true }).rstd.shape).toEqual([6]);
    expect(F.nativeGroupNorm(z, 3).mean.shape).toEqual([2, 3]);
    expect(F.nativeLayerNorm(z, [3, 4]).mean.shape).toEqual([2, 6, 1, 1]);
    expect(F.nativeRmsNorm(z, 4).rstd.shape).toEqual([2, 6, 3, 1]);
  });
  it.each([1e-300, 1e-170, 1e160, 1e300])('serve float64 data of size %p', (size) => {
    const values = [1, -2, 3, 0.5, 4].map((v) => v * size);
    const big = tensor(new Float64Array(values), [1, 5]);
    const dy = tensor(new Float64Array([1, 2, -1, 0.5, 3]), [1, 5]);
    const { mean, rstd } = F.nativeLayerNorm(big, 5, { eps: 0 });
    const { gradInput, gradWeight } = F.nativeLayerNormBackward(dy, big, 5, { mean, rstd });
    const unit = tensor(new Float64Array([1, -2, 3, 0.5, 4]), [1, 5]);
    const { output: _, ...ordinary } = F.nativeLayerNorm(unit, 5, { eps: 0 });
    const expected = F.nativeLayerNormBackward(dy, unit, 5, ordinary);
    expected.gradInput!.toArray().forEach((e, i) => {
      expect((gradInput!.data[i] as number) * size).toBeCloseTo(e as number, 12);
    });
    expected.gradWeight!.toArray().forEach((e, i) => expect(gradWeight!.data[i]).toBeCloseTo(e as number, 12));
  });
});

describe('refusals', () => {
  const x = tensor(new Float32Array(24), [2, 3, 4]);
  it.each<[string, () => unknown, ErrorConstructor, RegExp]>([
    ['no running mean', () => F.batchNorm(x), RangeError, /batchNorm: running_mean must be defined in evaluation mode/],
    ['no running var', () => F.batchNorm(x, { runningMean: [0, 0, 0] }), RangeError, /running_var must be defined/],
    [
      'nested running statistics in training',
      () => F.batchNorm(x, { runningMean: [0, 0, 0], training: true }),
      TypeError,
      /running_mean must be a tensor, which takes in the batch/,
    ],
    ['rank 1', () => F.batchNorm([1, 2]), RangeError, /expected at least 2D input \(got 1D input\)/],
    [
      'eps 0 in training',
      () => F.batchNorm(x, { training: true, eps: 0 }),
      RangeError,
      /eps must be positive during training, but got 0/,
    ],
    [
      'one value per channel',
      () => F.batchNorm([[1, 2]], { training: true }),
      RangeError,
      /Expected more than 1 value per channel when training, got input size \[1, 2\]/,
    ],
    [
      'weight size',
      () => F.batchNorm(x, { training: true, weight: [1, 1] }),
      RangeError,
      /weight should contain 3 elements not 2/,
    ],
    [
      'weight dtype',
      () => F.layerNorm(x, 4, { weight: tensor(new Float64Array(4)) }),
      TypeError,
      /layerNorm: weight is float64, the input is float32: mixed dtype/,
    ],
    [
      'integers',
      () => F.layerNorm(tensor(new Uint8Array(4)), 4),
      TypeError,
      /input is uint8, but must be floating point/,
    ],
    [
      'instance of one',
      () => F.instanceNorm([[1, 2]]),
      RangeError,
      /Expected more than 1 spatial element when training/,
    ],
    [
      'instance without buffers',
      () => F.instanceNorm(x, { useInputStats: false }),
      RangeError,
      /Expected running_mean and running_var to be defined when use_input_stats is false/,
    ],
    [
      'groups that do not divide',
      () => F.groupNorm(x, 2),
      RangeError,
      /divisible by num_groups, but got input of shape \[2, 3, 4\] and num_groups=2/,
    ],
    [
      'group weight',
      () => F.groupNorm(x, 3, { weight: [1, 1] }),
      RangeError,
      /Expected weight to be a vector of size equal to the number of channels in input, but got weight of shape \[2\]/,
    ],
    ['group bias', () => F.groupNorm(x, 3, { bias: [1, 1] }), RangeError, /Expected bias to be a vector/],
    [
      'group rank',
      () => F.groupNorm([1], 1),
      RangeError,
      /Expected at least 2 dimensions for input tensor but received 1/,
    ],
    [
      'layer weight shape',
      () => F.layerNorm(x, [3, 4], { weight: tensor(new Float32Array(12)) }),
      RangeError,
      /Expected weight to be of same shape as normalized_shape, but got weight of shape \[12\] and normalized_shape = \[3, 4\]/,
    ],
    ['rms shape', () => F.rmsNorm(x, 5), RangeError, /Given normalized_shape=\[5\]/],
    ['unknown option', () => F.rmsNorm(x, 4, { bias: null } as never), TypeError, /unknown option "bias"/],
    [
      'backward without statistics',
      () => F.nativeLayerNormBackward(x, x, 4, undefined as never),
      TypeError,
      /nativeLayerNormBackward: rstd must be a tensor/,
    ],
    [
      'statistics of another size',
      () => F.nativeLayerNormBackward(x, x, 4, { mean: [1], rstd: [1] }),
      RangeError,
      /rstd should contain 6 elements not 1/,
    ],
    [
      'gradient of another shape',
      () => F.nativeGroupNormBackward([[[1]]], x, 1, { mean: [1, 1], rstd: [1, 1] }),
      RangeError,
      /grad_output has shape \[1, 1, 1\]/,
    ],
    [
      'no gradient',
      () => F.nativeGroupNormBackward(null as never, x, 1, { mean: [1, 1], rstd: [1, 1] }),
      TypeError,
      /grad_output must be a tensor, but got null/,
    ],
    [
      'mask',
      () => F.nativeGroupNormBackward(x, x, 1, { mean: [1, 1], rstd: [1, 1], outputMask: [true] as never }),
      TypeError,
      /outputMask must be three booleans/,
    ],
    ['normalize p', () => F.normalize(x, { p: NaN }), TypeError, /p must be a number/],
    [
      'normalize dim',
      () => F.normalize(x, { dim: 3 }),
      RangeError,
      /Dimension out of range \(expected to be in range of \[-3, 2\], but got 3\)/,
    ],
    ['moments axis twice', () => F.moments(x, [0, -3]), RangeError, /dim 0 appears multiple times/],
    ['moments axis kind', () => F.moments(x, ['0'] as never), TypeError, /axes must hold integers/],
    ['moments of integers', () => F.moments(tensor(new Uint8Array(4))), TypeError, /uint8/],
  ])('%s', (_, call, Kind, message) => {
    expect(call).toThrow(Kind);
    expect(call).toThrow(message);
  });
});

it('exports the public names, where package.json says', () => {
  expect(Object.keys(F).sort()).toEqual(
    (
      'batchNorm groupNorm instanceNorm layerNorm localResponseNorm localResponseNormBackward moments nativeBatchNorm nativeBatchNormBackward nativeGroupNorm ' +
      'nativeGroupNormBackward nativeLayerNorm nativeLayerNormBackward nativeRmsNorm nativeRmsNormBackward normalize rmsNorm'
    ).split(' '),
  );
  const manifest = JSON.parse(readFileSync(join(__dirname, '..', '..', 'package.json'), 'utf8')) as {
    exports: Record<string, Record<string, string>>;
  };
  expect(manifest.exports['./functional']).toEqual({
    types: './dist/functional/index.d.ts',
    default: './dist/functional/index.js',
  });
});
