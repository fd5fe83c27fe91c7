// The one path into the kernels, without state: tensors and a plan in, an output and what backward needs out. Layers
// bring their own parameters, functions those of the call; nothing here knows either by name, nor torch's rules.

import { allocate, asTensor, elementsOf, Tensor, viewOf, type DType, type TensorData } from '../tensor';
import { addon, Block, check, Flag, Names, type FloatArray } from './addon';
import { describe, formatShape, lengthOf } from './errors';
import { statistics, type Geometry } from './geometry';

export type FloatDType = 'float32' | 'float64';

/** What one call computes: made by plan.ts, which has checked that it all fits together. */
export interface Plan {
  geometry: Geometry;
  /** x is taken as it lies, in channels-last memory; otherwise it is made contiguous. */
  channelsLast: boolean;
  /** Flag.aboutZero, Flag.zeroVarIsZero, Flag.useRunning */
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
}

/** What a forward leaves for its backward. */
export interface Saved {
  plan: Plan;
  x: Tensor;
  /** Five doubles for each (batch, group): see native/ops/statistics.h. */
  statistics: Float64Array;
}

/** What to save: nothing, the statistics to look at, or the input too, itself or a copy. */
export type Keep = 'statistics' | 'reference' | 'copy' | null;

export const isFloat = (dtype: DType): dtype is FloatDType => dtype === 'float32' || dtype === 'float64';

/** Whether data of one dtype go with parameters of the other. Outputs and their gradients are of the data's. */
export const accepts = (data: DType, parameters: FloatDType): boolean => data === parameters;

/** The data of a layer's call: a tensor of a dtype that goes with its parameters. */
export function dataOf(value: unknown, where: string, name: string, parameters: FloatDType): Tensor {
  const x = asTensor(value, where, name, parameters);
  if (!accepts(x.dtype, parameters)) {
    const hint = isFloat(x.dtype)
      ? `mixed dtype: all inputs must share same datatype; make the layer with dtype: '${x.dtype}' or convert the data`
      : 'layers take floating point data; scale integers to floats first';
    throw new TypeError(`${where}: ${name} is ${x.dtype}, the layer is ${parameters}: ${hint}`);
  }
  x.checkExtent(where, name);
  return x;
}

/** Where a forward reads and writes. */
export interface Places {
  /** The input as the kernels take it, and as it is kept for backward. */
  x: Tensor;
  y: Tensor;
  /** Backward needs x, and it is the caller's own memory: y may not lie over it. */
  keepsInput: boolean;
}

/** `keep`: what is kept of the input for backward. */
export function place(where: string, given: Tensor, channelsLast: boolean, keep: Keep, out: unknown): Places {
  const x = channelsLast ? given : given.contiguous();
  const y = target(out, x, channelsLast, where);
  if (keep === 'reference' && out !== undefined && x.data.buffer === y.data.buffer && overlap(x, y)) {
    throw new RangeError(
      `${where}: out overlaps the input, which backward needs; work in place inside noGrad, or pass saveInput: 'copy'`,
    );
  }
  const borrowed = x === given;
  return {
    x: keep === 'copy' && borrowed ? copyAsItLies(x, channelsLast) : x,
    y,
    keepsInput: keep === 'reference' && borrowed,
  };
}

/** The gradient of an output as it is to lie, and where the gradient of the kept input x goes. */
export function placeBack(
  where: string,
  given: Tensor,
  x: Tensor,
  channelsLast: boolean,
  out: unknown,
): { dy: Tensor; dx: Tensor } {
  checkGradShape(where, given, x.shape);
  x.checkExtent(where, 'the kept input');
  return { dy: layOut(given, channelsLast), dx: target(out, x, channelsLast, where) };
}

// One for all calls: they are synchronous, and native copies it before all else.
const block = new Float64Array(Block.length);

export function forward(
  where: string,
  given: Tensor,
  plan: Plan,
  keep: Keep,
  out: unknown,
): { y: Tensor; saved: Saved | null } {
  const { geometry, flags } = plan;
  const { x, y, keepsInput } = place(where, given, plan.channelsLast, keep, out);
  const saved = keep ? new Float64Array(5 * statistics(geometry)) : null;
  if (elementsOf(x.shape) > 0) {
    const weight = arrayOf(plan.weight, where, 'weight');
    const bias = arrayOf(plan.bias, where, 'bias');
    const runningMean = arrayOf(plan.defer ? null : plan.runningMean, where, 'running_mean');
    const runningVar = arrayOf(plan.defer ? null : plan.runningVar, where, 'running_var');
    block.set(geometry);
    block[Block.offsetX] = x.offset;
    block[Block.offsetY] = y.offset;
    block[Block.eps] = plan.eps;
    block[Block.momentum] = plan.momentum;
    block[Block.flags] = flags + (keepsInput ? Flag.keepsInput : 0);
    const [from, to] = [x.data as FloatArray, y.data as FloatArray];
    check(addon.forward(block, from, to, weight, bias, saved, runningMean, runningVar), where, Names.forward);
  }
  return { y, saved: saved && { plan, x, statistics: saved } };
}

/** Adds into dweight and dbias, and returns the gradient of the input, unless `out` is null. */
export function backward(
  where: string,
  saved: Saved,
  given: Tensor,
  dweight: Tensor | null,
  dbias: Tensor | null,
  out: unknown,
): Tensor | null {
  const { plan, x } = saved;
  checkGradShape(where, given, x.shape);
  x.checkExtent(where, 'the kept input');
  const dy = layOut(given, plan.channelsLast);
  const dx = out === null ? null : target(out, x, plan.channelsLast, where);
  if (elementsOf(x.shape) > 0) {
    const weight = arrayOf(plan.weight, where, 'weight');
    const weightGrad = arrayOf(dweight, where, 'weight.grad');
    const biasGrad = arrayOf(dbias, where, 'bias.grad');
    block.set(plan.geometry);
    block[Block.offsetX] = x.offset;
    block[Block.offsetY] = dx ? dx.offset : 0;
    block[Block.offsetDy] = dy.offset;
    block[Block.flags] = plan.flags;
    const [gradOutput, from] = [dy.data as FloatArray, x.data as FloatArray];
    const to = dx && (dx.data as FloatArray);
    const fault = addon.backward(block, gradOutput, from, to, weight, saved.statistics, weightGrad, biasGrad);
    check(fault, where, Names.backward);
  }
  return dx;
}

export function checkGradShape(where: string, dy: Tensor, shape: readonly number[]): void {
  if (sameShape(dy.shape, shape)) return;
  throw new RangeError(
    `${where}: grad_output has shape ${formatShape(dy.shape)}, the latest forward's output has ${formatShape(shape)}`,
  );
}

/** What forwards that deferred it have left: the running statistics take in the batch that these are the parts of. */
export function updateRunning(where: string, parts: readonly Saved[]): void {
  const filled = parts.filter(({ x }) => elementsOf(x.shape) > 0);
  if (filled.length === 0) return;
  const { runningMean, runningVar, momentum, geometry } = filled[0]!.plan;
  if (!runningMean) return;
  const counts = filled.flatMap(({ plan: { geometry: g } }) => new Array<number>(g[0]).fill(g[1] * g[3]));
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
  const fault = addon.updateRunning(block, mean, variance, all, Float64Array.from(counts));
  check(fault, where, Names.updateRunning);
}

/** (count, mean, meanLow, m2, m2Low) for each (batch, group) of a contiguous x. */
export function momentsOf(where: string, x: Tensor, geometry: Geometry): Float64Array {
  const out = new Float64Array(5 * statistics(geometry));
  if (elementsOf(x.shape) === 0) return out;
  block.set(geometry);
  block[Block.offsetX] = x.offset;
  block[Block.flags] = 0;
  check(addon.moments(block, x.data as FloatArray, out), where, Names.moments);
  return out;
}

/** The output for x: what the caller gave, if it fits, or a new array. */
export function target(out: unknown, x: Pick<Tensor, 'dtype' | 'shape'>, channelsLast: boolean, where: string): Tensor {
  const { dtype, shape } = x;
  const size = elementsOf(shape);
  if (out === undefined) return viewOf(allocate(dtype, size), shape, channelsLast);
  if (out instanceof Tensor) {
    if (out.dtype !== dtype) throw new TypeError(`${where}: out is ${out.dtype}, the input is ${dtype}`);
    const laid = channelsLast ? out.isChannelsLast : out.isContiguous;
    if (!sameShape(out.shape, shape) || !laid) {
      throw new RangeError(
        `${where}: out must have shape ${formatShape(shape)} in ${channelsLast ? 'channels-last' : 'contiguous'} memory ` +
          `as the input, but has shape ${formatShape(out.shape)} and strides ${formatShape(out.strides)}`,
      );
    }
    out.checkExtent(where, 'out');
    return out;
  }
  if (!ArrayBuffer.isView(out)) {
    throw new TypeError(`${where}: out must be a typed array or a Tensor, but got ${describe(out)}`);
  }
  if (lengthOf(out) !== size || new Tensor(out as TensorData, [lengthOf(out)], {}, `${where}: out`).dtype !== dtype) {
    throw new (lengthOf(out) !== size ? RangeError : TypeError)(
      `${where}: out must be ${dtype} with ${size} elements, but got ${describe(out)} with ${lengthOf(out)}`,
    );
  }
  return viewOf(out as TensorData, shape, channelsLast);
}

/** The elements of a parameter or buffer as the kernels take them: an array of exactly its size. */
function arrayOf(t: Tensor | null, where: string, name: string): FloatArray | null {
  if (t === null) return null;
  if (t.offset === 0 && lengthOf(t.data) === t.size && t.isContiguous) return t.data as FloatArray;
  t.checkExtent(where, name);
  if (!t.isContiguous)
    throw new RangeError(`${where}: ${name} must be contiguous, but has strides ${formatShape(t.strides)}`);
  return t.data.subarray(t.offset, t.offset + t.size) as FloatArray;
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function overlap(a: Tensor, b: Tensor): boolean {
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
  return viewOf(last.data, x.shape, true);
}

function copyAsItLies(x: Tensor, channelsLast: boolean): Tensor {
  return viewOf(x.data.slice(x.offset, x.offset + x.size), x.shape, channelsLast);
}
