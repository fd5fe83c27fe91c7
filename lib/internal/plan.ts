// From a norm's arguments to a plan: torch's rules in torch's order and words, each once for the layer and the function
// of a norm. How x is read comes first (its rank), then what must fit it.

import { elementsOf, type DType, type Tensor } from '../tensor';
import { Flag } from './addon';
import { parametersOf, sameShape, type Plan } from './call';
import { checkSize, describe, formatShape } from './errors';
import * as geometry from './geometry';
import type { Geometry, Layout } from './geometry';

/** How a norm reads x. `shape` is for messages. */
export interface Reading extends Layout {
  shape: readonly number[];
  /** Of LayerNorm: see Plan.reorder. */
  reorder?: number;
}

export interface Affine {
  readonly weight: Tensor | null;
  readonly bias: Tensor | null;
}
/** What BatchNorm and InstanceNorm normalize with; the running statistics are moved in training. */
export interface Tracked extends Affine {
  readonly runningMean: Tensor | null;
  readonly runningVar: Tensor | null;
}

/** (N, C, ...S), in channels-last memory or not. */
export function readChannels(x: Tensor): Reading {
  const { shape } = x;
  let s = 1;
  for (let i = 2; i < shape.length; i++) s *= shape[i]!;
  return { n: shape[0]!, c: shape[1]!, s, channelsLast: !x.isContiguous && x.isChannelsLast, shape };
}

/** The same for GroupNorm, in torch's words. */
export function readGroups(x: Tensor, where: string): Reading {
  const rank = x.shape.length;
  if (rank >= 2) return readChannels(x);
  throw new RangeError(`${where}: Expected at least 2 dimensions for input tensor but received ${rank}`);
}

/** (C, ...S): one sample. */
export function readUnbatched({ shape }: Tensor): Reading {
  return { n: 1, c: shape[0]!, s: elementsOf(shape.slice(1)), channelsLast: false, shape };
}

export function checkNormalizedShape(given: unknown, where: string): readonly number[] {
  if (typeof given !== 'number' && !Array.isArray(given)) {
    throw new TypeError(`${where}: normalizedShape must be an integer or an array, but got ${describe(given)}`);
  }
  const shape = typeof given === 'number' ? [given] : [...(given as unknown[])];
  if (shape.length === 0) {
    throw new RangeError(
      `${where}: Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, ` +
        'but got normalized_shape = []',
    );
  }
  return Object.freeze(shape.map((size, i) => checkSize(where, `normalizedShape[${i}]`, size)));
}

/**
 * (..., *normalizedShape): n rows of c elements; or, where channels-last memory is taken as it lies, n matrices of c rows
 * and s columns, which are normalized down.
 */
export function readTrailing(x: Tensor, normalizedShape: readonly number[], where: string, asItLies = false): Reading {
  const { shape } = x;
  const offset = shape.length - normalizedShape.length;
  let fits = offset >= 0;
  for (let i = 0; fits && i < normalizedShape.length; i++) fits = normalizedShape[i] === shape[offset + i];
  if (!fits) {
    throw new RangeError(
      `${where}: Given normalized_shape=${formatShape(normalizedShape)}, expected input with shape ` +
        `[*, ${normalizedShape.join(', ')}], but got input of size${formatShape(shape)}`,
    );
  }
  const c = elementsOf(normalizedShape);
  const rows = { n: c === 0 ? 0 : x.size / c, c, s: 1, channelsLast: false, shape };
  if (!asItLies || c === 0 || x.isContiguous || !x.isChannelsLast) return rows;
  const spatial = shape.length - 2;
  if (normalizedShape.length > spatial) return { ...rows, channelsLast: true, reorder: spatial };
  return { ...rows, n: rows.n / shape[1]!, s: shape[1]!, channelsLast: true };
}

export function checkAxis(axis: unknown, normalizedShape: readonly number[], where: string): number | null {
  if (axis === null) return null;
  if (!Number.isSafeInteger(axis)) {
    const Kind = typeof axis === 'number' ? RangeError : TypeError;
    throw new Kind(`${where}: axis must be an integer, but got ${describe(axis)}`);
  }
  if (normalizedShape.length === 1) return axis as number;
  throw new RangeError(
    `${where}: axis goes with a normalizedShape of one size, but got ${normalizedShape.length} sizes`,
  );
}

/** n matrices of c channels and s columns around one axis, which is normalized. */
export function readAxis(x: Tensor, channels: number, axis: number, where: string): Reading {
  const { shape } = x;
  const at = axis < 0 ? axis + shape.length : axis;
  if (shape[at] !== channels) {
    throw new RangeError(
      `${where}: Given normalized_shape=[${channels}] and axis=${axis}, expected input with ${channels} elements in that ` +
        `dimension, but got input of size${formatShape(shape)}`,
    );
  }
  const [n, s] = [elementsOf(shape.slice(0, at)), elementsOf(shape.slice(at + 1))];
  return { n, c: channels, s, channelsLast: at === 1 && !x.isContiguous && x.isChannelsLast, shape };
}

/** LayerNorm and RMSNorm: a weight and a bias for each element. */
export function checkElementwise(where: string, normalizedShape: readonly number[], p: Affine): void {
  const check = (name: string, t: Tensor | null): void => {
    if (!t || sameShape(t.shape, normalizedShape)) return;
    throw new RangeError(
      `${where}: Expected ${name} to be of same shape as normalized_shape, but got ${name} of shape ` +
        `${formatShape(t.shape)} and normalized_shape = ${formatShape(normalizedShape)}`,
    );
  };
  check('weight', p.weight);
  check('bias', p.bias);
}

export function planOf(
  x: Pick<Reading, 'channelsLast' | 'reorder'>,
  geometry: Geometry,
  flags: number,
  eps: number,
  p: Affine,
): Plan {
  const { weight, bias } = p;
  const { channelsLast } = x;
  const none = { runningMean: null, runningVar: null, momentum: 0, defer: false };
  return { geometry, channelsLast, flags, eps, weight, bias, ...none, reorder: x.reorder ?? 0 };
}

/** In torch's order: running_mean, running_var, weight, bias; each has one element for each channel. */
function checkChannels(where: string, c: number, p: Tracked): void {
  const check = (name: string, t: Tensor | null): void => {
    if (t && t.size !== c) throw new RangeError(`${where}: ${name} should contain ${c} elements not ${t.size}`);
  };
  check('running_mean', p.runningMean);
  check('running_var', p.runningVar);
  check('weight', p.weight);
  check('bias', p.bias);
}

/** Gives the plan the running statistics, to use or to move. */
function track(plan: Plan, p: Tracked, useRunning: boolean, momentum: number): Plan {
  plan.runningMean = p.runningMean;
  plan.runningVar = p.runningVar;
  plan.momentum = momentum;
  if (useRunning) plan.flags += Flag.useRunning;
  return plan;
}

/** `training`: by the batch's statistics, which are of x `alone`. */
export function batchNorm(
  where: string,
  x: Reading,
  p: Tracked,
  training: boolean,
  momentum: number,
  eps: number,
  alone = true,
): Plan {
  if (training && alone && x.n * x.s === 1) {
    throw new RangeError(
      `${where}: Expected more than 1 value per channel when training, got input size ${formatShape(x.shape)}`,
    );
  }
  if (training && eps <= 0) {
    throw new RangeError(`${where}: batch_norm eps must be positive during training, but got ${eps}`);
  }
  if (eps < 0) throw new RangeError(`${where}: batch_norm eps must be non-negative, but got ${eps}`);
  if (!training && !(p.runningMean && p.runningVar)) {
    const missing = p.runningMean ? 'running_var' : 'running_mean';
    throw new RangeError(`${where}: ${missing} must be defined in evaluation mode`);
  }
  checkChannels(where, x.c, p);
  return track(planOf(x, geometry.batchNorm(x), Flag.zeroVarIsZero, eps, p), p, !training, momentum);
}

export function instanceNorm(
  where: string,
  x: Reading,
  p: Tracked,
  useInputStats: boolean,
  momentum: number,
  eps: number,
): Plan {
  if (useInputStats && x.s === 1) {
    throw new RangeError(
      `${where}: Expected more than 1 spatial element when training, got input size ${formatShape(x.shape)}`,
    );
  }
  if (!useInputStats && !(p.runningMean && p.runningVar)) {
    throw new RangeError(`${where}: Expected running_mean and running_var to be defined when use_input_stats is false`);
  }
  checkChannels(where, x.c, p);
  // By running statistics every instance is alike: that is BatchNorm's view.
  const view = useInputStats ? geometry.instanceNorm(x) : geometry.batchNorm(x);
  return track(planOf(x, view, Flag.zeroVarIsZero, eps, p), p, !useInputStats, momentum);
}

export function groupNorm(where: string, x: Reading, numGroups: number, p: Affine, eps: number): Plan {
  const size = formatShape(x.shape);
  if (x.c % numGroups !== 0) {
    throw new RangeError(
      `${where}: Expected number of channels in input to be divisible by num_groups, but got input of shape ` +
        `${size} and num_groups=${numGroups}`,
    );
  }
  const check = (name: string, t: Tensor | null): void => {
    if (!t || t.size === x.c) return;
    throw new RangeError(
      `${where}: Expected ${name} to be a vector of size equal to the number of channels in input, but got ${name} of ` +
        `shape ${formatShape(t.shape)} and input of shape ${size}`,
    );
  };
  check('weight', p.weight);
  check('bias', p.bias);
  if ((x.n * x.c * x.s) / numGroups === 1) {
    throw new RangeError(`${where}: Expected more than 1 value per channel when training, got input size ${size}`);
  }
  return planOf(x, geometry.groupNorm(x, numGroups), 0, eps, p);
}

export function layerNorm(x: Reading, p: Affine, eps: number): Plan {
  return planOf(x, geometry.layerNorm(x.n, x.c, x.s), 0, eps, p);
}

/** LayerNorm of what `readAxis` has read. */
export function channelNorm(x: Reading, p: Affine, eps: number): Plan {
  const { n, c, s } = x;
  return planOf(x, x.channelsLast ? geometry.layerNorm(n * s, c, 1) : geometry.layerNorm(n, c, s), 0, eps, p);
}

/** RMSNorm's default eps: of the type it computes in. */
export const machineEpsilon = (dtype: DType): number => (parametersOf(dtype) === 'float64' ? 2 ** -52 : 2 ** -23);

export function rmsNorm(x: Reading, weight: Tensor | null, eps: number): Plan {
  return planOf(x, geometry.layerNorm(x.n, x.c, x.s), Flag.aboutZero, eps, { weight, bias: null });
}
