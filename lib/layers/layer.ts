// What is one call forward and one call back: what a forward keeps until its backward, and the options of both. A layer
// says what the calls compute.

import { withdrawn } from '../internal/async';
import { inputOf, type FloatDType } from '../internal/call';
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

export interface AsyncForwardOptions extends Pick<ForwardOptions, 'context'> {
  /** As of `forward`, but no pool. */
  out?: TensorData | Tensor | undefined;
}

export interface BackwardOptions {
  /** Where to write the gradient of the input; may be the gradient of the output itself, or memory of a pool. */
  out?: TensorData | Tensor | OutputPool | undefined;
  /** The context that the forward was given. */
  context?: Context | undefined;
}

export interface AsyncBackwardOptions extends Pick<BackwardOptions, 'context'> {
  /** As of `backward`, but no pool. */
  out?: TensorData | Tensor | undefined;
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

/** The options of every layer's calls. */
export const callNames = { forward: ['out', 'context', 'saveInput'], backward: ['out', 'context'] } as const;

/** Most calls have no options, and need no new object for that. */
const none = Object.freeze({});

/**
 * What every call of a layer needs, in one place: a program of many kinds of layers pays 5 ns for each look at one, and
 * the name of a class costs 30.
 */
interface Calls {
  /** The class that this was made for. */
  of: unknown;
  /** Where forwards without a context of their own keep what backward needs. */
  context: Context;
  /** What messages begin with, of forward and backward. */
  where: readonly [string, string];
  /** The options that each takes. */
  names: readonly [readonly string[], readonly string[]];
}

/** `Saved`: what a forward leaves for its backward. */
export abstract class Layer<Saved> extends Module {
  /** Of parameters and statistics, and of data unless they are 16-bit floats, which float32 layers take too. */
  readonly dtype: FloatDType;
  #calls: Calls | null = null;
  /** Resolves when the asynchronous calls so far have ended. */
  #turn: Promise<void> | undefined;

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
  }

  /** The options that forward takes, the same list each time; the same of backward. */
  protected get forwardNames(): readonly string[] {
    return callNames.forward;
  }
  protected get backwardNames(): readonly string[] {
    return callNames.backward;
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

  /** Nobody needs this any more: a backward has used it, or another forward has taken its place. */
  protected release(_saved: Saved): void {}

  /** The name that messages begin with. */
  protected get where(): string {
    return this.constructor.name;
  }

  #keep(context: Context, saved: Saved): void {
    const before = context.saved as Saved | null;
    context.saved = saved;
    if (before) this.release(before);
  }

  /** Made once, and again where a lazy layer has come to be another class. */
  #callsOf(): Calls {
    const calls = this.#calls;
    if (calls?.of === this.constructor) return calls;
    const { where, constructor: of } = this;
    const context = calls?.context ?? new Context(this);
    const names = [this.forwardNames, this.backwardNames] as const;
    return (this.#calls = { of, context, where: [`${where}.forward`, `${where}.backward`], names });
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
  override forward(input: TensorLike, options: ForwardOptions = none): Tensor {
    const calls = this.#callsOf();
    const where = calls.where[0];
    checkOptions(where, options, calls.names[0]);
    const { saveInput = 'reference' } = options;
    if (saveInput !== 'reference' && saveInput !== 'copy') {
      throw new TypeError(`${where}: saveInput must be 'reference' or 'copy', but got ${describe(saveInput)}`);
    }
    const context = options.context === undefined ? calls.context : this.#checkContext(options.context, where);
    const x = inputOf(input, where, 'input', this.dtype);
    const keep = isGradEnabled() ? saveInput : null;
    const { y, saved } = lending(options.out, () => this.run(x, keep, options, where));
    if (saved) this.#keep(context, saved);
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
  override backward(gradOutput: TensorLike, options: BackwardOptions = none): Tensor {
    const calls = this.#callsOf();
    const where = calls.where[1];
    checkOptions(where, options, calls.names[1]);
    const context = options.context === undefined ? calls.context : this.#checkContext(options.context, where);
    const saved = this.#savedOf(context, where);
    const dy = inputOf(gradOutput, where, 'grad_output', this.dtype);
    // Taken out meanwhile: an option's getter may run a forward of its own, which would release it.
    context.saved = null;
    try {
      const dx = lending(options.out, () => this.runBack(saved, dy, options, where));
      this.release(saved);
      return dx;
    } catch (error) {
      context.saved = saved;
      throw error;
    }
  }

  /** The options that `forwardAsync` takes besides those of every layer, or null if there is none. */
  protected get asyncNames(): readonly string[] | null {
    return null;
  }
  /** As `run`, of an input that nobody else can change, or whose memory is shared. */
  protected runAsync(
    _x: Tensor,
    _keeps: boolean,
    _options: AsyncForwardOptions,
    _where: string,
  ): Promise<{ y: Tensor; saved: Saved | null }> {
    throw new Error('a layer with asyncNames has a runAsync');
  }

  /**
   * `forward` on another thread, with the same bits; the event loop goes on meanwhile. Worth it for large inputs: it
   * costs some 50 us, and a copy of an input that is not in a SharedArrayBuffer.
   *
   * The input is taken at the call: it may be overwritten or transferred afterwards, but for one in a SharedArrayBuffer,
   * which is used where it lies. Calls on one layer follow each other, in the order they were made. Mode, parameters and
   * running statistics are read when a call's turn comes, never before the current code has returned; running statistics
   * and counter move, and what backward needs is kept, when it resolves. So wait for it before you change the layer's mode
   * or parameters. A synchronous forward meanwhile counts at once. Whether gradients are on is asked at the call.
   *
   * `out` is written at the end, unless it is in a SharedArrayBuffer; an OutputPool is refused, as are the layer's other
   * options.
   *
   * A Worker that is terminated, and a process that exits, waits for what a thread is computing and drops the rest.
   *
   * @throws (rejects with) what `forward` throws; the layer is then exactly as before
   * @example
   * const y = await layer.forwardAsync(x);
   */
  async forwardAsync(input: TensorLike, options: AsyncForwardOptions = {}): Promise<Tensor> {
    const where = `${this.where}.forwardAsync`;
    const names = this.asyncNames;
    if (!names) throw new StateError('ERR_NO_ASYNC', `${where}: this layer has no asynchronous form; use forward`);
    checkOptions(where, options, ['out', 'context', ...names]);
    const given = { ...options };
    const context = given.context === undefined ? this.#callsOf().context : this.#checkContext(given.context, where);
    const x = withdrawn(inputOf(input, where, 'input', this.dtype));
    const keeps = isGradEnabled();
    return this.#inTurn(async () => {
      const { y, saved } = await this.runAsync(x, keeps, given, where);
      if (saved) this.#keep(context, saved);
      return y;
    });
  }

  /** As `runBack`, of a gradient that nobody else can change. */
  protected runBackAsync(_saved: Saved, _dy: Tensor, _options: AsyncBackwardOptions, _where: string): Promise<Tensor> {
    throw new Error('a layer that goes back asynchronously has a runBackAsync');
  }

  /** `backwardAsync` of the layers that have one. */
  protected async goBackAsync(gradOutput: TensorLike, options: AsyncBackwardOptions): Promise<Tensor> {
    const where = `${this.where}.backwardAsync`;
    checkOptions(where, options, callNames.backward);
    const given = { ...options };
    const context = given.context === undefined ? this.#callsOf().context : this.#checkContext(given.context, where);
    const dy = withdrawn(inputOf(gradOutput, where, 'grad_output', this.dtype));
    return this.#inTurn(async () => {
      const saved = this.#savedOf(context, where);
      context.saved = null;
      try {
        const dx = await this.runBackAsync(saved, dy, given, where);
        this.release(saved);
        return dx;
      } catch (error) {
        context.saved ??= saved;
        throw error;
      }
    });
  }

  async #inTurn<T>(f: () => Promise<T>): Promise<T> {
    const before = this.#turn;
    let next!: () => void;
    this.#turn = new Promise((resolve) => (next = resolve));
    try {
      await before;
      return await f();
    } finally {
      next();
    }
  }

  #savedOf(context: Context, where: string): Saved {
    if (context.saved) return context.saved as Saved;
    throw new StateError(
      'ERR_NO_FORWARD',
      `${where}: there is no forward to go back through; forward keeps what backward needs unless it runs inside ` +
        'noGrad, and one backward releases it',
    );
  }

  #checkContext(context: Context, where: string): Context {
    if (!((context as unknown) instanceof Context)) {
      throw new TypeError(`${where}: context must come from ${this.where}.context(), but got ${describe(context)}`);
    }
    if (context.owner !== this) throw new RangeError(`${where}: the context belongs to another layer`);
    return context;
  }
}
