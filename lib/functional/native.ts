// Forward with its statistics, and backward from them: what another autodiff engine calls. Nothing is kept between the
// two but what the caller holds: mean and rstd, one double each.
//
// What that loses: inside, a mean is a value of the tensor's type and a rest. For float32 the two come back from one
// double, to 2^-53 of the mean; for float64 the rest is lost, so that the mean is off by up to 2^-53 of itself. rstd is
// kept whole, in the range of doubles: of data beyond 1e154 and below 1e-154 too.

import { backward, forward, parametersOf } from '../internal/call';
import { checkOptions, describe } from '../internal/errors';
import { statistics } from '../internal/geometry';
import { lending } from '../output-pool';
import { allocate, asTensor, elementsOf, Tensor, type TensorLike } from '../tensor';
import * as args from './arguments';
import type { Call, NormalizedShape, OutOption } from './arguments';

/** `mean` and `rstd` = 1 / sqrt(var + eps) are float64. */
export interface Normalized {
  output: Tensor;
  mean: Tensor;
  rstd: Tensor;
}

export interface Gradients {
  gradInput: Tensor | null;
  gradWeight: Tensor | null;
  gradBias: Tensor | null;
}

/** Which gradients are wanted, of input, weight and bias; the others are null. */
export type OutputMask = readonly [boolean, boolean, boolean];

export interface BackwardOptions extends OutOption {
  /** As the forward had it; default null. */
  weight?: TensorLike | null | undefined;
  /** Default all. */
  outputMask?: OutputMask | undefined;
}
/** What the forward gave. */
export interface SavedStatistics {
  mean: TensorLike;
  rstd: TensorLike;
}
export interface BatchNormBackwardOptions extends BackwardOptions, Partial<SavedStatistics> {
  /** Whether the forward went by the batch's statistics, which are then needed; default false, as the forward. */
  training?: boolean | undefined;
  /** Needed without `training`. */
  runningMean?: TensorLike | null | undefined;
  /** Needed without `training`. */
  runningVar?: TensorLike | null | undefined;
  /** Default 1e-5. */
  eps?: number | undefined;
}

function normalized({ where, x, plan }: Call, shape: readonly number[], out: unknown): Normalized {
  const { y, saved } = lending(out, () => forward(where, x, plan, 'statistics', out));
  const all = saved!.statistics;
  const mean = new Float64Array(elementsOf(shape));
  const rstd = new Float64Array(mean.length);
  for (let i = 0; i < mean.length; i++) {
    const [center, rest, , scaled, scale] = all.subarray(5 * i, 5 * i + 5) as unknown as number[];
    mean[i] = (center! + rest!) / scale!;
    rstd[i] = scaled! * scale!;
  }
  return { output: y, mean: new Tensor(mean, shape), rstd: new Tensor(rstd, shape) };
}

function gradients(
  { where, x, plan }: Call,
  gradOutput: TensorLike,
  record: Float64Array,
  parameterShape: readonly number[],
  o: BackwardOptions,
): Gradients {
  const dy = args.besideOf(gradOutput, where, 'grad_output', x, x.dtype);
  if (!dy) throw new TypeError(`${where}: grad_output must be a tensor, but got ${describe(gradOutput)}`);
  const mask = o.outputMask ?? [true, true, true];
  if (!Array.isArray(mask) || mask.length !== 3 || !mask.every((wanted) => typeof wanted === 'boolean')) {
    throw new TypeError(`${where}: outputMask must be three booleans, but got ${describe(mask)}`);
  }
  const zeros = (wanted: boolean): Tensor | null =>
    wanted ? new Tensor(allocate(parametersOf(x.dtype)!, elementsOf(parameterShape)), parameterShape) : null;
  const [gradWeight, gradBias] = [zeros(mask[1]), zeros(mask[2])];
  const saved = { plan, x: plan.channelsLast ? x : x.contiguous(), statistics: record, add: null };
  const out = mask[0] ? o.out : null;
  const gradInput = lending(out, () => backward(where, saved, dy, gradWeight, gradBias, out));
  return { gradInput, gradWeight, gradBias };
}

const bits = new Float64Array(1);
const words = new Uint32Array(bits.buffer);
/** The power of two in a positive number. */
function powerOfTwo(value: number): number {
  bits[0] = value;
  words[1]! &= 0x7ff00000;
  words[0] = 0;
  return bits[0] === 0 ? 2 ** -1022 : bits[0];
}

/** The record of native/core/statistic.h. The variance in it only decides whether the kernels' range is enough. */
function recordOf(mean: ArrayLike<number>, rstd: ArrayLike<number>, x: Tensor): Float64Array {
  const single = parametersOf(x.dtype) === 'float32';
  const record = new Float64Array(5 * mean.length);
  for (let i = 0; i < mean.length; i++) {
    const r = rstd[i]!;
    const underRoot = 1 / (r * r);
    const ordinary = single || (underRoot > 2 ** -900 && underRoot < 2 ** 900);
    const scale = ordinary || r === 0 || !Number.isFinite(r) ? 1 : powerOfTwo(r);
    const whole = mean[i]! * scale;
    const center = single ? Math.fround(whole) : whole;
    const rest = Number.isFinite(center) ? whole - center : 0;
    const scaled = r / scale;
    record.set([center, rest, r === 0 ? 0 : 1 / (scaled * scaled), scaled, scale], 5 * i);
  }
  return record;
}

/** One double for each statistic, whatever the dtype of the data. */
function doublesOf(value: TensorLike | undefined, where: string, name: string, n: number): Float64Array {
  const t = asTensor(value, where, name, 'float64').contiguous();
  if (t.dtype !== 'float64' && t.dtype !== 'float32') {
    throw new TypeError(`${where}: ${name} must be floating point, but is ${t.dtype}`);
  }
  t.checkExtent(where, name);
  if (t.size !== n) throw new RangeError(`${where}: ${name} should contain ${n} elements not ${t.size}`);
  return Float64Array.from(t.data.subarray(t.offset, t.offset + n) as Float64Array);
}

function given({ where, x, plan }: Call, o: Partial<SavedStatistics>): Float64Array {
  const n = statistics(plan.geometry);
  const rstd = doublesOf(o.rstd, where, 'rstd', n);
  return recordOf(doublesOf(o.mean, where, 'mean', n), rstd, x);
}

/** The same of running statistics. */
function running({ x, plan: { runningMean, runningVar, eps } }: Call): Float64Array {
  const read = (t: Tensor | null): ArrayLike<number> =>
    t!.data.subarray(t!.offset, t!.offset + t!.size) as ArrayLike<number>;
  const rstd = Float64Array.from(read(runningVar), (v) => 1 / Math.sqrt(v + eps));
  return recordOf(read(runningMean), rstd, x);
}

const backwardNames = ['outputMask', 'out'];

/**
 * `batchNorm` with its statistics.
 *
 * *Shape*: output as the input; mean and rstd (C) in training, (0) without, where they are the running ones.
 *
 * *Matches* torch.native_batch_norm, but for the statistics' dtype. Options and errors as `batchNorm`; the backward needs
 * the input, so `out` must not be it.
 *
 * @example
 * const { output, mean, rstd } = nativeBatchNorm(x, { weight, bias, training: true });
 */
export function nativeBatchNorm(input: TensorLike, options: args.BatchNormOptions & OutOption = {}): Normalized {
  const call = args.batchNorm('nativeBatchNorm', input, options, ['out']);
  return normalized(call, [options.training ? statistics(call.plan.geometry) : 0], options.out);
}

/**
 * The gradients of `nativeBatchNorm`.
 *
 * *Options*: `weight`, `training`, `mean` and `rstd` or else `runningMean`, `runningVar` and `eps`, all as the forward
 * had or gave them; `outputMask`, `out` (for gradInput; may be gradOutput or the input).
 *
 * *Throws* RangeError for sizes that differ; TypeError for what is missing, and for mixed dtypes.
 *
 * *Matches* torch.ops.aten.native_batch_norm_backward.
 *
 * @example
 * const { gradInput } = nativeBatchNormBackward(dy, x, { weight, mean, rstd, training: true, outputMask: [true, false, false] });
 */
export function nativeBatchNormBackward(
  gradOutput: TensorLike,
  input: TensorLike,
  options: BatchNormBackwardOptions = {},
): Gradients {
  const where = 'nativeBatchNormBackward';
  const { weight, training = false, runningMean, runningVar, eps } = options;
  checkOptions(where, options, [
    'weight',
    'training',
    'mean',
    'rstd',
    'runningMean',
    'runningVar',
    'eps',
    ...backwardNames,
  ]);
  const tracked = training ? {} : { runningMean, runningVar };
  const call = args.batchNorm(where, input, { weight, training, eps, ...tracked }, []);
  const record = training ? given(call, options) : running(call);
  return gradients(call, gradOutput, record, [call.x.shape[1]!], options);
}

/**
 * `groupNorm` with its statistics.
 *
 * *Shape*: output as the input; mean and rstd (N, numGroups).
 *
 * *Matches* torch.native_group_norm, but for the statistics' dtype. With as many groups as channels it is InstanceNorm.
 *
 * @example
 * const { output, mean, rstd } = nativeGroupNorm(x, 3, { weight, bias });
 */
export function nativeGroupNorm(
  input: TensorLike,
  numGroups: number,
  options: args.AffineOptions & OutOption = {},
): Normalized {
  const call = args.groupNorm('nativeGroupNorm', input, numGroups, options, ['out']);
  return normalized(call, [call.x.shape[0]!, numGroups], options.out);
}

/**
 * The gradients of `nativeGroupNorm`. Options and errors as `nativeBatchNormBackward` in training.
 *
 * *Matches* torch.ops.aten.native_group_norm_backward.
 *
 * @example
 * const { gradInput, gradWeight, gradBias } = nativeGroupNormBackward(dy, x, 3, { weight, mean, rstd });
 */
export function nativeGroupNormBackward(
  gradOutput: TensorLike,
  input: TensorLike,
  numGroups: number,
  options: BackwardOptions & SavedStatistics = {} as never,
): Gradients {
  const where = 'nativeGroupNormBackward';
  checkOptions(where, options, ['weight', 'mean', 'rstd', ...backwardNames]);
  const call = args.groupNorm(where, input, numGroups, { weight: options.weight }, []);
  return gradients(call, gradOutput, given(call, options), [call.x.shape[1]!], options);
}

/** The leading dimensions, and ones for those that are normalized. */
function rowsShape({ x }: Call, normalizedShape: NormalizedShape): number[] {
  const dims = typeof normalizedShape === 'number' ? 1 : normalizedShape.length;
  return x.shape.map((size, i) => (i < x.ndim - dims ? size : 1));
}
const listOf = (shape: NormalizedShape): readonly number[] => (typeof shape === 'number' ? [shape] : shape);

/**
 * `layerNorm` with its statistics.
 *
 * *Shape*: output as the input; mean and rstd as the input with ones for the normalized dimensions.
 *
 * *Matches* torch.native_layer_norm, but for the statistics' dtype.
 *
 * @example
 * const { output, mean, rstd } = nativeLayerNorm(x, [64], { weight, bias });
 */
export function nativeLayerNorm(
  input: TensorLike,
  normalizedShape: NormalizedShape,
  options: args.AffineOptions & OutOption = {},
): Normalized {
  const call = args.layerNorm('nativeLayerNorm', input, normalizedShape, options, ['out']);
  return normalized(call, rowsShape(call, normalizedShape), options.out);
}

/**
 * The gradients of `nativeLayerNorm`. Options and errors as `nativeBatchNormBackward` in training.
 *
 * *Matches* torch.ops.aten.native_layer_norm_backward.
 *
 * @example
 * const { gradInput, gradWeight, gradBias } = nativeLayerNormBackward(dy, x, [64], { weight, mean, rstd });
 */
export function nativeLayerNormBackward(
  gradOutput: TensorLike,
  input: TensorLike,
  normalizedShape: NormalizedShape,
  options: BackwardOptions & SavedStatistics = {} as never,
): Gradients {
  const where = 'nativeLayerNormBackward';
  checkOptions(where, options, ['weight', 'mean', 'rstd', ...backwardNames]);
  const call = args.layerNorm(where, input, normalizedShape, { weight: options.weight }, []);
  return gradients(call, gradOutput, given(call, options), listOf(normalizedShape), options);
}

/**
 * `rmsNorm` with its statistic.
 *
 * *Shape*: output as the input; rstd as the input with ones for the normalized dimensions.
 *
 * *Matches* torch.ops.aten._fused_rms_norm, but for the statistic's dtype.
 *
 * @example
 * const { output, rstd } = nativeRmsNorm(x, 64, { weight });
 */
export function nativeRmsNorm(
  input: TensorLike,
  normalizedShape: NormalizedShape,
  options: args.RMSNormOptions & OutOption = {},
): Omit<Normalized, 'mean'> {
  const call = args.rmsNorm('nativeRmsNorm', input, normalizedShape, options, ['out']);
  const { output, rstd } = normalized(call, rowsShape(call, normalizedShape), options.out);
  return { output, rstd };
}

/**
 * The gradients of `nativeRmsNorm`. Options and errors as `nativeBatchNormBackward` in training; `outputMask` has two.
 *
 * *Matches* torch.ops.aten._fused_rms_norm_backward.
 *
 * @example
 * const { gradInput, gradWeight } = nativeRmsNormBackward(dy, x, 64, { weight, rstd });
 */
export function nativeRmsNormBackward(
  gradOutput: TensorLike,
  input: TensorLike,
  normalizedShape: NormalizedShape,
  options: Omit<BackwardOptions, 'outputMask'> &
    Pick<SavedStatistics, 'rstd'> & { outputMask?: readonly [boolean, boolean] },
): Omit<Gradients, 'gradBias'> {
  const where = 'nativeRmsNormBackward';
  checkOptions(where, options, ['weight', 'rstd', ...backwardNames]);
  const call = args.rmsNorm(where, input, normalizedShape, { weight: options.weight }, []);
  const rstd = doublesOf(options.rstd, where, 'rstd', statistics(call.plan.geometry));
  const record = recordOf(new Float64Array(rstd.length), rstd, call.x);
  const { outputMask = [true, true], ...rest } = options;
  const mask = (Array.isArray(outputMask)
    ? [...(outputMask as boolean[]), false]
    : outputMask) as unknown as OutputMask;
  const shape = listOf(normalizedShape);
  const { gradInput, gradWeight } = gradients(call, gradOutput, record, shape, { ...rest, outputMask: mask });
  return { gradInput, gradWeight };
}
