// What is one call forward and one call back: what a forward keeps until its backward, and the options of both. A layer
// says what the calls compute.

import { dataOf, type FloatDType } from '../internal/call';
import { checkOptions, describe, StateError } from '../internal/errors';
import { isGradEnabled } from '../grad-mode';
import { Module } from '../module';
import { lending, type OutputPool } from '../output-pool';
import type { Tensor, TensorData, TensorLike } from '../tensor';

export interface ForwardOptions {
  /**
   * Where to write the output: a typed array or contiguous tensor of the input's dtype and size, or memory of a pool. The
   * very input (in place) only inside `noGrad`, or with `saveInput: 'copy'`.
   */
  out?: TensorData | Tensor | OutputPool | undefined;
  /** Keeps what backward needs here instead of in the layer: for a layer used several times before backward. */
  context?: Context | undefined;
  /**
   * 'reference' (default) keeps the input itself for backward: it must not be overwritten before then. 'copy' keeps a
   * copy.
   */
  saveInput?: 'reference' | 'copy' | undefined;
}

export interface BackwardOptions {
  /** Where to write the gradient of the input; may be the gradient of the output itself, or memory of a pool. */
  out?: TensorData | Tensor | OutputPool | undefined;
  /** The context that the forward was given. */
  context?: Context | undefined;
}

export interface LayerOptions {
  /**
   * Of parameters and statistics; default 'float32'. Data have the same, or are float16 or bfloat16 beside float32. The
   * arithmetic that adds up is double precision.
   */
  dtype?: FloatDType | undefined;
}

/** What one forward keeps for its backward. Made by `layer.context()`, used by that layer only. */
export class Context {
  /** @internal */
  saved: unknown = null;
  /** @internal */
  constructor(readonly owner: Layer<unknown>) {}
}

/** `Saved`: what a forward leaves for its backward. */
export abstract class Layer<Saved> extends Module {
  /** Of parameters and statistics, and of data unless they are 16-bit floats, which float32 layers take too. */
  readonly dtype: FloatDType;
  readonly #own: Context;

  /** `names`: the options that the layer knows besides those of every layer. */
  protected constructor(options: LayerOptions, names: readonly string[]) {
    super();
    const where = new.target.name;
    checkOptions(where, options, [...names, 'dtype']);
    const { dtype = 'float32' } = options;
    if (dtype !== 'float32' && dtype !== 'float64') {
      throw new TypeError(`${where}: dtype must be 'float32' or 'float64', but got ${describe(dtype)}`);
    }
    this.dtype = dtype;
    this.#own = new Context(this);
  }

  /** The options that forward takes besides those of every layer; the same of backward. */
  protected get forwardNames(): readonly string[] {
    return [];
  }
  protected get backwardNames(): readonly string[] {
    return [];
  }
  /** Computes the output, or throws with nothing changed. `keep`: what is kept of the input, null inside `noGrad`. */
  protected abstract run(
    x: Tensor,
    keep: 'reference' | 'copy' | null,
    options: ForwardOptions,
    where: string,
  ): { y: Tensor; saved: Saved | null };
  /** The gradient of the input; adds those of the parameters into their `grad`. */
  protected abstract runBack(saved: Saved, dy: Tensor, options: BackwardOptions, where: string): Tensor;

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
    checkOptions(where, options, ['out', 'context', 'saveInput', ...this.forwardNames]);
    const { saveInput = 'reference' } = options;
    if (saveInput !== 'reference' && saveInput !== 'copy') {
      throw new TypeError(`${where}: saveInput must be 'reference' or 'copy', but got ${describe(saveInput)}`);
    }
    const context = this.#contextOf(options.context, where);
    const x = dataOf(input, where, 'input', this.dtype);
    const keep = isGradEnabled() ? saveInput : null;
    const { y, saved } = lending(options.out, () => this.run(x, keep, options, where));
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
    checkOptions(where, options, ['out', 'context', ...this.backwardNames]);
    const context = this.#contextOf(options.context, where);
    if (!context.saved) {
      throw new StateError(
        'ERR_NO_FORWARD',
        `${where}: there is no forward to go back through; forward keeps what backward needs unless it runs inside ` +
          'noGrad, and one backward releases it',
      );
    }
    const dy = dataOf(gradOutput, where, 'grad_output', this.dtype);
    const dx = lending(options.out, () => this.runBack(context.saved as Saved, dy, options, where));
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
}
