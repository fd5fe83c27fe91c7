// What every normalization layer shares: inputs and outputs, the call into the kernels, what backward needs. A layer
// says which shapes it accepts and which geometry they have; nothing here knows a layer by name.

import { addon, Block, check, Flag, Names, type FloatArray } from '../internal/addon';
import {
  checkBoolean,
  checkNumber,
  checkOptions,
  describe,
  formatShape,
  lengthOf,
  StateError,
} from '../internal/errors';
import { statistics, type Geometry } from '../internal/geometry';
import { isGradEnabled } from '../grad-mode';
import { Module } from '../module';
import { allocate, asTensor, elementsOf, Parameter, Tensor, viewOf, type TensorData, type TensorLike } from '../tensor';

export type FloatDType = 'float32' | 'float64';

export interface ForwardOptions {
  /**
   * Where to write the output: a typed array or contiguous tensor of the input's dtype and size. The very input (in
   * place) only inside `noGrad`, or with `saveInput: 'copy'`.
   */
  out?: TensorData | Tensor | undefined;
  /** Keeps what backward needs here instead of in the layer: for a layer used several times before backward. */
  context?: Context | undefined;
  /**
   * 'reference' (default) keeps the input itself for backward: it must not be overwritten before then. 'copy' keeps a
   * copy.
   */
  saveInput?: 'reference' | 'copy' | undefined;
}

export interface BackwardOptions {
  /** Where to write the gradient of the input; may be the gradient of the output itself. */
  out?: TensorData | Tensor | undefined;
  /** The context that the forward was given. */
  context?: Context | undefined;
}

/** What one forward keeps for its backward. Made by `layer.context()`, used by that layer only. */
export class Context {
  /** @internal */
  saved: Saved | null = null;
  /** @internal */
  constructor(readonly owner: Norm) {}
}

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

export abstract class Norm extends Module {
  abstract readonly weight: Parameter | null;
  abstract readonly bias: Parameter | null;
  readonly dtype: FloatDType;
  readonly #own: Context;
  readonly #block = new Float64Array(Block.length);

  protected constructor(dtype: unknown) {
    super();
    if (dtype !== 'float32' && dtype !== 'float64') {
      throw new TypeError(`${new.target.name}: dtype must be 'float32' or 'float64', but got ${describe(dtype)}`);
    }
    this.dtype = dtype;
    this.#own = new Context(this);
  }

  /** Refuses shapes the layer does not take, in torch's words. */
  protected abstract checkShape(shape: readonly number[]): void;
  /** Whether an input in channels-last memory is computed as it lies; otherwise it is copied first. */
  protected abstract readonly acceptsChannelsLast: boolean;
  /** Kernel flags: Flag.aboutZero for RMSNorm, Flag.zeroVarIsZero for BatchNorm and InstanceNorm. */
  protected abstract readonly flags: number;
  protected abstract plan(shape: readonly number[], channelsLast: boolean): Plan;
  /** After a forward that succeeded. */
  protected commit(): void {}

  /** The name that messages begin with. */
  protected get where(): string {
    return this.constructor.name;
  }

  /** A place to keep one forward for its backward, for layers used twice and for micro-batches. */
  context(): Context {
    return new Context(this);
  }

  /**
   * Normalizes the input and, with gradients on, keeps a reference to it and its statistics for `backward`: the input
   * must not be overwritten before then (or pass `saveInput: 'copy'`). Inside `noGrad` it keeps nothing, and what an
   * earlier forward kept stays.
   *
   * @throws TypeError, RangeError for an input the layer does not take; the layer is then exactly as before
   */
  override forward(input: TensorLike, options: ForwardOptions = {}): Tensor {
    const where = `${this.where}.forward`;
    checkOptions(where, options, ['out', 'context', 'saveInput']);
    const { out: target, saveInput = 'reference' } = options;
    if (saveInput !== 'reference' && saveInput !== 'copy') {
      throw new TypeError(`${where}: saveInput must be 'reference' or 'copy', but got ${describe(saveInput)}`);
    }
    const context = this.#contextOf(options.context, where);
    const given = this.#floats(input, where, 'input');
    this.checkShape(given.shape);

    const channelsLast = this.acceptsChannelsLast && !given.isContiguous && given.isChannelsLast;
    let x = channelsLast ? given : given.contiguous();
    const plan = this.plan(x.shape, channelsLast);
    const keep = isGradEnabled();
    const y = this.#target(target, x.shape, channelsLast, where);
    if (keep && target !== undefined && x.data.buffer === y.data.buffer && overlap(x, y)) {
      if (saveInput === 'reference') {
        throw new RangeError(
          `${where}: out overlaps the input, which backward needs; work in place inside noGrad, or pass saveInput: 'copy'`,
        );
      }
    }
    const kept = keep && saveInput === 'copy' && x === given ? copyAsItLies(x, channelsLast) : x;
    if (kept !== x) x = kept;

    const saved = keep ? new Float64Array(5 * statistics(plan.geometry)) : null;
    if (elementsOf(x.shape) > 0) {
      const block = this.#fill(plan.geometry, x.offset, y.offset);
      block[Block.eps] = plan.eps;
      block[Block.momentum] = plan.momentum;
      block[Block.flags] =
        this.flags +
        (plan.useRunning ? Flag.useRunning : 0) +
        (keep && x === given && saveInput === 'reference' ? Flag.keepsInput : 0);
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
    if (saved) {
      context.saved = { geometry: plan.geometry, channelsLast, x: kept, statistics: saved, constant: plan.useRunning };
    }
    return y;
  }

  /**
   * The gradient of the input of the latest forward that had gradients on; adds the gradients of weight and bias into
   * their `grad`. What forward kept is released.
   *
   * @param gradOutput of the output's shape
   * @throws StateError (`code` 'ERR_NO_FORWARD') without a forward since the last backward
   * @throws RangeError for another shape
   */
  override backward(gradOutput: TensorLike, options: BackwardOptions = {}): Tensor {
    const where = `${this.where}.backward`;
    checkOptions(where, options, ['out', 'context']);
    const context = this.#contextOf(options.context, where);
    const saved = context.saved;
    if (!saved) {
      throw new StateError(
        'ERR_NO_FORWARD',
        `${where}: there is no forward to go back through; forward keeps what backward needs unless it runs inside ` +
          'noGrad, and one backward releases it',
      );
    }
    const { geometry, channelsLast, x } = saved;
    const given = this.#floats(gradOutput, where, 'grad_output');
    if (!sameShape(given.shape, x.shape)) {
      throw new RangeError(
        `${where}: grad_output has shape ${formatShape(given.shape)}, the latest forward's output has ${formatShape(x.shape)}`,
      );
    }
    x.checkExtent(where, 'the kept input');
    const dy = layOut(given, channelsLast);
    const dx = this.#target(options.out, x.shape, channelsLast, where);
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
    context.saved = null;
    return dx;
  }

  #contextOf(context: Context | undefined, where: string): Context {
    if (context === undefined) return this.#own;
    if (!(context instanceof Context)) {
      throw new TypeError(`${where}: context must come from ${this.where}.context(), but got ${describe(context)}`);
    }
    if (context.owner !== this) throw new RangeError(`${where}: the context belongs to another layer`);
    return context;
  }

  #floats(value: TensorLike, where: string, name: string): Tensor {
    const x = asTensor(value, where, name, this.dtype);
    if (x.dtype !== this.dtype) {
      const hint =
        x.dtype === 'float32' || x.dtype === 'float64'
          ? `mixed dtype: all inputs must share same datatype; make the layer with dtype: '${x.dtype}' or convert the data`
          : 'layers take floating point data; scale integers to floats first';
      throw new TypeError(`${where}: ${name} is ${x.dtype}, the layer is ${this.dtype}: ${hint}`);
    }
    x.checkExtent(where, name);
    return x;
  }

  /** The output: what the caller gave, if it fits, or a new array. */
  #target(out: unknown, shape: readonly number[], channelsLast: boolean, where: string): Tensor {
    const size = elementsOf(shape);
    if (out === undefined) return viewOf(allocate(this.dtype, size), shape, channelsLast);
    if (out instanceof Tensor) {
      if (out.dtype !== this.dtype) throw new TypeError(`${where}: out is ${out.dtype}, the layer is ${this.dtype}`);
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
    if (
      lengthOf(out) !== size ||
      new Tensor(out as TensorData, [lengthOf(out)], {}, `${where}: out`).dtype !== this.dtype
    ) {
      throw new (lengthOf(out) !== size ? RangeError : TypeError)(
        `${where}: out must be ${this.dtype} with ${size} elements, but got ${describe(out)} with ${lengthOf(out)}`,
      );
    }
    return viewOf(out as TensorData, shape, channelsLast);
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

function sameShape(a: readonly number[], b: readonly number[]): boolean {
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
function layOut(x: Tensor, channelsLast: boolean): Tensor {
  if (!channelsLast) return x.contiguous();
  if (x.isChannelsLast) return x;
  const axes = x.shape.map((_, i) => i);
  const last = x.permute(0, ...axes.slice(2), 1).copy();
  return viewOf(last.data, x.shape, true);
}

function copyAsItLies(x: Tensor, channelsLast: boolean): Tensor {
  return viewOf(x.data.slice(x.offset, x.offset + x.size), x.shape, channelsLast);
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
