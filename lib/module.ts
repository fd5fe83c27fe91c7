// What layers have in common as parts of a network: modes, parameters, order. No arithmetic.

import { checkBoolean, describe } from './internal/errors';
import { asTensor, Parameter, type DType, type Tensor, type TensorLike } from './tensor';

/**
 * What `Sequential` asks of a part: anything with these two works. The others are used where they are there.
 * `backward` returns the gradient of the latest `forward`'s input and adds into its parameters' `grad`; `forward` keeps
 * what that needs only where `isGradEnabled()`.
 */
export interface ModuleLike {
  forward(input: Tensor): Tensor;
  backward(gradOutput: Tensor): Tensor;
  parameters?(): Parameter[];
  namedParameters?(): [string, Parameter][];
  train?(mode?: boolean): unknown;
  eval?(): unknown;
  zeroGrad?(): unknown;
}

/**
 * The base of every layer. A subclass provides `forward` and `backward`, and `children` where it has parts.
 * @see torch.nn.Module
 */
export abstract class Module implements ModuleLike {
  #training = true;
  #frozen = false;

  abstract forward(input: TensorLike): Tensor;
  abstract backward(gradOutput: TensorLike): Tensor;

  /** The parts, by name. */
  children(): [string, ModuleLike][] {
    return [];
  }

  /** Whether the layer is in training mode; false while it is frozen. */
  get training(): boolean {
    return this.#training && !this.#frozen;
  }

  /**
   * Training mode, here and in every part.
   * @throws TypeError for a mode that is not boolean
   */
  train(mode = true): this {
    if (typeof mode !== 'boolean') {
      throw new TypeError(
        `${this.constructor.name}.train: training mode is expected to be boolean, but got ${describe(mode)}`,
      );
    }
    this.#training = mode;
    for (const [, part] of this.children()) {
      if (mode) part.train?.(true);
      else if (part.eval) part.eval();
      else part.train?.(false);
    }
    return this;
  }

  /** Evaluation mode, here and in every part. Gradients stay on: see `noGrad`. */
  eval(): this {
    return this.train(false);
  }

  /**
   * Holds the layer still whatever `train()` says later: it stays in evaluation mode, its running statistics stay as
   * they are, and backward leaves its parameters' `grad` alone while it still returns the gradient of the input. Reaches
   * the parts that are a `Module`.
   */
  freeze(frozen = true): this {
    this.#frozen = checkBoolean(`${this.constructor.name}.freeze`, 'frozen', frozen);
    for (const [, part] of this.children()) if (part instanceof Module) part.freeze(frozen);
    return this;
  }
  get frozen(): boolean {
    return this.#frozen;
  }

  /** The parameters of this layer alone, by name. */
  protected ownParameters(): [string, Parameter][] {
    const found: [string, Parameter][] = [];
    for (const [name, value] of Object.entries(this)) if (value instanceof Parameter) found.push([name, value]);
    return found;
  }

  /** Every parameter with its dotted name, each once. */
  namedParameters(): [string, Parameter][] {
    const all = new Map<Parameter, string>();
    const add = (name: string, parameter: Parameter): void => void (all.has(parameter) || all.set(parameter, name));
    for (const [name, parameter] of this.ownParameters()) add(name, parameter);
    for (const [prefix, part] of this.children()) {
      const named =
        part.namedParameters?.() ?? part.parameters?.().map((p, i): [string, Parameter] => [String(i), p]) ?? [];
      for (const [name, parameter] of named) add(`${prefix}.${name}`, parameter);
    }
    return [...all].map(([parameter, name]) => [name, parameter]);
  }

  parameters(): Parameter[] {
    return this.namedParameters().map(([, parameter]) => parameter);
  }

  /** Forgets every parameter's gradient: sets `grad` to null, as torch does. */
  zeroGrad(): this {
    for (const [, parameter] of this.ownParameters()) parameter.grad = null;
    for (const [, part] of this.children()) {
      if (part.zeroGrad) part.zeroGrad();
      else for (const parameter of part.parameters?.() ?? []) parameter.grad = null;
    }
    return this;
  }

  /** What stands between the brackets of `String(layer)`. */
  protected extraRepr(): string {
    return '';
  }

  /** `console.log(layer)` prints it as `String(layer)` does. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return String(this);
  }

  toString(): string {
    const name = this.constructor.name;
    const parts = this.children();
    if (parts.length === 0) return `${name}(${this.extraRepr()})`;
    const lines = parts.map(([key, part]) => `  (${key}): ${String(part).replace(/\n/g, '\n  ')}`);
    return `${name}(\n${lines.join('\n')}\n)`;
  }
}

/**
 * Parts one after the other; backward in reverse.
 *
 * @throws TypeError for a part without forward and backward
 * @see torch.nn.Sequential
 * @example
 * const net = new Sequential(new BatchNorm1d(100), new LayerNorm(100));
 * const y = net.forward(x);
 * const dx = net.backward(dy);
 */
export class Sequential extends Module {
  readonly #parts: readonly ModuleLike[];

  constructor(...parts: ModuleLike[]) {
    super();
    parts.forEach((part: Partial<ModuleLike> | null | undefined, i) => {
      if (typeof part?.forward !== 'function' || typeof part.backward !== 'function') {
        throw new TypeError(`Sequential: part ${i} must have forward and backward, but got ${describe(part)}`);
      }
    });
    this.#parts = parts;
  }

  override children(): [string, ModuleLike][] {
    return this.#parts.map((part, i) => [String(i), part]);
  }
  get length(): number {
    return this.#parts.length;
  }
  at(i: number): ModuleLike | undefined {
    return this.#parts.at(i);
  }
  [Symbol.iterator](): Iterator<ModuleLike> {
    return this.#parts[Symbol.iterator]();
  }

  override forward(input: TensorLike): Tensor {
    return this.#parts.reduce((x, part) => part.forward(x), this.#tensor(input, 'forward', 'input'));
  }
  override backward(gradOutput: TensorLike): Tensor {
    return this.#parts.reduceRight(
      (dy, part) => part.backward(dy),
      this.#tensor(gradOutput, 'backward', 'grad_output'),
    );
  }

  /** A Tensor, as parts are promised; nested arrays take the dtype of the first part that has one. */
  #tensor(value: TensorLike, method: string, name: string): Tensor {
    const dtypes = this.#parts.map((part) => (part as { dtype?: DType }).dtype);
    return asTensor(value, `Sequential.${method}`, name, dtypes.find((dtype) => dtype !== undefined) ?? 'float32');
  }
}
