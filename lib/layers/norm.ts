// What every normalization layer with statistics shares: the call into the kernels, and its parameters' gradients. A
// layer says which shapes it accepts and which geometry they have; nothing here knows a layer by name.

import { addon, Block, check, Flag, Names, type FloatArray } from '../internal/addon';
import { place, placeBack, sameShape, type FloatDType } from '../internal/call';
import { checkBoolean, checkNumber, formatShape, lengthOf } from '../internal/errors';
import { statistics, type Geometry } from '../internal/geometry';
import { allocate, elementsOf, Parameter, Tensor } from '../tensor';
import { Layer, type ForwardOptions } from './layer';

export type { FloatDType };

interface Saved {
  geometry: Geometry;
  channelsLast: boolean;
  x: Tensor;
  statistics: Float64Array;
  constant: boolean;
}

/** How one forward is to run. */
export interface Plan {
  geometry: Geometry;
  channelsLast: boolean;
  eps: number;
  /** Normalize by the running statistics instead of the input's. */
  useRunning: boolean;
  runningMean: Tensor | null;
  runningVar: Tensor | null;
  /** The share of the batch in the running statistics. */
  momentum: number;
}

export abstract class Norm extends Layer<Saved> {
  abstract readonly weight: Parameter | null;
  abstract readonly bias: Parameter | null;
  readonly #block = new Float64Array(Block.length);

  /** Refuses shapes the layer does not take, in torch's words. */
  protected abstract checkShape(shape: readonly number[]): void;
  /** Whether an input in channels-last memory is computed as it lies; otherwise it is copied first. */
  protected abstract readonly acceptsChannelsLast: boolean;
  /** Kernel flags: Flag.aboutZero for RMSNorm, Flag.zeroVarIsZero for BatchNorm and InstanceNorm. */
  protected abstract readonly flags: number;
  protected abstract plan(shape: readonly number[], channelsLast: boolean): Plan;
  /** After a forward that succeeded. */
  protected commit(): void {}

  protected override run(
    given: Tensor,
    keep: 'reference' | 'copy' | null,
    { out }: ForwardOptions,
    where: string,
  ): { y: Tensor; saved: Saved | null } {
    this.checkShape(given.shape);
    const channelsLast = this.acceptsChannelsLast && !given.isContiguous && given.isChannelsLast;
    const plan = this.plan(given.shape, channelsLast);
    const { x, y, keepsInput } = place(where, given, channelsLast, keep, out);
    const saved = keep ? new Float64Array(5 * statistics(plan.geometry)) : null;
    if (elementsOf(x.shape) > 0) {
      const block = this.#fill(plan.geometry, x.offset, y.offset);
      block[Block.eps] = plan.eps;
      block[Block.momentum] = plan.momentum;
      block[Block.flags] = this.flags + (plan.useRunning ? Flag.useRunning : 0) + (keepsInput ? Flag.keepsInput : 0);
      const fault = addon.forward(
        block,
        x.data as FloatArray,
        y.data as FloatArray,
        arrayOf(this.weight, where, 'weight'),
        arrayOf(this.bias, where, 'bias'),
        saved,
        arrayOf(plan.runningMean, where, 'running_mean'),
        arrayOf(plan.runningVar, where, 'running_var'),
      );
      check(fault, where, Names.forward);
    }
    this.commit();
    const { geometry, useRunning: constant } = plan;
    return { y, saved: saved && { geometry, channelsLast, x, statistics: saved, constant } };
  }

  protected override runBack(saved: Saved, given: Tensor, out: unknown, where: string): Tensor {
    const { geometry, x } = saved;
    const { dy, dx } = placeBack(where, given, x, saved.channelsLast, out);
    const weightGrad = this.#gradOf(this.weight, where, 'weight');
    const biasGrad = this.#gradOf(this.bias, where, 'bias');
    if (elementsOf(x.shape) > 0) {
      const block = this.#fill(geometry, x.offset, dx.offset);
      block[Block.offsetDy] = dy.offset;
      block[Block.flags] = this.flags + (saved.constant ? Flag.useRunning : 0);
      const fault = addon.backward(
        block,
        dy.data as FloatArray,
        x.data as FloatArray,
        dx.data as FloatArray,
        arrayOf(this.weight, where, 'weight'),
        saved.statistics,
        arrayOf(weightGrad, where, 'weight.grad'),
        arrayOf(biasGrad, where, 'bias.grad'),
      );
      check(fault, where, Names.backward);
    }
    if (this.weight && weightGrad) this.weight.grad = weightGrad;
    if (this.bias && biasGrad) this.bias.grad = biasGrad;
    return dx;
  }

  #gradOf(parameter: Parameter | null, where: string, name: string): Tensor | null {
    if (!parameter?.requiresGrad || this.frozen) return null;
    if (parameter.grad && !sameShape(parameter.grad.shape, parameter.shape)) {
      throw new RangeError(
        `${where}: ${name}.grad has shape ${formatShape(parameter.grad.shape)}, ${name} has ${formatShape(parameter.shape)}`,
      );
    }
    return parameter.grad ?? new Tensor(allocate(this.dtype, parameter.size), parameter.shape);
  }

  #fill(geometry: Geometry, offsetX: number, offsetY: number): Float64Array {
    this.#block.set(geometry);
    this.#block[Block.offsetX] = offsetX;
    this.#block[Block.offsetY] = offsetY;
    return this.#block;
  }
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

/** Ones and zeros, as torch starts them; null where the layer has none. */
export function makeParameter(
  dtype: FloatDType,
  shape: readonly number[],
  fill: 0 | 1,
  present: boolean,
): Parameter | null {
  return present ? new Parameter(allocate(dtype, elementsOf(shape)).fill(fill as never), shape) : null;
}

/** Python's spelling of a number, for `String(layer)`. */
export function python(value: number | boolean | null): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  const magnitude = Math.abs(value);
  if (magnitude !== 0 && (magnitude < 1e-4 || magnitude >= 1e16)) {
    const [digits, exponent] = value.toExponential().split('e') as [string, string];
    return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`;
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

export interface NormOptions {
  /** Added to the variance under the root; default 1e-5. */
  eps?: number | undefined;
  /** Of inputs, outputs and parameters; default 'float32'. Statistics are double precision in both. */
  dtype?: FloatDType | undefined;
}

export const readOption = {
  boolean: (where: string, name: string, value: unknown, fallback: boolean): boolean =>
    value === undefined ? fallback : checkBoolean(where, name, value),
  number: (where: string, name: string, value: unknown, fallback: number): number =>
    value === undefined ? fallback : checkNumber(where, name, value),
};
