// Every layer in every form, with the geometry the oracle judges it by: data, so that a new layer joins all tests by
// joining this list. The geometry is written out here, not taken from lib/, which is being judged.

import * as simdnorm from '../../lib';
import { Tensor, type Parameter } from '../../lib';
import type { Dtype } from './tolerance';
import type { Question } from './reference';
import { generate } from './vectors';

export interface AnyLayer {
  forward(x: unknown, options?: object): Tensor;
  backward(dy: unknown, options?: object): Tensor;
  train(mode?: boolean): AnyLayer;
  eval(): AnyLayer;
  freeze(frozen?: boolean): AnyLayer;
  zeroGrad(): AnyLayer;
  context(): simdnorm.Context;
  parameters(): Parameter[];
  weight: Parameter | null;
  bias: Parameter | null;
  runningMean?: Tensor | null;
  runningVar?: Tensor | null;
  numBatchesTracked?: number | null;
}

export interface Form {
  name: string;
  make(dtype: Dtype, options?: object): AnyLayer;
  shape: number[];
  /** Memory order (N, ...S, C). */
  channelsLast?: boolean;
  geometry: Question['geometry'];
  about: 'mean' | 'zero';
  eps: (dtype: Dtype) => number;
}

const product = (sizes: readonly number[]): number => sizes.reduce((p, n) => p * n, 1);
const usual = (): number => 1e-5;

function batchNorm(shape: number[], channelsLast = false): Form {
  const [n, c, ...spatial] = shape as [number, number, ...number[]];
  const s = product(spatial);
  const Class = ({ 2: simdnorm.BatchNorm1d, 3: simdnorm.BatchNorm1d, 4: simdnorm.BatchNorm2d }[shape.length] ??
    simdnorm.BatchNorm3d) as typeof simdnorm.BatchNorm1d;
  return {
    name: `${Class.name} ${shape.join('x')}${channelsLast ? ' channels-last' : ''}`,
    make: (dtype, options) => new Class(c, { dtype, ...options }) as unknown as AnyLayer,
    shape,
    channelsLast,
    geometry: channelsLast || s === 1 ? [1, n * s, c, 1, 1, c] : [1, n, c, s, s, c],
    about: 'mean',
    eps: usual,
  };
}

function instanceNorm(shape: number[], channelsLast = false): Form {
  const [n, c, ...spatial] = shape as [number, number, ...number[]];
  const s = product(spatial);
  const Class = ({ 3: simdnorm.InstanceNorm1d, 4: simdnorm.InstanceNorm2d }[shape.length] ??
    simdnorm.InstanceNorm3d) as typeof simdnorm.InstanceNorm1d;
  return {
    name: `${Class.name} ${shape.join('x')}${channelsLast ? ' channels-last' : ''}`,
    make: (dtype, options) => new Class(c, { dtype, affine: true, ...options }) as unknown as AnyLayer,
    shape,
    channelsLast,
    geometry: channelsLast ? [n, s, c, 1, 1, c] : [n, 1, c, s, s, c],
    about: 'mean',
    eps: usual,
  };
}

function groupNorm(groups: number, shape: number[], channelsLast = false): Form {
  const [n, c, ...spatial] = shape as [number, number, ...number[]];
  const s = product(spatial);
  const beside = channelsLast || s === 1;
  return {
    name: `GroupNorm(${groups}) ${shape.join('x')}${channelsLast ? ' channels-last' : ''}`,
    make: (dtype, options) => new simdnorm.GroupNorm(groups, c, { dtype, ...options }) as unknown as AnyLayer,
    shape,
    channelsLast,
    geometry: beside ? [n, s, groups, c / groups, 1, c] : [n, 1, groups, (c / groups) * s, s, c],
    about: 'mean',
    eps: usual,
  };
}

function trailing(Class: typeof simdnorm.LayerNorm | typeof simdnorm.RMSNorm, shape: number[], dims: number): Form {
  const tail = shape.slice(shape.length - dims);
  const d = product(tail);
  const rms = Class === simdnorm.RMSNorm;
  return {
    name: `${Class.name}(${tail.join('x')}) ${shape.join('x')}`,
    make: (dtype, options) => new Class(tail, { dtype, ...options }) as unknown as AnyLayer,
    shape,
    geometry: [product(shape) / d, 1, 1, d, 1, d],
    about: rms ? 'zero' : 'mean',
    eps: rms ? (dtype) => (dtype === 'float32' ? 2 ** -23 : 2 ** -52) : usual,
  };
}

/** LayerNorm over one axis that is not the last: matrices whose rows are channels. */
function overAxis(shape: number[], axis: number, channelsLast = false): Form {
  const [n, c, s] = [product(shape.slice(0, axis)), shape[axis]!, product(shape.slice(axis + 1))];
  return {
    name: `LayerNorm(${c}, axis ${axis}) ${shape.join('x')}${channelsLast ? ' channels-last' : ''}`,
    make: (dtype, options) => new simdnorm.LayerNorm(c, { dtype, axis, ...options }) as unknown as AnyLayer,
    shape,
    channelsLast,
    geometry: channelsLast || s === 1 ? [n * s, 1, 1, c, 1, c] : [n, c, s, 1, s, c],
    about: 'mean',
    eps: usual,
  };
}

/** Sizes around the edges of 16 lanes and of a block. */
export const edges = [2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 128, 129, 1009];

const around = (make: (size: number) => Form): Form[] => edges.map(make);

/** Every layer, both memory orders, sizes around each lane edge; dimensions pairwise different. */
export const forms: Form[] = [
  ...around((s) => batchNorm([5, 3, s])),
  ...around((c) => batchNorm([6, c])),
  ...around((s) => instanceNorm([4, 3, s])),
  ...around((d) => trailing(simdnorm.LayerNorm, [5, d], 1)),
  ...around((d) => trailing(simdnorm.RMSNorm, [5, d], 1)),
  ...around((s) => groupNorm(2, [3, 6, s])),
  ...around((c) => groupNorm(3, [4, 3 * c])),
  batchNorm([2, 5, 3, 4]),
  batchNorm([3, 17, 5, 4], true),
  batchNorm([300, 33, 7]),
  batchNorm([2, 7, 3, 4, 5]),
  batchNorm([2, 19, 3, 4, 5], true),
  batchNorm([3, 2, 90, 91]),
  batchNorm([1, 1, 5, 7]),
  batchNorm([700, 40]),
  instanceNorm([3, 5, 6, 7]),
  instanceNorm([3, 18, 6, 7], true),
  instanceNorm([2, 3, 4, 5, 6]),
  instanceNorm([2, 16, 4, 5, 6], true),
  instanceNorm([1, 2, 71, 73]),
  groupNorm(3, [4, 6, 5, 7], true),
  groupNorm(4, [2, 36, 9, 10], true),
  groupNorm(1, [3, 5, 4]),
  groupNorm(5, [3, 5, 4], true),
  groupNorm(2, [2, 4, 3, 5, 6]),
  trailing(simdnorm.LayerNorm, [3, 4, 5, 6], 2),
  trailing(simdnorm.LayerNorm, [2, 5003], 1),
  trailing(simdnorm.LayerNorm, [150, 65], 1),
  trailing(simdnorm.LayerNorm, [7, 1], 1),
  trailing(simdnorm.RMSNorm, [3, 4, 5], 2),
  trailing(simdnorm.RMSNorm, [130, 67], 1),
  ...around((s) => overAxis([3, 5, s], 1)),
  overAxis([2, 17, 5, 7], 1),
  overAxis([3, 18, 5, 7], 1, true),
  overAxis([2, 3, 65, 4], 2),
  overAxis([7, 11, 1], 1),
  overAxis([5, 6, 3], 0),
  overAxis([2, 300, 67], 1),
];

const arrays = { float32: Float32Array, float64: Float64Array };
let nextSeed = 1;

/** Seeded values of the right dtype: the oracle gets exactly what the layer gets. */
export function values(
  size: number,
  dtype: Dtype,
  mean = 0,
  spread = 1,
  seed = nextSeed++,
): Float32Array | Float64Array {
  return new arrays[dtype](generate({ seed, dist: 'bell', a: mean, b: spread }, [size]).values);
}

/** Memory in the form's own order as the tensor (N, C, ...) that the layer is given. */
export function asForm(form: Form, data: Float32Array | Float64Array): Tensor {
  if (!form.channelsLast) return new Tensor(data, form.shape);
  const [n, c, ...spatial] = form.shape as [number, number, ...number[]];
  const axes = spatial.map((_, i) => i + 1);
  return new Tensor(data, [n, ...spatial, c]).permute(0, spatial.length + 1, ...axes);
}

/** A layer with weights that are not ones, and the question the oracle is asked about it. */
export function prepare(
  form: Form,
  dtype: Dtype,
  options: { mean?: number; spread?: number; layer?: object } = {},
): { layer: AnyLayer; x: Tensor; dy: Tensor; question: Question } {
  const size = product(form.shape);
  const layer = form.make(dtype, options.layer);
  const x = asForm(form, values(size, dtype, options.mean ?? 3, options.spread ?? 2));
  const dy = asForm(form, values(size, dtype, 0.1, 1));
  if (layer.weight) (layer.weight.data as Float64Array).set(values(layer.weight.size, dtype, 1, 0.5));
  if (layer.bias) (layer.bias.data as Float64Array).set(values(layer.bias.size, dtype, 0, 0.5));
  const question: Question = {
    geometry: form.geometry,
    x: x.data as Float64Array,
    weight: layer.weight && (layer.weight.data as Float64Array),
    bias: layer.bias && (layer.bias.data as Float64Array),
    eps: form.eps(dtype),
    about: form.about,
  };
  return { layer, x, dy, question };
}
