// What every normalization layer shares: its parameters' gradients, and what a forward keeps until backward. A layer says
// how it reads its input and what is to be computed; nothing here knows a layer by name.

import { backward, dataOf, forward, sameShape, type FloatDType, type Plan, type Saved } from '../internal/call';
import { checkBoolean, checkNumber, checkOptions, describe, formatShape, StateError } from '../internal/errors';
import type { Reading } from '../internal/plan';
import { isGradEnabled } from '../grad-mode';
import { Module } from '../module';
import { allocate, elementsOf, Parameter, Tensor, type TensorData, type TensorLike } from '../tensor';

export type { FloatDType };

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

export abstract class Norm extends Module {
  abstract readonly weight: Parameter | null;
  abstract readonly bias: Parameter | null;
  readonly dtype: FloatDType;
  readonly #own: Context;

  protected constructor(dtype: unknown) {
    super();
    if (dtype !== 'float32' && dtype !== 'float64') {
      throw new TypeError(`${new.target.name}: dtype must be 'float32' or 'float64', but got ${describe(dtype)}`);
    }
    this.dtype = dtype;
    this.#own = new Context(this);
  }

  /** How the layer reads x, or torch's refusal of its rank. */
  protected abstract read(x: Tensor, where: string): Reading;
  /** What is to be computed, or torch's refusal of what does not fit. */
  protected abstract plan(x: Reading, where: string): Plan;
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
    const x = dataOf(input, where, 'input', this.dtype);
    const plan = this.plan(this.read(x, where), where);
    const { y, saved } = forward(where, x, plan, isGradEnabled() ? saveInput : null, target);
    this.commit();
    if (saved) context.saved = saved;
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
    const dy = dataOf(gradOutput, where, 'grad_output', this.dtype);
    const weightGrad = this.#gradOf(this.weight, where, 'weight');
    const biasGrad = this.#gradOf(this.bias, where, 'bias');
    const dx = backward(where, saved, dy, weightGrad, biasGrad, options.out)!;
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

  #gradOf(parameter: Parameter | null, where: string, name: string): Tensor | null {
    if (!parameter?.requiresGrad || this.frozen) return null;
    if (parameter.grad && !sameShape(parameter.grad.shape, parameter.shape)) {
      throw new RangeError(
        `${where}: ${name}.grad has shape ${formatShape(parameter.grad.shape)}, ${name} has ${formatShape(parameter.shape)}`,
      );
    }
    return parameter.grad ?? new Tensor(allocate(this.dtype, parameter.size), parameter.shape);
  }
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
