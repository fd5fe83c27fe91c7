// The one path into the kernels, without state: tensors and a plan in, an output and what backward needs out. Layers
// bring their own parameters, functions those of the call; nothing here knows either by name, nor torch's rules.

import { asTensor, gather, kindOfDtype, Tensor, type DType, type TensorData } from '../tensor';
import { OutputPool } from '../output-pool';
import { addon, Block, check, Flag, Names, type Addon, type DataArray, type FloatArray } from './addon';
import { arrayKind, describe, formatShape, lengthOf } from './errors';
import { statistics, type Geometry } from './geometry';
import { allocateOutput } from './memory';

/** Of parameters and statistics. */
export type FloatDType = 'float32' | 'float64';
/** Of data: 16-bit floats are computed in float32, with parameters of float32. */
export type DataDType = FloatDType | 'float16' | 'bfloat16';

/**
 * What one call computes: made by plan.ts, which has checked that it all fits together. Nothing changes it once a call
 * has been made with it, because a layer's calls and what they keep share it.
 */
export interface Plan {
  geometry: Geometry;
  /** x is taken as it lies, in channels-last memory; otherwise it is made contiguous. */
  channelsLast: boolean;
  /** Flag.aboutZero, Flag.zeroVarIsZero, Flag.useRunning, Flag.relu */
  flags: number;
  eps: number;
  weight: Tensor | null;
  bias: Tensor | null;
  /** With Flag.useRunning, what x is normalized by; else what the batch is taken into, if not null. */
  runningMean: Tensor | null;
  runningVar: Tensor | null;
  /** The share of the batch in the running statistics. */
  momentum: number;
  /** The running statistics wait for `updateRunning`. */
  defer: boolean;
  /**
   * Of how many spatial dimensions weight and bias, (C, ...S), are where x lies as (...S, C): the kernels take copies in
   * that order. 0 where nothing is to be reordered.
   */
  reorder: number;
}

/** What a forward leaves for its backward. */
export interface Saved {
  plan: Plan;
  x: Tensor;
  /** Five doubles for each (batch, group): see Statistic in native/core/statistic.h. */
  statistics: Float64Array;
  /** What was added to y before the ReLU, of x's shape and in its memory order. */
  add: Tensor | null;
  /** How many values are behind each statistic, where they are of more than x: see internal/ranks.ts. */
  count?: number;
}

/** What to save: nothing, the statistics to look at, or the input too, itself or a copy. */
export type Keep = 'statistics' | 'reference' | 'copy' | null;

export const isFloat = (dtype: DType): dtype is FloatDType => dtype === 'float32' || dtype === 'float64';
const isHalf = (dtype: DType): boolean => dtype === 'float16' || dtype === 'bfloat16';

/** The dtype of parameters for such data, or undefined for data that layers do not take. */
export const parametersOf = (data: DType): FloatDType | undefined =>
  isFloat(data) ? data : isHalf(data) ? 'float32' : undefined;

/** The data of a layer's call: a tensor of a dtype that goes with its parameters. */
export function inputOf(value: unknown, where: string, name: string, parameters: FloatDType): Tensor {
  const x = asTensor(value, where, name, parameters);
  const needed = parametersOf(x.dtype);
  if (needed !== parameters) {
    const hint = needed
      ? `mixed dtype: all inputs must share same datatype; make the layer with dtype: '${needed}' or convert the data`
      : 'layers take floating point data; scale integers to floats first, as data preprocessing does';
    throw new TypeError(`${where}: ${name} is ${x.dtype}, the layer is ${parameters}: ${hint}`);
  }
  x.checkExtent(where, name);
  return x;
}

/** What is added to the output: of the input's dtype and shape. */
export function addendOf(value: unknown, x: Tensor, where: string): Tensor {
  const add = asTensor(value, where, 'add', x.dtype);
  if (add.dtype !== x.dtype) throw new TypeError(`${where}: add is ${add.dtype}, the input is ${x.dtype}`);
  if (!add.layout.hasShapeOf(x.layout)) {
    throw new RangeError(`${where}: add has shape ${formatShape(add.shape)}, the input has ${formatShape(x.shape)}`);
  }
  add.checkExtent(where, 'add');
  return add;
}

/** Where a forward reads and writes. */
export interface Places {
  /** The input as the kernels take it, and as it is kept for backward. */
  x: Tensor;
  y: Tensor;
  /** Backward needs x, and it is the caller's own memory: y may not lie over it. */
  keepsInput: boolean;
}

const overlaps = (where: string, name: string): RangeError =>
  new RangeError(
    `${where}: out overlaps ${name}, which backward needs; work in place inside noGrad, or pass saveInput: 'copy'`,
  );

/** `keep`: what is kept of the input for backward. */
export function place(where: string, given: Tensor, channelsLast: boolean, keep: Keep, out: unknown): Places {
  const x = channelsLast ? given : given.contiguous();
  const y = target(out, x, channelsLast, where);
  if (keep === 'reference' && out !== undefined && shareMemory(x, y)) {
    throw overlaps(where, 'the input');
  }
  const borrowed = x === given;
  return {
    x: keep === 'copy' && borrowed ? copyAsItLies(x, channelsLast) : x,
    y,
    keepsInput: keep === 'reference' && borrowed,
  };
}

/** The gradient of an output as it is to lie, and where the gradient of the kept input x goes, unless `out` is null. */
export function placeBack(
  where: string,
  given: Tensor,
  x: Tensor,
  channelsLast: boolean,
  out: unknown,
): { dy: Tensor; dx: Tensor | null } {
  checkGrad(where, given, x);
  x.checkExtent(where, 'the kept input');
  return { dy: layOut(given, channelsLast), dx: out === null ? null : target(out, x, channelsLast, where) };
}

// One for all calls: they are synchronous, and native copies it before all else.
const block = new Float64Array(Block.length);
export const storage = (x: Tensor): number => (x.dtype === 'bfloat16' ? Flag.bfloat16 : 0);

function setGeometry(geometry: Geometry): void {
  for (let i = 0; i < geometry.length; i++) block[i] = geometry[i]!;
}

/** The bit of an optional argument in Block.given. */
const given = (argument: number, array: unknown): number => (array === null ? 0 : 1 << argument);

/**
 * `add`: what is added to y before the ReLU, of x's dtype and shape. `spare`: an array that nobody needs any more, for the
 * statistics if it fits, or the statistics themselves with Flag.useSaved, of `count` values each. `enter`: another way into
 * the kernels, with the same arguments.
 */
export function forward(
  where: string,
  input: Tensor,
  plan: Plan,
  keep: Keep,
  out: unknown,
  add: Tensor | null = null,
  spare: Float64Array | null = null,
  enter: Addon['forward'] = addon.forward,
  count?: number,
): { y: Tensor; saved: Saved | null } {
  const { channelsLast, geometry } = plan;
  const { x, y, keepsInput } = place(where, input, channelsLast, keep, out);
  const added = add && layOut(add, channelsLast);
  const relu = (plan.flags & Flag.relu) !== 0;
  if (added && relu && keep === 'reference' && out !== undefined && shareMemory(added, y)) {
    throw overlaps(where, 'add');
  }
  // Before native writes to y, which may lie over it.
  const kept = added && relu && keep === 'copy' ? copyAsItLies(added, channelsLast) : added;
  const records = 5 * statistics(geometry);
  const saved = !keep ? null : spare?.length === records ? spare : new Float64Array(records);
  if (x.size > 0) {
    const weight = arrayOf(inMemoryOrder(plan.weight, plan), where, 'weight');
    const bias = arrayOf(inMemoryOrder(plan.bias, plan), where, 'bias');
    const mean = arrayOf(plan.defer ? null : plan.runningMean, where, 'running_mean');
    const variance = arrayOf(plan.defer ? null : plan.runningVar, where, 'running_var');
    const plus = added && dataOf(added, where, 'add');
    const from = dataOf(x, where, 'input');
    const to = dataOf(y, where, 'out');
    setGeometry(geometry);
    block[Block.offsetX] = x.offset;
    block[Block.offsetY] = y.offset;
    block[Block.offsetAdd] = added ? added.offset : 0;
    block[Block.eps] = plan.eps;
    block[Block.momentum] = plan.momentum;
    block[Block.values] = count ?? 0;
    block[Block.flags] = plan.flags + storage(x) + (keepsInput ? Flag.keepsInput : 0);
    block[Block.given] =
      given(3, weight) + given(4, bias) + given(5, saved) + given(6, mean) + given(7, variance) + given(8, plus);
    check(enter(block, from, to, weight, bias, saved, mean, variance, plus), where, Names.forward);
  }
  if (!saved) return { y, saved: null };
  const left: Saved = { plan: relu ? gated(plan) : plan, x, statistics: saved, add: kept };
  if (count !== undefined) left.count = count;
  return { y, saved: left };
}

/** What the ReLU let through is found again from these as they are now, whatever an optimizer does meanwhile. */
function gated(plan: Plan): Plan {
  return { ...plan, weight: plan.weight && plan.weight.copy(), bias: plan.bias && plan.bias.copy() };
}

/**
 * Adds into dweight and dbias, and returns the gradient of the input, unless `out` is null. `gradAdd` is where the
 * gradient of what was added goes, if anybody wants it. `sums`: see Addon.backward.
 */
export function backward(
  where: string,
  saved: Saved,
  gradOutput: Tensor,
  dweight: Tensor | null,
  dbias: Tensor | null,
  out: unknown,
  gradAdd?: unknown,
  sums: Float64Array | null = null,
): Tensor | null {
  const { plan, x } = saved;
  const { channelsLast } = plan;
  const { dy, dx } = placeBack(where, gradOutput, x, channelsLast, out);
  const relu = (plan.flags & Flag.relu) !== 0;
  const add = relu ? saved.add : null;
  add?.checkExtent(where, 'what was added');
  const passed = gradAdd === undefined ? null : target(gradAdd, x, channelsLast, where, 'gradAdd');
  if (x.size > 0) {
    const weight = arrayOf(inMemoryOrder(plan.weight, plan), where, 'weight');
    const bias = relu ? arrayOf(inMemoryOrder(plan.bias, plan), where, 'bias') : null;
    const ownWeight = inMemoryOrder(dweight, plan);
    const ownBias = inMemoryOrder(dbias, plan);
    const weightGrad = arrayOf(ownWeight, where, 'weight.grad');
    const biasGrad = arrayOf(ownBias, where, 'bias.grad');
    const coming = dataOf(dy, where, 'grad_output');
    const from = dataOf(x, where, 'the kept input');
    const to = dx && dataOf(dx, where, 'out');
    const plus = add && dataOf(add, where, 'what was added');
    // Behind a ReLU what it let through needs a place; without one of its own that is dx.
    const gate = passed
      ? (dataOf(passed, where, 'gradAdd').subarray(passed.offset, passed.offset + x.size) as DataArray)
      : dx || !relu
        ? null
        : (allocateOutput(x.dtype, x.size) as DataArray);
    setGeometry(plan.geometry);
    block[Block.offsetX] = x.offset;
    block[Block.offsetY] = dx ? dx.offset : 0;
    block[Block.offsetDy] = dy.offset;
    block[Block.offsetAdd] = add ? add.offset : 0;
    block[Block.flags] = plan.flags + storage(x);
    block[Block.values] = saved.count ?? 0;
    block[Block.given] =
      given(3, to) +
      given(4, weight) +
      given(6, weightGrad) +
      given(7, biasGrad) +
      given(8, gate) +
      given(9, plus) +
      given(10, bias) +
      given(11, sums);
    const { statistics: kept } = saved;
    check(
      addon.backward(block, coming, from, to, weight, kept, weightGrad, biasGrad, gate, plus, bias, sums),
      where,
      Names.backward,
    );
    if (plan.reorder > 0) {
      if (dweight) fromMemoryOrder(ownWeight!, dweight, plan);
      if (dbias) fromMemoryOrder(ownBias!, dbias, plan);
    }
  }
  return dx;
}

/** That dy is what an output for x can have as its gradient. */
export function checkGrad(where: string, dy: Tensor, x: Pick<Tensor, 'dtype' | 'layout'>): void {
  if (!dy.layout.hasShapeOf(x.layout)) {
    throw new RangeError(
      `${where}: grad_output has shape ${formatShape(dy.shape)}, the latest forward's output has ${formatShape(x.layout.shape)}`,
    );
  }
  if (dy.dtype === x.dtype) return;
  throw new TypeError(`${where}: grad_output is ${dy.dtype}, the latest forward's output is ${x.dtype}`);
}

/** For calls that native does not see whole: that what is written lies apart from the rest. */
export function checkApart(where: string, name: string, out: Tensor, others: readonly (Tensor | null)[]): void {
  if (others.some((other) => other && shareMemory(out, other))) {
    throw new RangeError(`${where}: ${name} overlaps another argument`);
  }
}

/** What forwards that deferred it have left: the running statistics take in the batch that these are the parts of. */
export function updateRunning(where: string, parts: readonly Saved[]): void {
  const filled = parts.filter(({ x, count }) => (count ?? x.size) > 0);
  if (filled.length === 0) return;
  const { runningMean, runningVar, momentum, geometry } = filled[0]!.plan;
  if (!runningMean) return;
  const counts = filled.flatMap((part) => new Array<number>(part.plan.geometry[0]).fill(valuesBehind(part)));
  const groups = geometry[2];
  const all = new Float64Array(5 * groups * counts.length);
  let at = 0;
  for (const { statistics: own } of filled) {
    all.set(own, at);
    at += own.length;
  }
  const mean = arrayOf(runningMean, where, 'running_mean')!;
  const variance = arrayOf(runningVar, where, 'running_var');
  block.set([counts.length, 1, groups, 1, 1, groups]);
  block[Block.momentum] = momentum;
  block[Block.given] = given(2, variance);
  const fault = addon.updateRunning(block, mean, variance, all, Float64Array.from(counts));
  check(fault, where, Names.updateRunning);
}

/** How many values each statistic is of. */
export function valuesBehind({ count, plan: { geometry } }: Saved): number {
  return count ?? geometry[1] * geometry[3];
}

/** What the moments of `parts` sets of data come to together: five doubles for each of `groups`, for kernels on x's dtype. */
export function statisticsOfParts(
  where: string,
  x: Tensor,
  moments: Float64Array,
  parts: number,
  groups: number,
  { eps, flags }: Plan,
): Float64Array {
  const out = new Float64Array(5 * groups);
  setGeometry([parts, 1, groups, 1, 1, groups]);
  block[Block.eps] = eps;
  block[Block.flags] = flags + storage(x);
  const fault = addon.statisticsOfParts(block, dataOf(x, where, 'input'), moments, out);
  check(fault, where, Names.statisticsOfParts);
  return out;
}

/** (count, mean, meanLow, m2, m2Low) for each (batch, group) of a contiguous x. */
export function momentsOf(where: string, x: Tensor, geometry: Geometry): Float64Array {
  const out = new Float64Array(5 * statistics(geometry));
  if (x.size === 0) return out;
  setGeometry(geometry);
  block[Block.offsetX] = x.offset;
  block[Block.flags] = storage(x);
  check(addon.moments(block, dataOf(x, where, 'input'), out), where, Names.moments);
  return out;
}

/** The output for x: what the caller gave, if it fits, of a pool, or a new array. */
export function target(
  out: unknown,
  x: Pick<Tensor, 'dtype' | 'layout'>,
  channelsLast: boolean,
  where: string,
  name = 'out',
): Tensor {
  const { dtype, layout } = x;
  const { size, shape } = layout;
  if (out === undefined) return new Tensor(allocateOutput(dtype, size, where), layout.dense(channelsLast), { dtype });
  // Nobody but a return value tells the caller of what was lent.
  if (out instanceof OutputPool && name === 'out') {
    return new Tensor(out.lend(dtype, size, where), layout.dense(channelsLast), { dtype });
  }
  if (out instanceof Tensor) {
    if (out.dtype !== dtype) throw new TypeError(`${where}: ${name} is ${out.dtype}, the input is ${dtype}`);
    const laid = channelsLast ? out.isChannelsLast : out.isContiguous;
    if (!out.layout.hasShapeOf(layout) || !laid) {
      throw new RangeError(
        `${where}: ${name} must have shape ${formatShape(shape)} in ${channelsLast ? 'channels-last' : 'contiguous'} memory ` +
          `as the input, but has shape ${formatShape(out.shape)} and strides ${formatShape(out.strides)}`,
      );
    }
    out.checkExtent(where, name);
    return out;
  }
  if (!ArrayBuffer.isView(out) || arrayKind(out) === 'DataView') {
    throw new TypeError(`${where}: ${name} must be a typed array or a Tensor, but got ${describe(out)}`);
  }
  if (arrayKind(out) === kindOf(dtype) && lengthOf(out) === size) {
    return new Tensor(out as TensorData, layout.dense(channelsLast), { dtype });
  }
  const raw = arrayKind(out) === 'Uint16Array' && isHalf(dtype) ? { dtype } : {};
  const given = new Tensor(out as TensorData, [lengthOf(out)], raw, `${where}: ${name}`);
  if (given.size !== size || given.dtype !== dtype) {
    throw new (given.size !== size ? RangeError : TypeError)(
      `${where}: ${name} must be ${dtype} with ${size} elements, but got ${describe(out)} with ${given.size}`,
    );
  }
  // Float16Array
  return new Tensor(given.data, layout.dense(channelsLast), { dtype });
}

/** A parameter, or its gradient, in the order that the kernels meet it in: see Plan.reorder. */
function inMemoryOrder(t: Tensor | null, { reorder }: Plan): Tensor | null {
  if (!t || reorder === 0) return t;
  const [before, channel] = [t.ndim - reorder - 1, t.ndim - reorder];
  const axes = t.shape.map((_, i) => i);
  return t.permute(...axes.slice(0, before), ...axes.slice(channel), before).copy();
}
/** The way back. */
function fromMemoryOrder(own: Tensor, t: Tensor, { reorder }: Plan): void {
  const before = t.ndim - reorder - 1;
  const axes = t.shape.map((_, i) => i);
  const back = own.permute(...axes.slice(0, before), t.ndim - 1, ...axes.slice(before, -1));
  gather(back, t.data.subarray(t.offset, t.offset + t.size) as Float32Array);
}

const kindOf = (dtype: DType): string => kindOfDtype[dtype].name;

/** The data of a tensor, which must be of the input's dtype: native code would refuse it without its name. */
function dataOf(t: Tensor, where: string, name: string): DataArray {
  const { data, dtype } = t;
  if (arrayKind(data) === kindOf(dtype)) return data as DataArray;
  throw new TypeError(`${where}: ${name} has another dtype than the input`);
}

/** The elements of a parameter or buffer as the kernels take them: an array of exactly its size. */
function arrayOf(t: Tensor | null, where: string, name: string): FloatArray | null {
  if (t === null) return null;
  if (!(t instanceof Tensor)) throw new TypeError(`${where}: ${name} must be a Tensor, but got ${describe(t)}`);
  const data = dataOf(t, where, name) as FloatArray;
  if (t.offset === 0 && lengthOf(data) === t.size && t.isContiguous) return data;
  t.checkExtent(where, name);
  if (!t.isContiguous)
    throw new RangeError(`${where}: ${name} must be contiguous, but has strides ${formatShape(t.strides)}`);
  return data.subarray(t.offset, t.offset + t.size);
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function shareMemory(a: Tensor, b: Tensor): boolean {
  if (a.data.buffer !== b.data.buffer) return false;
  const bytes = (t: Tensor): [number, number] => {
    const { BYTES_PER_ELEMENT, byteOffset } = t.data;
    const from = byteOffset + t.offset * BYTES_PER_ELEMENT;
    return [from, from + t.size * BYTES_PER_ELEMENT];
  };
  const [aFrom, aTo] = bytes(a);
  const [bFrom, bTo] = bytes(b);
  return aFrom < bTo && bFrom < aTo;
}

/** The elements in the memory order asked for, without a copy where they lie so already. */
export function layOut(x: Tensor, channelsLast: boolean): Tensor {
  if (!channelsLast) return x.contiguous();
  if (x.isChannelsLast) return x;
  const axes = x.shape.map((_, i) => i);
  const last = x.permute(0, ...axes.slice(2), 1).copy();
  return new Tensor(last.data, x.layout.dense(true), { dtype: x.dtype });
}

function copyAsItLies(x: Tensor, channelsLast: boolean): Tensor {
  return new Tensor(x.data.slice(x.offset, x.offset + x.size), x.layout.dense(channelsLast), { dtype: x.dtype });
}
