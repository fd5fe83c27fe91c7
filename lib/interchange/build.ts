// What the converters share: a layer of ours made of another framework's numbers. Names, defaults and orders are theirs
// and stand in their files; here are only sizes and values.

import { checkNumber, checkOptions, checkSize, describe, formatShape } from '../internal/errors';
import { BatchNorm1d, BatchNorm2d, BatchNorm3d } from '../layers/batch-norm';
import { GroupNorm } from '../layers/group-norm';
import { InstanceNorm1d, InstanceNorm2d, InstanceNorm3d } from '../layers/instance-norm';
import { LayerNorm } from '../layers/layer-norm';
import type { FloatDType } from '../layers/norm';
import { RMSNorm } from '../layers/rms-norm';
import type { TrackedNormOptions } from '../layers/tracked-norm';
import { asTensor, elementsOf, gather, Tensor, type TensorLike } from '../tensor';

export type BatchNorm = BatchNorm1d | BatchNorm2d | BatchNorm3d;
export type InstanceNorm = InstanceNorm1d | InstanceNorm2d | InstanceNorm3d;
export type NormLayer = BatchNorm | InstanceNorm | GroupNorm | LayerNorm | RMSNorm;

export interface FromOptions {
  /**
   * The shape of the layer's input where it came from, in the order it has there; null where a size is not known. Needed
   * where the layer's own description does not tell rank or sizes: each error says so.
   */
  inputShape?: readonly (number | null)[] | undefined;
  /**
   * Values per channel in a training batch (N * H * W). The variances kept elsewhere are biased, torch's are not: with n
   * they are multiplied by n / (n - 1), which is right for training on. Default: taken as they are, so that evaluation
   * gives what it gave there.
   */
  n?: number | undefined;
  /** Of the layer; default 'float32'. */
  dtype?: FloatDType | undefined;
}

export interface ToOptions {
  /** As of the other direction: variances are multiplied by (n - 1) / n. Default: given as they are. */
  n?: number | undefined;
}

export interface Numbers {
  scale?: TensorLike | null | undefined;
  bias?: TensorLike | null | undefined;
  mean?: TensorLike | null | undefined;
  var?: TensorLike | null | undefined;
}

/** What one conversion knows while it runs. */
export interface Job {
  /** The name that messages begin with. */
  where: string;
  inputShape: readonly (number | null)[] | undefined;
  n: number | undefined;
  dtype: FloatDType;
}

export function startJob(where: string, options: FromOptions, known: readonly string[] = []): Job {
  checkOptions(where, options, ['inputShape', 'n', 'dtype', ...known]);
  const { inputShape, n, dtype = 'float32' } = options;
  if (inputShape !== undefined) {
    if (!Array.isArray(inputShape)) {
      throw new TypeError(`${where}: inputShape must be an array, but got ${describe(inputShape)}`);
    }
    inputShape.forEach((size, i) => size === null || checkSize(where, `inputShape[${i}]`, size));
  }
  return { where, inputShape, n: checkBatch(where, n), dtype };
}

export function checkBatch(where: string, n: unknown): number | undefined {
  return n === undefined ? undefined : checkSize(where, 'n', n, 2);
}

/** A record of settings: each read once, with the framework's own default. */
export class Settings {
  constructor(
    readonly where: string,
    readonly values: Readonly<Record<string, unknown>>,
  ) {
    if (typeof values !== 'object' || values === null || Array.isArray(values)) {
      throw new TypeError(`${where}: settings must be an object, but got ${describe(values)}`);
    }
  }

  get(name: string): unknown {
    const value = Object.hasOwn(this.values, name) ? this.values[name] : undefined;
    return value === null ? undefined : value;
  }
  number(name: string, fallback: number): number {
    const value = this.get(name);
    return value === undefined ? fallback : checkNumber(this.where, name, value);
  }
  /** True, false, or ONNX's 1 and 0. */
  boolean(name: string, fallback: boolean): boolean {
    const value = this.get(name);
    if (value === undefined) return fallback;
    if (value === true || value === 1) return true;
    if (value === false || value === 0) return false;
    throw new TypeError(`${this.where}: ${name} must be a boolean, but got ${describe(value)}`);
  }
  /** One axis or several. */
  axes(name: string, fallback: number): number[] {
    const value = this.get(name) ?? fallback;
    const axes: unknown[] = Array.isArray(value) ? value : [value];
    for (const axis of axes) {
      if (!Number.isSafeInteger(axis)) {
        throw new TypeError(`${this.where}: ${name} must be an integer or several, but got ${describe(axis)}`);
      }
    }
    return axes as number[];
  }
  /** Refuses a setting whose meaning our layers lack. */
  refuse(name: string, why: string): void {
    const value = this.get(name);
    if (value !== undefined && value !== false && value !== 0) {
      throw new RangeError(`${this.where}: ${name} is ${describe(value)}: ${why}`);
    }
  }
}

/** 1 - m without the last digits that only the subtraction brings: 0.01 for 0.99. */
export function complement(m: number): number {
  return Number((1 - m).toFixed(15));
}

function present(value: TensorLike | null | undefined): value is TensorLike {
  return value !== null && value !== undefined;
}

/** The shape of a layer's vectors: that of the first there is. */
function shapeOf(job: Job, numbers: Numbers): readonly number[] | undefined {
  for (const [name, value] of Object.entries(numbers) as [string, TensorLike | null | undefined][]) {
    if (present(value)) return asTensor(value, job.where, name, job.dtype).shape;
  }
  return undefined;
}

function rankOf({ where, inputShape }: Job, what: string): number {
  if (inputShape) return inputShape.length;
  throw new TypeError(`${where}: inputShape must be given, for ${what}; sizes that are not known may be null`);
}

/** Each axis from 0 on, ascending. */
function fromStart(job: Job, axes: readonly number[], rank: number): number[] {
  const placed = axes.map((axis) => (axis < 0 ? axis + rank : axis));
  if (placed.some((axis, i) => axis < 0 || axis >= rank || placed.indexOf(axis) !== i)) {
    throw new RangeError(`${job.where}: axes ${formatShape(axes)} do not fit an input of ${rank} dimensions`);
  }
  return placed.sort((a, b) => a - b);
}

/** The number of channels, which every vector and the input's own axis must agree on. */
export function channelsOf(job: Job, numbers: Numbers, axes: readonly number[]): number {
  if (axes.length !== 1) {
    throw new RangeError(`${job.where}: there must be one channel axis, but got ${formatShape(axes)}`);
  }
  const axis = job.inputShape && fromStart(job, axes, job.inputShape.length)[0]!;
  const told = axis === undefined ? undefined : (job.inputShape![axis] ?? undefined);
  const shape = shapeOf(job, numbers);
  const channels = shape ? elementsOf(shape) : told;
  if (channels === undefined) {
    throw new TypeError(`${job.where}: inputShape must give the number of channels, for there are no parameters`);
  }
  if (told !== undefined && told !== channels) {
    throw new RangeError(`${job.where}: inputShape has ${told} channels, the parameters ${channels}`);
  }
  return channels;
}

/** The trailing sizes that `axes` name. */
export function trailingSizes(job: Job, numbers: Numbers, axes: readonly number[]): readonly number[] {
  const shape = shapeOf(job, numbers);
  const fromEnd = axes.every((axis) => axis < 0);
  const rank = fromEnd && !job.inputShape ? -Math.min(...axes) : rankOf(job, 'axes counted from the first');
  const placed = fromStart(job, axes, rank);
  if (placed.some((axis, i) => axis !== rank - placed.length + i)) {
    throw new RangeError(
      `${job.where}: axes ${formatShape(axes)} of ${rank} dimensions are not the last ones; permute the input so that they are`,
    );
  }
  const told = job.inputShape && placed.map((axis) => job.inputShape![axis]);
  if (told?.every((size) => size !== null)) return told as number[];
  if (
    shape?.length === placed.length &&
    placed.length === axes.length &&
    axes.every((axis, i) => i === 0 || axis > axes[i - 1]!)
  ) {
    return shape;
  }
  throw new TypeError(`${job.where}: inputShape must give the sizes of axes ${formatShape(axes)}`);
}

/** Copies values into a tensor of the layer, element by element in row-major order. */
function fill(job: Job, into: Tensor, value: TensorLike, name: string, factor = 1): void {
  const given = asTensor(value, job.where, name, job.dtype);
  given.checkExtent(job.where, name);
  if (given.size !== into.size) {
    throw new RangeError(
      `${job.where}: ${name} has shape ${formatShape(given.shape)}, the layer has ${formatShape(into.shape)}`,
    );
  }
  const data = into.data as Float64Array;
  gather(given.to(job.dtype), data as never);
  if (factor !== 1) data.forEach((x, i) => (data[i] = x * factor));
}

/** A missing scale beside a bias stays 1 and is not trained. */
function load<L extends NormLayer>(job: Job, layer: L, numbers: Numbers): L {
  if (layer.weight && present(numbers.scale)) fill(job, layer.weight, numbers.scale, 'scale');
  else if (layer.weight) layer.weight.requiresGrad = false;
  if (layer.bias && present(numbers.bias)) fill(job, layer.bias, numbers.bias, 'bias');
  if ('runningMean' in layer && layer.runningMean && layer.runningVar) {
    if (!present(numbers.mean) || !present(numbers.var)) {
      throw new TypeError(`${job.where}: mean and variance must be given`);
    }
    fill(job, layer.runningMean, numbers.mean, 'mean');
    fill(job, layer.runningVar, numbers.var, 'variance', job.n === undefined ? 1 : job.n / (job.n - 1));
  }
  return layer;
}

function affineOf(numbers: Numbers): { affine: boolean; bias: boolean } {
  return { affine: present(numbers.scale) || present(numbers.bias), bias: present(numbers.bias) };
}

type Of<L> = new (numFeatures: number, options: TrackedNormOptions) => L;
const batchNorms: Record<number, Of<BatchNorm>> = { 2: BatchNorm1d, 3: BatchNorm1d, 4: BatchNorm2d, 5: BatchNorm3d };
const instanceNorms: Record<number, Of<InstanceNorm>> = { 3: InstanceNorm1d, 4: InstanceNorm2d, 5: InstanceNorm3d };

function ofRank<C>(job: Job, classes: Record<number, C>): C {
  const rank = rankOf(job, 'the number of its dimensions decides the class');
  const found = classes[rank];
  if (found) return found;
  throw new RangeError(`${job.where}: inputs must have ${Object.keys(classes).join(', ')} dimensions, but got ${rank}`);
}

export function batchNorm(
  job: Job,
  numbers: Numbers,
  { axes, eps, momentum }: { axes: readonly number[]; eps: number; momentum: number },
): BatchNorm {
  const channels = channelsOf(job, numbers, axes);
  const Class = ofRank(job, batchNorms);
  return load(job, new Class(channels, { eps, momentum, ...affineOf(numbers), dtype: job.dtype }), numbers);
}

export function instanceNorm(
  job: Job,
  numbers: Numbers,
  { axes, eps }: { axes: readonly number[]; eps: number },
): InstanceNorm {
  const channels = channelsOf(job, numbers, axes);
  const Class = ofRank(job, instanceNorms);
  return load(job, new Class(channels, { eps, ...affineOf(numbers), dtype: job.dtype }), numbers);
}

export function groupNorm(
  job: Job,
  numbers: Numbers,
  { axes, eps, groups }: { axes: readonly number[]; eps: number; groups: (channels: number) => number },
): GroupNorm {
  const channels = channelsOf(job, numbers, axes);
  const options = { eps, ...affineOf(numbers), dtype: job.dtype };
  return load(job, new GroupNorm(groups(channels), channels, options), numbers);
}

export function layerNorm(
  job: Job,
  numbers: Numbers,
  { shape, eps }: { shape: readonly number[]; eps: number },
): LayerNorm {
  const { affine, bias } = affineOf(numbers);
  return load(job, new LayerNorm(shape, { eps, elementwiseAffine: affine, bias, dtype: job.dtype }), numbers);
}

export function rmsNorm(
  job: Job,
  numbers: Numbers,
  { shape, eps }: { shape: readonly number[]; eps: number },
): RMSNorm {
  return load(job, new RMSNorm(shape, { eps, elementwiseAffine: present(numbers.scale), dtype: job.dtype }), numbers);
}

// The other direction.

/** What a layer of ours is, in words that every framework has. */
export type Told =
  | { kind: 'batch'; momentum: number; numbers: TensorNumbers; eps: number }
  | { kind: 'instance'; numbers: TensorNumbers; eps: number }
  | { kind: 'group'; groups: number; numbers: TensorNumbers; eps: number }
  | { kind: 'layer' | 'rms'; dims: number; numbers: TensorNumbers; eps: number };
export interface TensorNumbers {
  scale: Tensor | null;
  bias: Tensor | null;
  mean: Tensor | null;
  var: Tensor | null;
}

/** Copies of a layer's numbers, and what they mean. */
export function tell(where: string, layer: NormLayer, options: ToOptions): Told {
  const n = checkBatch(where, options.n);
  const [isBatch, isInstance] = [batchNorms, instanceNorms].map((classes) =>
    Object.values(classes).some((Class) => layer instanceof Class),
  );
  const isOther = [GroupNorm, LayerNorm, RMSNorm].some((Class) => layer instanceof Class);
  if (!isBatch && !isInstance && !isOther) {
    throw new TypeError(`${where}: layer must be a normalization layer, but got ${describe(layer)}`);
  }
  if (layer.relu) throw new RangeError(`${where}: a ReLU is a layer of its own elsewhere; make the layer without`);
  if (layer instanceof LayerNorm && layer.axis !== null) {
    throw new RangeError(
      `${where}: LayerNorm over axis ${layer.axis} is of the order of dimensions here; make one over the last dimensions`,
    );
  }
  const copy = (tensor: Tensor | null): Tensor | null => tensor?.copy() ?? null;
  const numbers: TensorNumbers = { scale: copy(layer.weight), bias: copy(layer.bias), mean: null, var: null };
  if (layer instanceof RMSNorm) {
    const eps = layer.eps ?? (layer.dtype === 'float32' ? 2 ** -23 : 2 ** -52);
    return { kind: 'rms', dims: layer.normalizedShape.length, numbers, eps };
  }
  if (layer instanceof LayerNorm) return { kind: 'layer', dims: layer.normalizedShape.length, numbers, eps: layer.eps };
  if (layer instanceof GroupNorm) return { kind: 'group', groups: layer.numGroups, numbers, eps: layer.eps };
  const tracked = layer as BatchNorm | InstanceNorm;
  if (isInstance) {
    if (tracked.trackRunningStats) {
      throw new RangeError(`${where}: InstanceNorm with running statistics is found in torch only`);
    }
    return { kind: 'instance', numbers, eps: tracked.eps };
  }
  if (!tracked.runningMean || !tracked.runningVar) {
    throw new RangeError(`${where}: BatchNorm without running statistics is found in torch only`);
  }
  if (tracked.momentum === null) {
    throw new RangeError(`${where}: momentum null, the average of all batches, is found in torch only`);
  }
  numbers.mean = copy(tracked.runningMean);
  numbers.var = copy(tracked.runningVar);
  if (n !== undefined) {
    const data = numbers.var!.data as Float64Array;
    data.forEach((x, i) => (data[i] = (x * (n - 1)) / n));
  }
  return { kind: 'batch', momentum: complement(tracked.momentum), numbers, eps: tracked.eps };
}
