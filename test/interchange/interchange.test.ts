// Layers of Keras, Flax and ONNX as ours. The cases of test/vectors hold their figures in torch's conventions; here each
// is told again in the conventions it came from, converted, and must give the figures. What is a default there is left
// out, so that the defaults are tested too.

import {
  BatchNorm1d,
  BatchNorm2d,
  GroupNorm,
  InstanceNorm1d,
  InstanceNorm2d,
  LayerNorm,
  RMSNorm,
  Sequential,
  Tensor,
  tensor,
  type TensorLike,
  type LocalResponseNorm,
} from '../../lib';
import { fromFlax, fromKeras, fromOnnx, toFlax, toKeras, type NormLayer } from '../../lib/interchange';
import { vectors } from '../support/files';
import { onEveryIsa } from '../support/isa';
import { forms, prepare } from '../support/shapes';
import { readCases, readTensors, type Case, type Data, type Dtype, type Entry } from '../support/vectors';

type Numbers = Partial<Record<'weight' | 'bias' | 'running_mean' | 'running_var', TensorLike>>;
interface Told {
  test: Case;
  dtype: Dtype;
  numbers: Numbers;
  eps: number;
  /** Theirs: the share of the old. */
  momentum: number;
  shape: number[];
}

const arrays = { float32: Float32Array, float64: Float64Array };
const isChannelNorm = (test: Case): boolean => test.module !== 'LayerNorm' && test.module !== 'RMSNorm';
const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);

function tell(test: Case, dtype: Dtype, tensors: Map<string, Data>): Told {
  const { eps, momentum, affine, elementwise_affine } = test.options as Record<string, number | boolean | undefined>;
  const numbers: Numbers = {};
  for (const [key, value] of Object.entries(test.state)) {
    if (typeof value === 'number') continue;
    const { shape, values } = tensors.get(value)!;
    numbers[key as keyof Numbers] = tensor(new arrays[dtype](values), shape);
  }
  // A layer without given values begins with these, here and there.
  const sizes = (test.options.normalized_shape ?? [test.options.num_features ?? test.options.num_channels]) as number[];
  const constant = (value: number): Tensor => tensor(new arrays[dtype](product(sizes)).fill(value), sizes);
  const isInstance = test.module!.startsWith('InstanceNorm');
  if (!isLocal(test) && (affine ?? elementwise_affine ?? !isInstance) !== false) {
    numbers.weight ??= constant(1);
    if (test.module !== 'RMSNorm') numbers.bias ??= constant(0);
  }
  if (test.module!.startsWith('BatchNorm')) {
    numbers.running_mean ??= constant(0);
    numbers.running_var ??= constant(1);
  }
  const input = test.steps.find((step) => step.input)!.input!;
  const old = Number((1 - ((momentum as number | undefined) ?? 0.1)).toFixed(15));
  return {
    test,
    dtype,
    numbers,
    eps: (eps as number | undefined) ?? 1e-5,
    momentum: old,
    shape: tensors.get(input)!.shape,
  };
}

const unlessDefault = <K extends string>(name: K, value: number, byDefault: number): Partial<Record<K, number>> =>
  (value === byDefault ? {} : { [name]: value }) as Partial<Record<K, number>>;
const lastly = ([n, c, ...spatial]: number[]): number[] => [n!, ...spatial, c!];

function asKeras({ test, dtype, numbers, eps, momentum, shape }: Told, channelsLast: boolean): NormLayer {
  const { weight, bias, running_mean, running_var } = numbers;
  const channels = isChannelNorm(test);
  const inputShape = channels && channelsLast ? lastly(shape) : shape;
  const dims = (test.options.normalized_shape as number[] | undefined)?.length ?? 1;
  const axis = channels
    ? channelsLast
      ? -1
      : 1
    : Array.from({ length: dims }, (_, i) => (channelsLast ? i - dims : shape.length - dims + i));
  const name = test.module!.replace(/Norm\dd$|Norm$/, 'Normalization');
  const isInstance = name === 'InstanceNormalization';
  return fromKeras(
    {
      class_name: isInstance ? 'GroupNormalization' : name,
      config: {
        ...(axis !== -1 && { axis: Array.isArray(axis) && axis.length === 1 ? axis[0] : axis }),
        ...unlessDefault('epsilon', eps, name === 'RMSNormalization' ? 1e-6 : 1e-3),
        ...unlessDefault('momentum', momentum, 0.99),
        ...(!weight && { scale: false }),
        ...(!bias && name !== 'RMSNormalization' && { center: false }),
        ...(name === 'GroupNormalization' && { groups: test.options.num_groups }),
        ...(isInstance && { groups: -1 }),
        gamma_initializer: { class_name: 'Ones', config: {} },
      },
      build_config: { input_shape: inputShape },
      weights: [weight, bias, running_mean, running_var].filter((value) => value !== undefined),
    },
    { dtype },
  );
}

function asFlax({ test, dtype, numbers, eps, momentum, shape }: Told, channelsLast: boolean): NormLayer {
  const { weight, bias, running_mean, running_var } = numbers;
  const name = test.module!.replace(/\dd$/, '');
  const dims = (test.options.normalized_shape as number[] | undefined)?.length ?? 1;
  const axes = Array.from({ length: dims }, (_, i) => i - dims);
  const inputShape = isChannelNorm(test) && channelsLast ? lastly(shape) : shape;
  return fromFlax(
    {
      class_name: name,
      config: {
        ...unlessDefault('epsilon', eps, name === 'BatchNorm' ? 1e-5 : 1e-6),
        ...unlessDefault('momentum', momentum, 0.99),
        ...(!weight && { use_scale: false }),
        ...(!bias && { use_bias: false }),
        ...(name === 'GroupNorm' &&
          (channelsLast
            ? { num_groups: test.options.num_groups }
            : {
                num_groups: null,
                group_size: (test.options.num_channels as number) / (test.options.num_groups as number),
              })),
        ...(dims > 1 && { feature_axes: axes, reduction_axes: axes }),
        ...(name === 'BatchNorm' && !channelsLast && { axis: 1 }),
        ...(name === 'InstanceNorm' && !channelsLast && { feature_axes: 1 }),
      },
      params: { ...(weight && { scale: weight }), ...(bias && { bias }) },
      ...(running_mean && { batch_stats: { mean: running_mean, var: running_var! } }),
    },
    // Flax's GroupNorm always has the channels last.
    { inputShape: name === 'GroupNorm' ? lastly(shape) : inputShape, dtype },
  );
}

function asOnnx({ test, dtype, numbers, eps, momentum, shape }: Told): NormLayer | LocalResponseNorm {
  if (isLocal(test)) {
    const { k, ...attributes } = test.options;
    return fromOnnx({ op_type: 'LRN', attributes: { ...attributes, bias: k }, inputs: [] }, { dtype });
  }
  const dims = (test.options.normalized_shape as number[] | undefined)?.length;
  const written = /_axis(_negative_)?(\d)/.exec(test.name);
  const axis = written ? Number(written[2]) * (written[1] ? -1 : 1) : -1;
  if (dims !== undefined) expect([axis, axis + shape.length]).toContain(axis < 0 ? -dims : shape.length - dims);
  const { weight, bias, running_mean, running_var } = numbers;
  return fromOnnx(
    {
      op_type: test.module!.replace(/Norm(\dd)?$/, 'Normalization'),
      attributes: {
        ...unlessDefault('epsilon', eps, 1e-5),
        ...unlessDefault('momentum', momentum, 0.9),
        ...(dims !== undefined && axis !== -1 && { axis }),
        ...(test.module === 'GroupNorm' && { num_groups: test.options.num_groups }),
        ...(test.name.includes('training_mode') && { training_mode: 1 }),
      },
      inputs: [weight, bias, running_mean, running_var],
    },
    { inputShape: shape, dtype },
  );
}

/** By the rules of test/vectors/README.md, in logical order. */
function near(what: string, got: Tensor, entry: Entry, dtype: Dtype, tensors: Map<string, Data>): void {
  const name = typeof entry.tensor === 'string' ? entry.tensor : entry.tensor![dtype];
  const { shape, values } = tensors.get(name)!;
  expect([what, got.shape]).toEqual([what, shape]);
  const unit = dtype === 'float64' && entry.precision !== 'float32' ? 1e-12 : 2e-6;
  const actual = got.toArray() as number[];
  values.forEach((e, i) => {
    const allowed = unit * Math.abs(e) + unit * entry.scale + (entry.abs ?? 0);
    if (!(Math.abs(actual[i]! - e) <= allowed)) throw new Error(`${what}[${i}]: got ${actual[i]}, expected ${e}`);
  });
}

/** The tensor (N, C, ...S) of a case, in memory (N, ...S, C) where that is how the framework has it. */
function given({ shape, values }: Data, dtype: Dtype, channelsLast: boolean): Tensor {
  const x = tensor(new arrays[dtype](values), shape);
  if (!channelsLast || shape.length < 3) return x;
  const spatial = shape.slice(2).map((_, i) => i + 2);
  return x
    .permute([0, ...spatial, 1])
    .copy()
    .permute([0, shape.length - 1, ...spatial.map((_, i) => i + 1)]);
}

/** The figures of every step; an ONNX node is in the mode it says. */
function run(
  layer: NormLayer | LocalResponseNorm,
  { test, dtype }: Told,
  tensors: Map<string, Data>,
  channelsLast: boolean,
): number {
  let figures = 0;
  for (const [i, step] of test.steps.entries()) {
    const last = channelsLast && isChannelNorm(test);
    const results: Record<string, Tensor | null | undefined> = {};
    if (step.op === 'forward') {
      if (test.source === 'onnx' && test.module!.startsWith('BatchNorm'))
        expect(layer.training).toBe(step.mode === 'train');
      else layer.train(step.mode === 'train');
      results.output = layer.forward(given(tensors.get(step.input!)!, dtype, last));
    } else if (step.op === 'backward') {
      layer.zeroGrad();
      results.grad_input = layer.backward(given(tensors.get(step.grad_output!)!, dtype, last));
    } else {
      const fields: Record<string, Tensor | null> = { weight: layer.weight, bias: layer.bias };
      for (const [name, value] of Object.entries(step.state ?? {})) {
        (fields[name]!.data as Float64Array).set(tensors.get(value as string)!.values);
      }
    }
    results.grad_weight = layer.weight?.grad;
    results.grad_bias = layer.bias?.grad;
    if ('runningMean' in layer) [results.running_mean, results.running_var] = [layer.runningMean, layer.runningVar];
    for (const [name, entry] of Object.entries(step.expect ?? {})) {
      const got = results[name];
      if (typeof entry === 'number' || entry.optional || !got) continue;
      near(`step ${i}: ${name}`, got, entry, dtype, tensors);
      figures++;
    }
  }
  return figures;
}

const cases = readCases(vectors).filter((test) => test.kind === 'module' && test.module);
const isLocal = (test: Case): boolean => test.module!.startsWith('Local');
const keras = cases.filter((test) => (test.source === 'keras' || test.source === 'tfjs') && !isLocal(test));
const onnx = cases.filter((test) => test.source === 'onnx' && test.name !== 'test_mvn');
const named = (list: Case[]): [string, Case][] => list.map((test) => [test.name, test]);

onEveryIsa('figures', () => {
  it.each(named(keras))('of Keras: %s', (_, test) => {
    const tensors = readTensors(test, vectors);
    for (const dtype of test.dtypes) {
      for (const channelsLast of [true, false]) {
        const told = tell(test, dtype, tensors);
        const layer = asKeras(told, channelsLast);
        expect(run(layer, told, tensors, channelsLast)).toBeGreaterThan(0);
        if ('momentum' in layer) expect(layer.momentum).toBe(test.options.momentum ?? 0.1);
      }
    }
  });

  it.each(named(onnx))('of ONNX: %s', (_, test) => {
    const tensors = readTensors(test, vectors);
    for (const dtype of test.dtypes) {
      const told = tell(test, dtype, tensors);
      const layer = asOnnx(told);
      expect(layer.constructor.name).toBe(test.module);
      expect(run(layer, told, tensors, false)).toBeGreaterThan(0);
    }
  });

  // There are no figures of Flax itself: the same layers under its names and conventions.
  it.each(named([...keras, ...onnx.filter((test) => !isLocal(test))]))('under the names of Flax: %s', (_, test) => {
    const tensors = readTensors(test, vectors);
    for (const dtype of test.dtypes) {
      for (const channelsLast of [true, false]) {
        const told = tell({ ...test, source: 'flax' }, dtype, tensors);
        const layer = asFlax(told, channelsLast);
        expect(layer.constructor.name).toBe(test.module);
        expect(run(layer, told, tensors, channelsLast)).toBeGreaterThan(0);
      }
    }
  });
});

describe('the variance convention', () => {
  const whole = keras.filter(({ options, steps }) => options.momentum === 1 && steps[0]!.expect?.running_var);

  it('has cases', () => expect(whole.length).toBeGreaterThan(15));

  it.each(named(whole))('%s', (_, test) => {
    const tensors = readTensors(test, vectors);
    const entry = test.steps[0]!.expect!.running_var as Entry;
    const [n, , ...spatial] = tensors.get(test.steps[0]!.input!)!.shape as [number, number, ...number[]];
    const count = n * product(spatial);
    const told = tell(test, 'float64', tensors);
    // With a momentum that forgets, theirs is the biased variance of the batch, ours the unbiased one.
    const unbiased = tensors.get(entry.tensor as string)!.values;
    const biased = unbiased.map((value) => (value * (count - 1)) / count);
    const weights = [told.numbers.weight!, told.numbers.bias!, told.numbers.running_mean!, tensor(biased)];
    const layer = { class_name: 'BatchNormalization', config: {}, weights };
    const options = {
      inputShape: [...told.shape.slice(0, 1), ...told.shape.slice(2), told.shape[1]!],
      dtype: 'float64' as const,
    };
    const kept = fromKeras(layer, options) as BatchNorm1d;
    expect(kept.runningVar!.toArray()).toEqual([...biased]);
    const converted = fromKeras(layer, { ...options, n: count }) as BatchNorm1d;
    near('running_var', converted.runningVar!, entry, 'float64', tensors);
    const back = toKeras(converted, { n: count }).weights.at(-1)!.toArray() as number[];
    back.forEach((value, i) => expect(value).toBeCloseTo(biased[i]!, 12));
    expect(toFlax(converted, { n: count }).batch_stats!.var!.toArray()).toEqual(back);
  });
});

describe('there and back', () => {
  const chosen = [
    ...new Map(
      forms
        .filter((form) => !form.name.includes('axis'))
        .map((form) => [`${form.name.split(/[ (]/)[0]}${form.shape.length}${form.channelsLast}`, form]),
    ).values(),
  ];

  it.each(chosen.map((form) => [form.name, form] as const))('%s', (_, form) => {
    const { layer, x } = prepare(form, 'float64');
    const ours = layer as unknown as NormLayer;
    if ('runningVar' in ours && ours.runningVar) ours.forward(x);
    ours.eval();
    const y = ours.forward(x).toArray();
    const inputShape =
      form.name.startsWith('LayerNorm') || form.name.startsWith('RMSNorm') ? form.shape : lastly(form.shape);
    const keras = fromKeras(toKeras(ours), { inputShape, dtype: 'float64' }).eval();
    expect(keras.forward(x).toArray()).toEqual(y);
    const flax = fromFlax(toFlax(ours), { inputShape, dtype: 'float64' }).eval();
    expect(String(flax)).toBe(String(ours).replace('eps=None', `eps=${2 ** -52}`));
    expect(flax.forward(x).toArray()).toEqual(y);
  });

  it('says what Keras and Flax call it', () => {
    const bn = new BatchNorm2d(2, { eps: 1e-3, momentum: 0.01 });
    const { class_name, config, weights } = toKeras(bn);
    expect(class_name).toBe('BatchNormalization');
    expect(config).toEqual({ axis: -1, momentum: 0.99, epsilon: 0.001, scale: true, center: true, trainable: true });
    expect(weights.map((w) => w.toArray())).toEqual([
      [1, 1],
      [0, 0],
      [0, 0],
      [1, 1],
    ]);
    expect(weights[0]).not.toBe(bn.weight);
    (weights[3]!.data as Float32Array).fill(5);
    expect(bn.runningVar!.toArray()).toEqual([1, 1]);
    expect(toKeras(new InstanceNorm1d(3)).config).toEqual({
      groups: -1,
      axis: -1,
      epsilon: 1e-5,
      scale: false,
      center: false,
      trainable: true,
    });
    expect(toKeras(new LayerNorm([4, 5]).freeze()).config).toEqual({
      axis: [-2, -1],
      epsilon: 1e-5,
      scale: true,
      center: true,
      trainable: false,
    });
    expect(toKeras(new RMSNorm(4, { eps: 1e-6 }))).toMatchObject({
      class_name: 'RMSNormalization',
      config: { axis: -1, epsilon: 1e-6 },
    });
    expect(toFlax(bn).config).toEqual({ axis: -1, momentum: 0.99, epsilon: 0.001, use_scale: true, use_bias: true });
    expect(toFlax(new GroupNorm(2, 4, { bias: false })).config).toEqual({
      num_groups: 2,
      epsilon: 1e-5,
      use_scale: true,
      use_bias: false,
    });
  });
});

describe('what a converter understands', () => {
  const weights = [
    [1, 2],
    [3, 4],
    [5, 6],
    [7, 8],
  ];
  const bn = { class_name: 'BatchNormalization', config: {}, weights };

  it('a scale or an offset that is switched off', () => {
    const shape = { inputShape: [null, 2] };
    const noScale = fromKeras({ ...bn, config: { scale: false }, weights: weights.slice(1) }, shape) as BatchNorm1d;
    expect([noScale.weight!.toArray(), noScale.weight!.requiresGrad]).toEqual([[1, 1], false]);
    expect([noScale.bias!.toArray(), noScale.runningMean!.toArray()]).toEqual([
      [3, 4],
      [5, 6],
    ]);
    const noCenter = fromKeras(
      {
        ...bn,
        config: { center: false },
        weights: [
          [1, 2],
          [5, 6],
          [7, 8],
        ],
      },
      shape,
    ) as BatchNorm1d;
    expect([noCenter.weight!.toArray(), noCenter.bias, noCenter.runningVar!.toArray()]).toEqual([[1, 2], null, [7, 8]]);
    const neither = fromKeras({ ...bn, config: { center: false, scale: false }, weights: weights.slice(2) }, shape);
    expect([neither.weight, neither.bias]).toEqual([null, null]);
  });

  it('a layer that is not trained', () => {
    expect(fromKeras({ ...bn, config: { trainable: false } }, { inputShape: [null, 2] }).train().training).toBe(false);
  });

  it("Keras's JSON, axis in a list and sizes from build_config", () => {
    const json = {
      module: 'keras.layers',
      ...bn,
      config: { axis: [3], momentum: 0.9 },
      build_config: { input_shape: [null, 8, 8, 2] },
    };
    const layer = fromKeras(JSON.parse(JSON.stringify(json)) as typeof json);
    expect(String(layer)).toBe(
      'BatchNorm2d(2, eps=0.001, momentum=0.1, affine=True, bias=True, track_running_stats=True)',
    );
    expect(
      String(
        fromKeras(
          { class_name: 'GroupNormalization', config: { groups: 2, center: false, scale: false }, weights: [] },
          { inputShape: [null, 4] },
        ),
      ),
    ).toMatch(/^GroupNorm\(2, 4,/);
  });

  it('axes out of order, by the order of memory', () => {
    const told = {
      class_name: 'LayerNormalization',
      config: { axis: [2, 1] },
      weights: [
        [
          [1, 2],
          [3, 4],
          [5, 6],
        ],
        [
          [0, 0],
          [0, 0],
          [0, 0],
        ],
      ],
    };
    const layer = fromKeras(told, { inputShape: [null, 2, 3] });
    expect([layer.weight!.shape, layer.weight!.toArray()]).toEqual([
      [2, 3],
      [1, 2, 3, 4, 5, 6],
    ]);
  });

  it('half precision and float64 parameters', () => {
    const half = weights.map((w) => tensor(w, [2], { dtype: 'float16' }));
    const layer = fromKeras({ ...bn, weights: half }, { inputShape: [null, 2] }) as BatchNorm1d;
    expect([layer.weight!.dtype, layer.runningVar!.toArray()]).toEqual(['float32', [7, 8]]);
    expect(layer.numBatchesTracked).toBe(0);
  });

  it("ONNX's scales by group, before operator set 21", () => {
    const node = {
      op_type: 'GroupNormalization',
      attributes: { num_groups: 2 },
      inputs: [
        [1, 2],
        [3, 4],
      ],
    };
    const layer = fromOnnx(node, { inputShape: [null, 4, null], opset: 18 });
    expect([layer.weight!.toArray(), layer.bias!.toArray()]).toEqual([
      [1, 1, 2, 2],
      [3, 3, 4, 4],
    ]);
  });

  it("ONNX's broadcast scales and absent offsets", () => {
    const node = { op_type: 'LayerNormalization', attributes: { axis: 1 }, inputs: [tensor([1, 2, 3], [3])] };
    const layer = fromOnnx(node, { inputShape: [null, 2, 3] }) as LayerNorm;
    expect([layer.normalizedShape, layer.weight!.toArray(), layer.bias]).toEqual([[2, 3], [1, 2, 3, 1, 2, 3], null]);
    const one = fromOnnx(
      { op_type: 'RMSNormalization', inputs: [tensor([2], [])] },
      { inputShape: [null, 3] },
    ) as RMSNorm;
    expect([one.eps, one.weight!.toArray()]).toEqual([1e-5, [2, 2, 2]]);
  });
});

describe('what it refuses', () => {
  const weights = [
    [1, 2],
    [3, 4],
    [5, 6],
    [7, 8],
  ];
  const shape = { inputShape: [null, 2] };
  const keras = (config: Record<string, unknown>, more: object = {}, options: object = shape) =>
    fromKeras({ class_name: 'BatchNormalization', config, weights, ...more }, options);
  const node = (op_type: string, attributes: object, inputs: TensorLike[], options: object = {}) =>
    fromOnnx({ op_type, attributes: attributes as Record<string, unknown>, inputs }, options);
  it.each<[string, () => unknown, new () => Error, RegExp]>([
    [
      'another class',
      () => keras({}, { class_name: 'Dense' }),
      TypeError,
      /fromKeras: Dense: class_name must be BatchNorm/,
    ],
    ['nothing', () => fromKeras(undefined as never), TypeError, /weights must be an array, but got undefined/],
    ['no config', () => keras(null as never), TypeError, /settings must be an object, but got null/],
    ['an unknown option', () => keras({}, {}, { rank: 4 }), TypeError, /unknown option "rank"/],
    ['no shape', () => keras({}, {}, {}), TypeError, /inputShape must be given, for the number of its dimensions/],
    [
      'six dimensions',
      () => keras({}, {}, { inputShape: [1, 1, 1, 1, 1, 2] }),
      RangeError,
      /inputs must have 2, 3, 4, 5/,
    ],
    [
      'other channels',
      () => keras({}, {}, { inputShape: [null, 3] }),
      RangeError,
      /inputShape has 3 channels, the parameters 2/,
    ],
    ['two channel axes', () => keras({ axis: [1, 2] }), RangeError, /there must be one channel axis, but got \[1, 2\]/],
    [
      'an axis that is not there',
      () => keras({ axis: 2 }),
      RangeError,
      /axes \[2\] do not fit an input of 2 dimensions/,
    ],
    ['an axis in words', () => keras({ axis: 'last' }), TypeError, /axis must be an integer or several/],
    ['too few weights', () => keras({}, { weights: weights.slice(1) }), RangeError, /there are only 3 weights/],
    ['too many weights', () => keras({ scale: false }), RangeError, /there are 1 weights too many/],
    [
      'weights of other sizes',
      () => keras({}, { weights: [[1, 2], [3, 4], [5], [7, 8]] }),
      RangeError,
      /mean has shape \[1\], the layer has \[2\]/,
    ],
    ['a weight that is none', () => keras({}, { weights: ['x', [1], [1], [1]] }), TypeError, /scale must be a tensor/],
    ['renorm', () => keras({ renorm: true }), RangeError, /renorm is true: our layers have no batch renormalization/],
    ['virtual batches', () => keras({ virtual_batch_size: 8 }), RangeError, /virtual_batch_size is 8/],
    [
      'rms_scaling',
      () => fromKeras({ class_name: 'LayerNormalization', config: { rms_scaling: true }, weights: [[1]] }),
      RangeError,
      /rms_scaling is true/,
    ],
    ['momentum in words', () => keras({ momentum: '0.9' }), TypeError, /momentum must be a number/],
    ['n of 1', () => keras({}, {}, { ...shape, n: 1 }), RangeError, /n must be an integer of at least 2, but got 1/],
    [
      'axes in the middle',
      () =>
        fromKeras(
          { class_name: 'LayerNormalization', config: { axis: 1 }, weights: [[1], [1]] },
          { inputShape: [null, 2, 3] },
        ),
      RangeError,
      /axes \[1\] of 3 dimensions are not the last ones/,
    ],
    [
      'no sizes',
      () => fromKeras({ class_name: 'LayerNormalization', config: { scale: false, center: false }, weights: [] }),
      TypeError,
      /inputShape must give the sizes of axes \[-1\]/,
    ],
    [
      'no channels',
      () => fromKeras({ class_name: 'GroupNormalization', config: { scale: false, center: false }, weights: [] }),
      TypeError,
      /inputShape must give the number of channels/,
    ],
    [
      'Flax of another class',
      () => fromFlax({ class_name: 'SpectralNorm', config: { use_scale: false, use_bias: false } }),
      TypeError,
      /class_name must be/,
    ],
    [
      'Flax without its scale',
      () => fromFlax({ class_name: 'LayerNorm', config: {}, params: {} }),
      TypeError,
      /params must have scale/,
    ],
    [
      'Flax without its mean',
      () => fromFlax({ class_name: 'BatchNorm', config: {}, params: { scale: [1], bias: [1] } }),
      TypeError,
      /batch_stats must have mean/,
    ],
    [
      'Flax reducing other axes',
      () =>
        fromFlax({ class_name: 'LayerNorm', config: { reduction_axes: [-2, -1] }, params: { scale: [1], bias: [1] } }),
      RangeError,
      /feature_axes \[-1\] and reduction_axes \[-2, -1\] must be the same/,
    ],
    ['another operator', () => node('Softmax', {}, []), TypeError, /op_type must be BatchNormalization/],
    ['no inputs', () => fromOnnx({ op_type: 'LayerNormalization' } as never), TypeError, /inputs must be an array/],
    ['a missing input', () => node('InstanceNormalization', {}, [[1]]), TypeError, /inputs must have B at 1/],
    ['spatial 0', () => node('BatchNormalization', { spatial: 0 }, weights, shape), RangeError, /spatial is 0/],
    ['no groups', () => node('GroupNormalization', {}, [[1], [1]]), TypeError, /num_groups must be an integer/],
    [
      'groups without channels',
      () =>
        node(
          'GroupNormalization',
          { num_groups: 2 },
          [
            [1, 1],
            [1, 1],
          ],
          { opset: 18 },
        ),
      TypeError,
      /inputShape must give the number of channels/,
    ],
    [
      'channels that do not divide',
      () =>
        node(
          'GroupNormalization',
          { num_groups: 2 },
          [
            [1, 1],
            [1, 1],
          ],
          { opset: 18, inputShape: [1, 3] },
        ),
      RangeError,
      /3 channels cannot be divided into 2 groups/,
    ],
    [
      'axis 0 without a shape',
      () => node('LayerNormalization', { axis: 0 }, [[1]]),
      TypeError,
      /inputShape must be given, for axes counted/,
    ],
    [
      'a scale that does not broadcast',
      () => node('LayerNormalization', {}, [[1, 2]], { inputShape: [null, 3] }),
      RangeError,
      /scale has shape \[2\], which cannot be broadcast to \[3\]/,
    ],
    [
      'to Keras: no layer',
      () => toKeras(null as never),
      TypeError,
      /toKeras: layer must be a normalization layer, but got null/,
    ],
    ['to Keras: a network', () => toKeras(new Sequential() as never), TypeError, /must be a normalization layer/],
    [
      'to Keras: an average of all batches',
      () => toKeras(new BatchNorm1d(2, { momentum: null })),
      RangeError,
      /momentum null/,
    ],
    [
      'to Flax: no statistics',
      () => toFlax(new BatchNorm1d(2, { trackRunningStats: false })),
      RangeError,
      /torch only/,
    ],
    [
      'to Keras: tracked instances',
      () => toKeras(new InstanceNorm2d(2, { trackRunningStats: true })),
      RangeError,
      /torch only/,
    ],
    [
      'to Keras: no scale',
      () => toKeras(new RMSNorm(2, { elementwiseAffine: false })),
      RangeError,
      /always has a scale/,
    ],
  ])('%s', (_, call, Kind, message) => {
    let error: unknown;
    try {
      call();
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(Kind);
    expect((error as Error).message).toMatch(message);
  });
});
