// What functions are given, turned into what a call takes: parameters of the input's dtype, and a plan.

import { parametersOf, type Plan } from '../internal/call';
import { checkBoolean, checkNumber, checkOptions, checkSize, describe } from '../internal/errors';
import * as plan from '../internal/plan';
import type { OutputPool } from '../output-pool';
import { asTensor, type DType, type Tensor, type TensorData, type TensorLike } from '../tensor';

export interface Call {
  where: string;
  x: Tensor;
  plan: Plan;
}

export interface BatchNormOptions {
  /** Shape (C). What x is normalized by, or in training what takes in the batch, in place; default null. */
  runningMean?: TensorLike | null | undefined;
  /** Shape (C), of unbiased variances; default null. */
  runningVar?: TensorLike | null | undefined;
  /** Shape (C); default null: ones. */
  weight?: TensorLike | null | undefined;
  /** Shape (C); default null: zeros. */
  bias?: TensorLike | null | undefined;
  /** By the batch's own statistics; default false. */
  training?: boolean | undefined;
  /** The share of the batch in the running statistics; default 0.1. */
  momentum?: number | undefined;
  /** Added to the variance under the root; default 1e-5. */
  eps?: number | undefined;
}
export interface InstanceNormOptions extends Omit<BatchNormOptions, 'training'> {
  /** By each sample's own statistics; default true. */
  useInputStats?: boolean | undefined;
}
export interface AffineOptions {
  /** Default null: ones. */
  weight?: TensorLike | null | undefined;
  /** Default null: zeros. */
  bias?: TensorLike | null | undefined;
  /** Added to the variance under the root; default 1e-5. */
  eps?: number | undefined;
}
export interface RMSNormOptions {
  /** Default null: ones. */
  weight?: TensorLike | null | undefined;
  /** Added to the mean square under the root; default null: the machine epsilon of the dtype. */
  eps?: number | null | undefined;
}
export interface OutOption {
  /**
   * Where to write the output: a typed array or contiguous tensor of the input's dtype and size, or memory of a pool; may
   * be the input.
   */
  out?: TensorData | Tensor | OutputPool | undefined;
}

export function inputOf(value: TensorLike, where: string, name = 'input'): Tensor {
  const x = asTensor(value, where, name, 'float32');
  if (!parametersOf(x.dtype)) {
    throw new TypeError(`${where}: ${name} is ${x.dtype}, but must be floating point; scale integers to floats first`);
  }
  x.checkExtent(where, name);
  return x;
}

/** A tensor of the dtype that goes with x: its own for a gradient of the output, else that of its parameters. */
export function besideOf(
  value: TensorLike | null | undefined,
  where: string,
  name: string,
  x: Tensor,
  dtype: DType = parametersOf(x.dtype)!,
): Tensor | null {
  if (value == null) return null;
  const t = asTensor(value, where, name, dtype);
  if (t.dtype !== dtype) {
    throw new TypeError(
      `${where}: ${name} is ${t.dtype}, the input is ${x.dtype}: mixed dtype: all inputs must share same datatype`,
    );
  }
  t.checkExtent(where, name);
  return t;
}

const parameterOf = (value: TensorLike | null | undefined, where: string, name: string, x: Tensor): Tensor | null =>
  besideOf(value, where, name, x)?.contiguous() ?? null;

/** A running statistic: in training it is written to, so it must be memory of the caller's. */
function bufferOf(
  value: TensorLike | null | undefined,
  where: string,
  name: string,
  x: Tensor,
  written: boolean,
): Tensor | null {
  if (!written) return parameterOf(value, where, name, x);
  if (Array.isArray(value)) {
    throw new TypeError(`${where}: ${name} must be a tensor, which takes in the batch, but got ${describe(value)}`);
  }
  return besideOf(value, where, name, x);
}

const numberOr = (value: unknown, fallback: number, where: string, name: string): number =>
  value === undefined ? fallback : checkNumber(where, name, value);
const booleanOr = (value: unknown, fallback: boolean, where: string, name: string): boolean =>
  value === undefined ? fallback : checkBoolean(where, name, value);

function atLeast2D(x: Tensor, where: string): plan.Reading {
  if (x.ndim < 2) throw new RangeError(`${where}: expected at least 2D input (got ${x.ndim}D input)`);
  return plan.readChannels(x);
}

function tracked(o: BatchNormOptions, where: string, x: Tensor, written: boolean): plan.Tracked {
  return {
    runningMean: bufferOf(o.runningMean, where, 'running_mean', x, written),
    runningVar: bufferOf(o.runningVar, where, 'running_var', x, written),
    ...affine(o, where, x),
  };
}
const affine = (o: AffineOptions, where: string, x: Tensor): plan.Affine => ({
  weight: parameterOf(o.weight, where, 'weight', x),
  bias: parameterOf(o.bias, where, 'bias', x),
});

const tracking = ['runningMean', 'runningVar', 'weight', 'bias', 'momentum', 'eps'];

export function batchNorm(where: string, input: TensorLike, o: BatchNormOptions, more: string[]): Call {
  checkOptions(where, o, [...tracking, 'training', ...more]);
  const x = inputOf(input, where);
  const training = booleanOr(o.training, false, where, 'training');
  const momentum = numberOr(o.momentum, 0.1, where, 'momentum');
  const eps = numberOr(o.eps, 1e-5, where, 'eps');
  const reading = atLeast2D(x, where);
  return {
    where,
    x,
    plan: plan.batchNorm(where, reading, tracked(o, where, x, training), training, momentum, eps),
  };
}

export function instanceNorm(where: string, input: TensorLike, o: InstanceNormOptions, more: string[]): Call {
  checkOptions(where, o, [...tracking, 'useInputStats', ...more]);
  const x = inputOf(input, where);
  const own = booleanOr(o.useInputStats, true, where, 'useInputStats');
  const momentum = numberOr(o.momentum, 0.1, where, 'momentum');
  const eps = numberOr(o.eps, 1e-5, where, 'eps');
  const reading = atLeast2D(x, where);
  return { where, x, plan: plan.instanceNorm(where, reading, tracked(o, where, x, own), own, momentum, eps) };
}

export function groupNorm(where: string, input: TensorLike, numGroups: number, o: AffineOptions, more: string[]): Call {
  checkOptions(where, o, ['weight', 'bias', 'eps', ...more]);
  const x = inputOf(input, where);
  const groups = checkSize(where, 'numGroups', numGroups, 1);
  const eps = numberOr(o.eps, 1e-5, where, 'eps');
  return { where, x, plan: plan.groupNorm(where, plan.readGroups(x, where), groups, affine(o, where, x), eps) };
}

export type NormalizedShape = number | readonly number[];

export interface LayerNormOptions extends AffineOptions {
  /** The one dimension that is normalized instead of the last ones, with a normalizedShape of one size; default null. */
  axis?: number | null | undefined;
}

export function layerNorm(
  where: string,
  input: TensorLike,
  normalizedShape: NormalizedShape,
  o: LayerNormOptions,
  more: string[],
): Call {
  checkOptions(where, o, ['weight', 'bias', 'eps', ...more]);
  const x = inputOf(input, where);
  const shape = plan.checkNormalizedShape(normalizedShape, where);
  const axis = plan.checkAxis(o.axis ?? null, shape, where);
  const p = affine(o, where, x);
  plan.checkElementwise(where, shape, p);
  const eps = numberOr(o.eps, 1e-5, where, 'eps');
  if (axis !== null) return { where, x, plan: plan.channelNorm(plan.readAxis(x, shape[0]!, axis, where), p, eps) };
  return { where, x, plan: plan.layerNorm(plan.readTrailing(x, shape, where), p, eps) };
}

export function rmsNorm(
  where: string,
  input: TensorLike,
  normalizedShape: NormalizedShape,
  o: RMSNormOptions,
  more: string[],
): Call {
  checkOptions(where, o, ['weight', 'eps', ...more]);
  const x = inputOf(input, where);
  const shape = plan.checkNormalizedShape(normalizedShape, where);
  const weight = parameterOf(o.weight, where, 'weight', x);
  plan.checkElementwise(where, shape, { weight, bias: null });
  const eps = o.eps == null ? plan.machineEpsilon(x.dtype) : checkNumber(where, 'eps', o.eps);
  return { where, x, plan: plan.rmsNorm(plan.readTrailing(x, shape, where), weight, eps) };
}
