// What every normalization layer shares: its parameters' gradients, and what a forward keeps until backward. A layer says
// how it reads its input and what is to be computed; nothing here knows a layer by name.

import { Flag } from '../internal/addon';
import {
  addendOf,
  backward,
  dataOf,
  forward,
  sameShape,
  type FloatDType,
  type Plan,
  type Saved,
} from '../internal/call';
import { checkBoolean, checkNumber, checkOptions, describe, formatShape, StateError } from '../internal/errors';
import { backwardPacked, forwardPacked, type MaskOptions, type PackedSaved, type Packing } from '../internal/mask';
import type { Reading } from '../internal/plan';
import { isGradEnabled } from '../grad-mode';
import { Module } from '../module';
import { allocate, elementsOf, Parameter, Tensor, type TensorData, type TensorLike } from '../tensor';

export type { FloatDType };

export interface ForwardOptions extends MaskOptions {
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
  /**
   * Whether running statistics take in the batch, and count it, in training; default true. false is for a forward that
   * is computed again, as activation checkpointing does.
   */
  updateStats?: boolean | undefined;
  /**
   * Added to the output in the same pass, before the layer's ReLU if it has one: the shortcut of a residual block. Of the
   * input's dtype and shape. Behind a ReLU backward needs it, and it must not be overwritten before then.
   */
  add?: TensorLike | undefined;
}

export interface BackwardOptions {
  /** Where to write the gradient of the input; may be the gradient of the output itself. */
  out?: TensorData | Tensor | undefined;
  /** Where to write the gradient of `add`, which the forward was given. */
  gradAdd?: TensorData | Tensor | undefined;
  /** The context that the forward was given. */
  context?: Context | undefined;
}

/** What one forward keeps for its backward. Made by `layer.context()`, used by that layer only. */
export class Context {
  /** @internal */
  saved: Saved | PackedSaved | null = null;
  /** @internal */
  constructor(readonly owner: Norm) {}
}

const forwardNames = ['out', 'context', 'saveInput', 'updateStats', 'mask', 'lengths', 'add'];

export abstract class Norm extends Module {
  abstract readonly weight: Parameter | null;
  abstract readonly bias: Parameter | null;
  /** Of parameters and statistics, and of data unless they are 16-bit floats, which float32 layers take too. */
  readonly dtype: FloatDType;
  /** Whether the output goes through max(0, y), in the same pass. */
  readonly relu: boolean;
  readonly #own: Context;

  /** `names`: the options that the layer knows besides those of every norm. */
  protected constructor(options: NormOptions, names: readonly string[]) {
    super();
    const where = new.target.name;
    checkOptions(where, options, [...names, 'dtype', 'relu']);
    const { dtype = 'float32', relu = false } = options;
    if (dtype !== 'float32' && dtype !== 'float64') {
      throw new TypeError(`${where}: dtype must be 'float32' or 'float64', but got ${describe(dtype)}`);
    }
    this.dtype = dtype;
    this.relu = checkBoolean(where, 'relu', relu);
    this.#own = new Context(this);
  }

  /** How the layer reads x, or torch's refusal of its rank. */
  protected abstract read(x: Tensor, where: string): Reading;
  /** What is to be computed, or torch's refusal of what does not fit. */
  protected abstract plan(x: Reading, where: string): Plan;
  /** Which of the input is data, packed: see internal/mask.ts. */
  protected abstract pack(x: Reading, where: string, options: MaskOptions): Packing;
  /** Whether `commit` looks at the batch's statistics before running ones may move. */
  protected readonly judges: boolean = false;
  /** After the kernels; throws to refuse. `deferred` has the batch's parts where running statistics are still to move. */
  protected commit(_where: string, _update: boolean, _plan: Plan, _deferred: readonly Saved[] | null): void {}

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
   * With `mask` or `lengths` the result has the bits of the data without their padding: BatchNorm takes all valid
   * positions together, InstanceNorm and GroupNorm each sample's own (whose statistics the running ones average),
   * LayerNorm and RMSNorm leave whole rows out, or elements with their weights. Samples of equal lengths are the batch
   * without padding; others are one sequence after the other in BatchNorm, and each a batch of its own elsewhere. Output
   * and gradient are 0 in the padding, which may hold anything. What backward needs is a copy of the valid positions.
   *
   * @throws TypeError, RangeError for an input the layer does not take; the layer is then exactly as before
   */
  override forward(input: TensorLike, options: ForwardOptions = {}): Tensor {
    const where = `${this.where}.forward`;
    checkOptions(where, options, forwardNames);
    const { out, saveInput = 'reference', updateStats = true } = options;
    if (saveInput !== 'reference' && saveInput !== 'copy') {
      throw new TypeError(`${where}: saveInput must be 'reference' or 'copy', but got ${describe(saveInput)}`);
    }
    checkBoolean(where, 'updateStats', updateStats);
    const context = this.#contextOf(options.context, where);
    const x = dataOf(input, where, 'input', this.dtype);
    const reading = this.read(x, where);
    const add = options.add === undefined ? null : addendOf(options.add, x, where);
    const keeps = isGradEnabled();
    if (options.mask !== undefined || options.lengths !== undefined) {
      const packing = this.pack(reading, where, options);
      const planOf = (part: Reading): Plan => this.#planOf(part, where, updateStats, true);
      const { y, saved } = forwardPacked(where, x, packing, planOf, keeps ? 'reference' : 'statistics', add, out);
      if (saved.parts.length > 0) this.commit(where, updateStats, saved.parts[0]!.plan, saved.parts);
      if (keeps) context.saved = saved;
      return y;
    }
    const plan = this.#planOf(reading, where, updateStats, this.judges);
    plan.add = add;
    const { y, saved } = forward(where, x, plan, keeps ? saveInput : this.judges ? 'statistics' : null, out);
    this.commit(where, updateStats, plan, this.judges ? [saved!] : null);
    if (keeps) context.saved = saved;
    return y;
  }

  #planOf(x: Reading, where: string, update: boolean, defer: boolean): Plan {
    const plan = this.plan(x, where);
    if (this.relu) plan.flags += Flag.relu;
    if (plan.flags & Flag.useRunning) return plan;
    if (!update) plan.runningMean = plan.runningVar = null;
    plan.defer = defer;
    return plan;
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
    checkOptions(where, options, ['out', 'context', 'gradAdd']);
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
    const dx =
      'packing' in saved
        ? backwardPacked(where, saved, dy, weightGrad, biasGrad, options.out, options.gradAdd)
        : backward(where, saved, dy, weightGrad, biasGrad, options.out, options.gradAdd)!;
    if (this.weight && weightGrad) this.weight.grad = weightGrad;
    if (this.bias && biasGrad) this.bias.grad = biasGrad;
    context.saved = null;
    return dx;
  }

  override toString(): string {
    return this.relu ? super.toString().replace(/\)$/, ', relu=True)') : super.toString();
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
  /**
   * Of parameters and running statistics; default 'float32'. Data have the same, or are float16 or bfloat16 beside
   * float32. The statistics of a batch are taken in double precision.
   */
  dtype?: FloatDType | undefined;
  /** Whether the output goes through max(0, y) in the same pass, forward and backward; default false. */
  relu?: boolean | undefined;
}
export interface EpsOption {
  /** Added to the variance under the root; default 1e-5. */
  eps?: number | undefined;
}

export const readOption = {
  oneOf: <T extends string>(where: string, name: string, value: unknown, known: readonly [T, ...T[]]): T => {
    if (value === undefined) return known[0];
    if (known.includes(value as T)) return value as T;
    const Kind = typeof value === 'string' ? RangeError : TypeError;
    throw new Kind(`${where}: ${name} must be one of '${known.join("', '")}', but got ${describe(value)}`);
  },
  boolean: (where: string, name: string, value: unknown, fallback: boolean): boolean =>
    value === undefined ? fallback : checkBoolean(where, name, value),
  number: (where: string, name: string, value: unknown, fallback: number): number =>
    value === undefined ? fallback : checkNumber(where, name, value),
};
