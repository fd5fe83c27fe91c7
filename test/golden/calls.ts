// Seeded calls whose results have the same bits on every platform, instruction set and number of threads: every layer
// forward and backward, in every storage, at sizes around the edges of a vector, and some large enough for blocks,
// threads and stores past the caches.

import type { Tensor, TensorData } from 'simdnorm';
import type * as Preprocessing from 'simdnorm/preprocessing';
import type { Api } from '../support/run-case';
import { generate } from '../support/vectors';

export interface GoldenApi extends Api {
  preprocessing: typeof Preprocessing;
}
/** Arrays of numbers, as they lie. */
export type Outputs = (TensorData | Tensor | null | undefined)[];

export interface Call {
  name: string;
  /** Of megabytes: too slow for an emulator. */
  large: boolean;
  /** Makes the inputs; what it returns computes, with the instruction set and threads in use. */
  prepare(api: GoldenApi): () => Outputs;
}

type Storage = 'float32' | 'float64' | 'float16' | 'bfloat16';
const storages: readonly Storage[] = ['float32', 'float64', 'float16', 'bfloat16'];
/** Of parameters. */
const dtypeOf = (storage: Storage): 'float32' | 'float64' => (storage === 'float64' ? 'float64' : 'float32');

/** Different for each name, so that a call that is added changes no other one's numbers. */
function seedOf(name: string): number {
  let seed = 0;
  for (const letter of name) seed = (Math.imul(seed, 31) + letter.codePointAt(0)!) | 0;
  return seed;
}

type Fill = (values: Float64Array) => void;

/** Values around `mean`; of shape (N, C, ...), in memory (N, ...S, C) where `last`. */
function tensorOf(
  { simdnorm }: GoldenApi,
  name: string,
  shape: number[],
  storage: Storage,
  { mean = 0, spread = 1, last = false, fill }: { mean?: number; spread?: number; last?: boolean; fill?: Fill } = {},
): Tensor {
  const { values } = generate({ seed: seedOf(name), dist: 'bell', a: mean, b: spread }, shape);
  fill?.(values);
  const data = storage === 'float64' ? values : new Float32Array(values);
  const [n, c, ...spatial] = shape;
  const memory = new simdnorm.Tensor(data, last ? [n!, ...spatial, c!] : shape).to(storage);
  return last ? memory.permute(0, spatial.length + 1, ...spatial.map((_, i) => i + 1)) : memory;
}

interface Layer {
  forward(x: Tensor, options?: object): Tensor;
  backward(dy: Tensor, options?: object): Tensor;
  eval(): unknown;
  weight: Tensor & { grad: Tensor | null };
  bias: Tensor & { grad: Tensor | null };
  runningMean?: Tensor | null;
  runningVar?: Tensor | null;
}

/** A layer in one shape, and the options of its calls. */
interface Form {
  layer: string;
  args: unknown[];
  shape: number[];
  last?: boolean;
  options?: object;
  forward?: object;
  add?: boolean;
}

/** A step of training and one of evaluation. */
function prepareForm(api: GoldenApi, form: Form, storage: Storage, fill?: Fill): () => Outputs {
  const { layer: name, args, shape, last = false, options, forward = {}, add } = form;
  const key = `${name} ${shape.join('x')}`;
  const lies = { last };
  const x = tensorOf(api, `${key} x`, shape, storage, { ...lies, mean: 3, spread: 2, ...(fill && { fill }) });
  const dy = tensorOf(api, `${key} dy`, shape, storage, { ...lies, mean: 0.1 });
  const shortcut = add ? tensorOf(api, `${key} add`, shape, storage, { ...lies, mean: -0.2 }) : null;
  const Class = (api.simdnorm as unknown as Record<string, new (...args: unknown[]) => Layer>)[name]!;
  const dtype = dtypeOf(storage);
  const numbers = (what: string, size: number, mean: number): Float64Array =>
    generate({ seed: seedOf(key + what), dist: 'bell', a: mean, b: 0.5 }, [size]).values;
  return () => {
    const layer = new Class(...args, { dtype, ...options });
    if (layer.weight) (layer.weight.data as Float64Array).set(numbers('weight', layer.weight.size, 1));
    if (layer.bias) (layer.bias.data as Float64Array).set(numbers('bias', layer.bias.size, 0));
    const gradAdd =
      shortcut && new api.simdnorm.Tensor(dy.data.slice(), shape, { strides: dy.strides, dtype: dy.dtype });
    const call = { ...forward, ...(shortcut && { add: shortcut }) };
    const back = gradAdd ? { gradAdd } : {};
    const found: Outputs = [layer.forward(x, call), layer.backward(dy, back), layer.weight?.grad, layer.bias?.grad];
    found.push(gradAdd, layer.runningMean, layer.runningVar);
    if (layer.runningMean) {
      layer.eval();
      found.push(layer.forward(x, call), layer.backward(dy, back));
    }
    return found;
  };
}

const together = (runs: (() => Outputs)[]) => (): Outputs => runs.flatMap((run) => run());

/** Forms that share a digest for each storage. */
function family(name: string, forms: Form[], of = storages, large = false): Call[] {
  return of.map((storage) => ({
    name: `${name}, ${storage}`,
    large,
    prepare: (api) => together(forms.map((form) => prepareForm(api, form, storage))),
  }));
}

/** Around 16 lanes, their multiples, and a block. */
const edges = [2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 1009];
const around = (form: (size: number) => Form): Form[] => edges.map(form);

const batch = (shape: number[], last = false, more: Partial<Form> = {}): Form => ({
  layer: `BatchNorm${Math.max(1, shape.length - 2)}d`,
  args: [shape[1]],
  shape,
  last,
  ...more,
});
const instance = (shape: number[], last = false, more: Partial<Form> = {}): Form => ({
  layer: `InstanceNorm${shape.length - 2}d`,
  args: [shape[1]],
  shape,
  last,
  ...more,
  options: { affine: true, ...more.options },
});
const group = (groups: number, shape: number[], last = false, more: Partial<Form> = {}): Form => ({
  layer: 'GroupNorm',
  args: [groups, shape[1]],
  shape,
  last,
  ...more,
});
const trailing = (layer: 'LayerNorm' | 'RMSNorm', dims: number, shape: number[], more: Partial<Form> = {}): Form => ({
  layer,
  args: [shape.slice(-dims)],
  shape,
  ...more,
});
const overAxis = (axis: number, shape: number[], last = false): Form => ({
  layer: 'LayerNorm',
  args: [shape[axis]],
  shape,
  last,
  options: { axis },
});
const response = (layer: string, size: number, shape: number[], last = false, options: object = {}): Form => ({
  layer,
  args: [size],
  shape,
  last,
  options,
});

const small: Call[] = [
  ...family(
    'BatchNorm1d 5x3xL',
    around((l) => batch([5, 3, l])),
  ),
  ...family(
    'BatchNorm1d 6xC',
    around((c) => batch([6, c])),
  ),
  ...family(
    'BatchNorm2d 3xCx5x4 channels-last',
    around((c) => batch([3, c, 5, 4], true)),
  ),
  ...family('BatchNorm3d', [batch([2, 7, 3, 4, 5]), batch([2, 19, 3, 4, 5], true)]),
  ...family('SyncBatchNorm', [{ layer: 'SyncBatchNorm', args: [7], shape: [3, 7, 19] }]),
  ...family('BatchNorm1d, momentum null and eps 0.1', [
    batch([300, 33, 7], false, { options: { momentum: null, eps: 0.1 } }),
    batch([700, 40], false, { options: { momentum: null, eps: 0.1 } }),
  ]),
  ...family(
    'InstanceNorm1d 4x3xL',
    around((l) => instance([4, 3, l])),
  ),
  ...family(
    'InstanceNorm2d 2xCx6x7 channels-last',
    around((c) => instance([2, c, 6, 7], true)),
  ),
  ...family('InstanceNorm, running statistics', [
    instance([3, 5, 6, 7], false, { options: { trackRunningStats: true } }),
    instance([2, 16, 4, 5, 6], true, { options: { trackRunningStats: true } }),
  ]),
  ...family(
    'GroupNorm(2) 3x6xL',
    around((l) => group(2, [3, 6, l])),
  ),
  ...family(
    'GroupNorm(3) 4x3C',
    around((c) => group(3, [4, 3 * c])),
  ),
  ...family(
    'GroupNorm(2) 3x2Cx5x7 channels-last',
    around((c) => group(2, [3, 2 * c, 5, 7], true)),
  ),
  ...family(
    'LayerNorm 5xD',
    around((d) => trailing('LayerNorm', 1, [5, d])),
  ),
  ...family('LayerNorm over two dimensions', [
    trailing('LayerNorm', 2, [3, 4, 5, 6]),
    trailing('LayerNorm', 2, [2, 71, 73]),
  ]),
  ...family(
    'LayerNorm over axis 1 of 3x5xS',
    around((s) => overAxis(1, [3, 5, s])),
  ),
  ...family('LayerNorm over an axis', [
    overAxis(1, [3, 18, 5, 7], true),
    overAxis(2, [2, 3, 65, 4]),
    overAxis(0, [5, 6, 3]),
  ]),
  ...family(
    'RMSNorm 5xD',
    around((d) => trailing('RMSNorm', 1, [5, d])),
  ),
  ...family(
    'LocalResponseNorm(5) 2x7xS',
    around((s) => response('LocalResponseNorm', 5, [2, 7, s])),
  ),
  ...family(
    'LocalResponseNorm(3) 2xCx3x5 channels-last',
    around((c) => response('LocalResponseNorm', 3, [2, c, 3, 5], true)),
  ),
  ...family(
    'LocalResponseNorm, powers and windows',
    [0.5, 0.75, 1, 2, 1.7, -0.3].flatMap((beta, i) => [
      response('LocalResponseNorm', i + 1, [2, 9, 33], false, { alpha: 0.3, beta, k: 2 }),
      response('CrossMapLRN2d', 2 * i + 1, [2, 9, 3, 11], false, { alpha: 0.2, beta, k: 1.5 }),
    ]),
  ),
  ...family('ReLU and a shortcut', [
    batch([5, 3, 129], false, { options: { relu: true }, add: true }),
    batch([3, 33, 5, 4], true, { options: { relu: true }, add: true }),
    instance([4, 3, 65], false, { options: { relu: true }, add: true }),
    group(3, [4, 6, 5, 7], true, { options: { relu: true }, add: true }),
    trailing('LayerNorm', 1, [5, 127], { options: { relu: true }, add: true }),
    trailing('RMSNorm', 1, [5, 63], { options: { relu: true } }),
    { ...overAxis(1, [2, 17, 5, 7]), add: true },
  ]),
  ...family('masks and lengths', [
    batch([4, 5, 33], false, { forward: { lengths: [33, 1, 17, 0] } }),
    batch([4, 18, 33], true, { forward: { lengths: [5, 33, 16, 2] } }),
    batch([6, 40], false, { forward: { mask: [1, 0, 1, 1, 0, 1] } }),
    instance([3, 4, 65], false, { forward: { lengths: [64, 9, 65] } }),
    group(2, [3, 6, 47], false, { forward: { lengths: [47, 31, 15] } }),
    trailing('LayerNorm', 1, [6, 129], { forward: { mask: [0, 1, 1, 0, 1, 1] } }),
    trailing('RMSNorm', 1, [6, 65], { forward: { mask: [1, 1, 0, 0, 1, 0] } }),
  ]),
];

/** Data that take other paths. */
const hard: Record<string, Fill> = {
  'means a million deviations away': (x) => x.forEach((v, i) => (x[i] = 1e6 + v)),
  outliers: (x) => x.forEach((_, i) => i % 37 === 5 && (x[i] = 1e10)),
  constants: (x) => x.fill(1 / 3),
  'values near the largest float': (x) => x.forEach((v, i) => (x[i] = Math.max(-3e38, Math.min(3e38, v * 1e38)))),
  denormals: (x) => x.forEach((v, i) => (x[i] = v * 1e-42)),
  'NaN and infinity': (x) => {
    x[Math.floor(x.length / 3)] = NaN;
    x[Math.floor(x.length / 2)] = -Infinity;
  },
};
const hardForms = [
  batch([5, 7, 130]),
  batch([9, 20, 5, 6], true),
  instance([3, 4, 300]),
  group(2, [3, 6, 70]),
  group(2, [3, 34, 5, 7], true),
  trailing('LayerNorm', 1, [7, 1030]),
  trailing('RMSNorm', 1, [7, 1030]),
  overAxis(1, [2, 17, 35]),
  response('LocalResponseNorm', 5, [2, 7, 40]),
];
const onHardData: Call[] = Object.entries(hard).flatMap(([name, fill]) =>
  (['float32', 'float64'] as const).map((storage) => ({
    name: `${name}, ${storage}`,
    large: false,
    prepare: (api: GoldenApi) => together(hardForms.map((form) => prepareForm(api, form, storage, fill))),
  })),
);

const functions: Call[] = storages.map((storage) => ({
  name: `functions, ${storage}`,
  large: false,
  prepare: (api) => {
    const { functional: f } = api;
    const x = tensorOf(api, 'functions x', [6, 10, 7, 9], storage, { mean: 3, spread: 2 });
    const last = tensorOf(api, 'functions x', [6, 10, 7, 9], storage, { mean: 3, spread: 2, last: true });
    const dy = tensorOf(api, 'functions dy', [6, 10, 7, 9], storage);
    const of = (size: number): Tensor => tensorOf(api, 'functions weight', [size], dtypeOf(storage), { mean: 1 });
    return () => {
      const axes = [[0], [1], [2, 3], [0, 2, 3], [0, 2], [1, 3], [0, 1, 2, 3]];
      const found: Outputs = axes.flatMap((over) => {
        const { mean, var: variance } = f.moments(x, over, { correction: 1 });
        return [mean, variance, f.moments(last, over).var];
      });
      for (const p of [1, 2, Infinity])
        found.push(f.normalize(x, { p, dim: 1 }), f.normalize(last, { p, dim: [2, 3] }));
      const { output, mean, rstd } = f.nativeGroupNorm(x, 5, { weight: of(10) });
      const back = f.nativeGroupNormBackward(dy, x, 5, { mean: mean!, rstd, weight: of(10) });
      found.push(output, mean, rstd, back.gradInput, back.gradWeight, back.gradBias);
      found.push(
        f.instanceNorm(x),
        f.layerNorm(x, [7, 9]),
        f.rmsNorm(last, 9),
        f.localResponseNorm(last, 4, { beta: 0.6 }),
      );
      return found;
    };
  },
}));

const bytes = (name: string, size: number): Uint8Array =>
  Uint8Array.from(generate({ seed: seedOf(name), dist: 'uniform', a: 0, b: 256 }, [size]).values);

function images(width: number, height: number, large: boolean): Call[] {
  return storages.map((dtype) => ({
    name: `images ${width}x${height}, ${dtype}`,
    large,
    prepare: ({ preprocessing: { imagesToTensor, tensorToImages } }) => {
      const sources = [1, 2, 3, 4].map((channels) =>
        [0, 1].map((i) => ({ data: bytes(`image ${i}`, width * height * channels), width, height, channels })),
      );
      return () =>
        sources.flatMap((source) => {
          const { channels } = source[0]!;
          const scaling = {
            mean: [0.485, 0.456, 0.406, 0.5].slice(0, channels),
            std: [0.229, 0.224, 0.225, 0.25].slice(0, channels),
          };
          const orders = channels < 3 ? (['rgb'] as const) : (['rgb', 'bgr'] as const);
          const found: Outputs = [];
          for (const layout of ['chw', 'hwc'] as const) {
            for (const order of orders) {
              const y = imagesToTensor(source, { ...scaling, layout, order, dtype });
              const back = tensorToImages(y, { ...scaling, layout, order });
              found.push(y, ...(Array.isArray(back) ? back : [back]).map((image) => image.data));
            }
          }
          if (channels === 4) found.push(imagesToTensor(source, { channels: 3, dtype }));
          return found;
        });
    },
  }));
}

function tally(shape: number[], large: boolean): Call[] {
  const kinds = {
    float32: Float32Array,
    float64: Float64Array,
    uint8: Uint8Array,
    int8: Int8Array,
    int16: Int16Array,
    int32: Int32Array,
  };
  const name = `statistics of ${shape.join('x')}`;
  const features = shape[1]!;
  const stateOf = (moments: Preprocessing.RunningMoments): Outputs => [...moments.toTensors().values()];
  const ofNumbers = Object.entries(kinds).map(([kind, Kind]) => ({
    name: `${name}, ${kind}`,
    large,
    prepare: (api: GoldenApi) => {
      const { values } = generate({ seed: seedOf(name + kind), dist: 'uniform', a: -100, b: 100 }, shape);
      const spoiled = kind.startsWith('float') ? values.map((v, i) => (i % 97 === 3 ? NaN : v)) : values;
      const x = new api.simdnorm.Tensor(new Kind(spoiled), shape);
      const weights = new api.simdnorm.Tensor(
        Float64Array.from({ length: shape[0]! }, (_, i) => (i % 5) + 0.25),
        [shape[0]!],
      );
      return () => {
        const moments = new api.preprocessing.RunningMoments(features);
        const weighted = new api.preprocessing.RunningMoments(features).update(x, { weights });
        moments.update(x);
        return [...stateOf(moments), ...stateOf(weighted), ...stateOf(moments.clone().merge(weighted)), moments.std()];
      };
    },
  }));
  const ofHalves = (['float16', 'bfloat16'] as const).map((storage) => ({
    name: `${name}, ${storage}`,
    large,
    prepare: (api: GoldenApi) => {
      const x = tensorOf(api, name, shape, storage, { mean: 3 });
      return () => stateOf(new api.preprocessing.RunningMoments(features).update(x));
    },
  }));
  return [...ofNumbers, ...ofHalves];
}

const scalers: Call = {
  name: 'scalers',
  large: false,
  prepare: (api) => {
    const x = tensorOf(api, 'scalers', [50, 19], 'float32', { mean: 3, spread: 2 });
    const pictures = tensorOf(api, 'scalers', [2, 19, 5, 5], 'float32', { mean: 3, spread: 2 });
    const { StandardScaler, MinMaxScaler, Normalize } = api.preprocessing;
    return () => [
      new StandardScaler().fitTransform(x),
      new MinMaxScaler({ featureRange: [-1, 1], clip: true }).fitTransform(x),
      new Normalize().fitTransform(pictures),
    ];
  },
};

const large = (name: string, form: Form, of: readonly Storage[] = ['float32', 'float64']): Call[] =>
  family(name, [form], of, true);

const ofMegabytes: Call[] = [
  // 25 MB of input and output: past the caches of most machines, so that stores are streamed.
  ...large('BatchNorm2d 8x96x64x64', batch([8, 96, 64, 64]), ['float32']),
  ...large('BatchNorm2d 9x70x31x33', batch([9, 70, 31, 33]), storages),
  ...large('BatchNorm2d 5x36x61x63 channels-last', batch([5, 36, 61, 63], true), storages),
  ...large('BatchNorm1d 3001x130', batch([3001, 130])),
  ...large('InstanceNorm2d 2x3x230x231', instance([2, 3, 230, 231])),
  ...large('InstanceNorm2d 7x20x41x43 channels-last', instance([7, 20, 41, 43], true)),
  ...large('GroupNorm(4) 3x8x9000', group(4, [3, 8, 9000])),
  ...large('GroupNorm(4) 5x1200x7x11 channels-last', group(4, [5, 1200, 7, 11], true)),
  ...large('LayerNorm 2x150001', trailing('LayerNorm', 1, [2, 150001])),
  ...large('LayerNorm 1500x203', trailing('LayerNorm', 1, [1500, 203]), storages),
  ...large('LayerNorm over axis 1 of 3x200x700', overAxis(1, [3, 200, 700])),
  ...large('RMSNorm 1500x203', trailing('RMSNorm', 1, [1500, 203])),
  ...large('LocalResponseNorm(5) 4x64x40x40', response('LocalResponseNorm', 5, [4, 64, 40, 40])),
  ...images(400, 300, true),
  ...tally([20000, 33], true),
];

export const calls: readonly Call[] = [
  ...small,
  ...onHardData,
  ...functions,
  ...images(33, 17, false),
  ...tally([50, 3, 65], false),
  ...tally([300, 20], false),
  scalers,
  ...ofMegabytes,
];
