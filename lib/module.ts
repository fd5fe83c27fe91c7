// What layers have in common as parts of a network: modes, parameters, order, saving and loading. No arithmetic.

import { checkBoolean, checkOptions, describe, StateError } from './internal/errors';
import {
  Loading,
  saved,
  StateDict,
  tensorsOf,
  type LoadOptions,
  type LoadResult,
  type LoadScope,
  type StateEntry,
  type StateSource,
} from './state-dict';
import { asTensor, Parameter, type DType, type Tensor, type TensorLike } from './tensor';

/**
 * What a network asks of a part: anything with these two works. The others are used where they are there.
 * `backward` returns the gradient of the latest `forward`'s input and adds into its parameters' `grad`; `forward` keeps
 * what that needs only where `isGradEnabled()`.
 */
export interface ModuleLike {
  forward(input: Tensor): Tensor;
  backward(gradOutput: Tensor): Tensor;
  /**
   * A place to keep one forward for its backward, where both take it as `{ context }`: lets the part stand several times
   * in a `Sequential`.
   */
  context?(): unknown;
  parameters?(): Parameter[];
  namedParameters?(): [string, Parameter][];
  train?(mode?: boolean): unknown;
  eval?(): unknown;
  freeze?(frozen?: boolean): unknown;
  zeroGrad?(): unknown;
  /** Its state by name, where that is more than its parameters; needs `loadStateDict` beside it. */
  stateDict?(): StateSource;
  /**
   * Is given names and shapes of `stateDict()`: all of them, or fewer where loading is not strict. If it throws, the part
   * must be as before.
   */
  loadStateDict?(state: Map<string, Tensor>): unknown;
}

export function isModuleLike(value: unknown): value is ModuleLike {
  const part = value as Partial<ModuleLike> | null | undefined;
  return typeof part === 'object' && typeof part?.forward === 'function' && typeof part.backward === 'function';
}

function namedParametersOf(part: ModuleLike): [string, Parameter][] {
  return part.namedParameters?.() ?? part.parameters?.().map((p, i): [string, Parameter] => [String(i), p]) ?? [];
}

/** The state of a part that is no `Module`, if it keeps it its own way. */
function ownWay(part: ModuleLike): { state: Map<string, Tensor>; load(state: Map<string, Tensor>): unknown } | null {
  if (!part.stateDict || !part.loadStateDict) return null;
  return { state: tensorsOf(part.stateDict(), 'stateDict'), load: (state) => part.loadStateDict!(state) };
}

/**
 * The base of every layer and network. A subclass provides `forward` and `backward`. Its public fields are looked at as
 * torch looks at attributes, in the order of their assignment: a `Parameter` is a parameter, and whatever has forward and
 * backward is a part, both under the field's name. (Not what stands in an array: put it in a `Sequential`. Not private
 * `#fields`: the place for a reference to a parent.) What a layer keeps beside its parameters it names in `ownState`.
 *
 * @see torch.nn.Module
 * @example
 * class Net extends Module {
 *   first = new LayerNorm(64);
 *   second = new RMSNorm(64);
 *   override forward(x: TensorLike): Tensor {
 *     return this.second.forward(this.first.forward(x));
 *   }
 *   override backward(dy: TensorLike): Tensor {
 *     return this.first.backward(this.second.backward(dy));
 *   }
 * }
 * new Net().stateDict().keys(); // first.weight, first.bias, second.weight
 */
export abstract class Module implements ModuleLike {
  #training = true;
  #frozen = false;

  abstract forward(input: TensorLike): Tensor;
  abstract backward(gradOutput: TensorLike): Tensor;

  /** The parts with their names: the fields that are parts. To be overridden, with `replaceChild`, for other places. */
  namedChildren(): [string, ModuleLike][] {
    return Object.entries(this).filter((entry): entry is [string, ModuleLike] => isModuleLike(entry[1]));
  }

  /** The parts. */
  children(): ModuleLike[] {
    return this.namedChildren().map(([, part]) => part);
  }

  /** This module under '' and everything below it with its dotted name, each once. */
  namedModules(): [string, ModuleLike][] {
    const all = new Map<ModuleLike, string>();
    const visit = (part: ModuleLike, name: string): void => {
      if (all.has(part)) return;
      all.set(part, name);
      if (!(part instanceof Module)) return;
      for (const [key, child] of part.namedChildren()) visit(child, name === '' ? key : `${name}.${key}`);
    };
    visit(this, '');
    return [...all].map(([part, name]) => [name, part]);
  }

  /** This module and everything below it, each once. */
  modules(): ModuleLike[] {
    return this.namedModules().map(([, part]) => part);
  }

  /**
   * Puts another part in a part's place.
   * @throws RangeError where there is no part of that name
   * @throws TypeError for what is no part
   * @throws StateError (`code` 'ERR_NOT_REPLACEABLE') where `namedChildren` is overridden and this is not
   */
  replaceChild(name: string, part: ModuleLike): this {
    const where = this.checkReplacement(name, part);
    if (!Object.hasOwn(this, name)) {
      throw new StateError(
        'ERR_NOT_REPLACEABLE',
        `${where}: part "${name}" is no field of this ${this.constructor.name}; a class that overrides namedChildren ` +
          'must override replaceChild too',
      );
    }
    (this as Record<string, unknown>)[name] = part;
    return this;
  }

  protected checkReplacement(name: string, part: unknown): string {
    const where = `${this.constructor.name}.replaceChild`;
    const names = this.namedChildren().map(([key]) => key);
    if (!names.includes(name)) {
      throw new RangeError(`${where}: there is no part ${describe(name)}; the parts are ${names.join(', ') || 'none'}`);
    }
    if (!isModuleLike(part)) {
      throw new TypeError(`${where}: part "${name}" must have forward and backward, but got ${describe(part)}`);
    }
    return where;
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
    for (const part of this.children()) {
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
   * every part that has `freeze`.
   */
  freeze(frozen = true): this {
    this.#frozen = checkBoolean(`${this.constructor.name}.freeze`, 'frozen', frozen);
    for (const part of this.children()) part.freeze?.(frozen);
    return this;
  }
  get frozen(): boolean {
    return this.#frozen;
  }

  /**
   * Trains, evaluates or is frozen as another module does.
   * @internal
   */
  copyModes(from: Module): void {
    this.#training = from.#training;
    this.#frozen = from.#frozen;
  }

  /**
   * A function that puts the modes of this layer alone back to what they are now.
   * @internal
   */
  keepModes(): () => void {
    const [training, frozen] = [this.#training, this.#frozen];
    return () => {
      this.#training = training;
      this.#frozen = frozen;
    };
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
    for (const [prefix, part] of this.namedChildren()) {
      for (const [name, parameter] of namedParametersOf(part)) add(`${prefix}.${name}`, parameter);
    }
    return [...all].map(([parameter, name]) => [name, parameter]);
  }

  parameters(): Parameter[] {
    return this.namedParameters().map(([, parameter]) => parameter);
  }

  /** Forgets every parameter's gradient: sets `grad` to null, as torch does. */
  zeroGrad(): this {
    for (const [, parameter] of this.ownParameters()) parameter.grad = null;
    for (const part of this.children()) {
      if (part.zeroGrad) part.zeroGrad();
      else for (const parameter of part.parameters?.() ?? []) parameter.grad = null;
    }
    return this;
  }

  /** What the layer itself saves and loads, in order: its parameters; to be extended by what it keeps beside them. */
  protected ownState(): StateEntry[] {
    return this.ownParameters();
  }
  /** The version of what `ownState` says, saved as metadata. */
  protected get stateVersion(): number {
    return 1;
  }
  /** Before the entries of `ownState` are looked up: what other versions had instead. */
  protected beforeLoad(_scope: LoadScope): void {}

  /**
   * The parameters and running statistics of this module and its parts, under torch's dotted keys and in torch's order:
   * weight, bias, running_mean, running_var, num_batches_tracked. The tensors share memory with the layers.
   *
   * A part that is no `Module` takes part by `stateDict` and `loadStateDict`, or else by its parameters. A `Module` takes
   * part by `ownState`: overriding this one would not reach it as a part.
   *
   * @see torch.nn.Module.state_dict
   * @example
   * copy.loadStateDict(net.stateDict());
   */
  stateDict(): StateDict {
    const into = new StateDict();
    this.#save(into, '');
    return into;
  }

  #save(into: StateDict, prefix: string): void {
    into.metadata.set(prefix.slice(0, -1), { version: this.stateVersion });
    for (const [name, value] of this.ownState()) into.set(prefix + name, saved(value));
    for (const [key, part] of this.namedChildren()) {
      const below = `${prefix}${key}.`;
      if (part instanceof Module) part.#save(into, below);
      else {
        const state = ownWay(part)?.state ?? namedParametersOf(part);
        for (const [name, value] of state) into.set(below + name, saved(value));
      }
    }
  }

  /**
   * Copies the values of a state dict into the tensors of this module and its parts. Their dtype stays: values of any
   * other are converted. All or nothing: every error is found before anything is written.
   *
   * @param state a `StateDict`, or any Map or plain object of tensors under the same keys. Without the metadata of a
   *   `StateDict`, `num_batches_tracked` may be missing, as in torch: the layer keeps its own.
   * @param options `strict` (true): whether missing and unexpected keys are errors
   * @returns the keys that were missing and unexpected
   * @throws StateError (`code` 'ERR_STATE_DICT') with torch's message, one line for each error in the whole tree
   * @throws TypeError for a state that is no Map or object
   *
   * *Matches* torch.nn.Module.load_state_dict. Differences: all or nothing, where torch copies what fits and then throws;
   * `num_batches_tracked` must be a whole number, of any dtype.
   *
   * @example
   * const { missingKeys } = net.loadStateDict({ '0.weight': [1, 2, 3] }, { strict: false });
   */
  loadStateDict(state: StateSource, options: LoadOptions = {}): LoadResult {
    const where = `${this.constructor.name}.loadStateDict`;
    checkOptions(where, options, ['strict']);
    const strict = checkBoolean(where, 'strict', options.strict ?? true);
    const loading = new Loading(state, where);
    try {
      this.#load(loading, '');
      return loading.finish(this.constructor.name, strict);
    } catch (error) {
      loading.undo();
      throw error;
    }
  }

  #load(loading: Loading, prefix: string): void {
    const scope = loading.scope(prefix);
    this.beforeLoad(scope);
    const own = this.ownState();
    const parts = this.namedChildren();
    for (const [name, value] of own) scope.load(name, value);
    const names = new Set([...own.map(([name]) => name), ...parts.map(([key]) => `${key}.`)]);
    scope.expectOnly((name) => names.has(name) || names.has(name.slice(0, name.indexOf('.') + 1)));
    for (const [key, part] of parts) {
      const below = `${prefix}${key}.`;
      if (part instanceof Module) part.#load(loading, below);
      else {
        const theirs = ownWay(part);
        if (theirs) loading.scope(below).delegate(theirs);
        else loading.scope(below).loadAll(namedParametersOf(part));
      }
    }
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
    const parts = this.namedChildren();
    if (parts.length === 0) return `${name}(${this.extraRepr()})`;
    const lines = parts.map(([key, part]) => `  (${key}): ${String(part).replace(/\n/g, '\n  ')}`);
    return `${name}(\n${lines.join('\n')}\n)`;
  }
}

type Step = (x: Tensor, place?: { context: unknown }) => Tensor;

/**
 * Parts one after the other; backward in reverse. A layer may stand in several places: each place keeps its own forward.
 * (A part that keeps its forward without `context()`, as another `Sequential` does, may stand in one place only.)
 *
 * @throws TypeError for a part without forward and backward
 * @see torch.nn.Sequential
 * @example
 * const net = new Sequential(new BatchNorm1d(100), new LayerNorm(100));
 * const y = net.forward(x);
 * const dx = net.backward(dy);
 */
export class Sequential extends Module {
  #parts: readonly ModuleLike[] = [];
  /** Arguments beside the tensor, by place: for a part that has several, where to keep its forward. */
  #places: readonly [{ context: unknown }?][] = [];

  constructor(...parts: ModuleLike[]) {
    super();
    parts.forEach((part: unknown, i) => {
      if (isModuleLike(part)) return;
      const hint = Array.isArray(part)
        ? '; pass the parts one by one: new Sequential(...parts)'
        : typeof part === 'function'
          ? '; pass an instance: new Sequential(new Layer())'
          : '';
      throw new TypeError(`Sequential: part ${i} must have forward and backward, but got ${describe(part)}${hint}`);
    });
    this.#arrange(parts);
  }

  #arrange(parts: readonly ModuleLike[]): void {
    this.#parts = parts;
    this.#places = parts.map((part) =>
      part.context && parts.indexOf(part) !== parts.lastIndexOf(part) ? [{ context: part.context() }] : [],
    );
  }

  override namedChildren(): [string, ModuleLike][] {
    return this.#parts.map((part, i) => [String(i), part]);
  }
  override replaceChild(name: string, part: ModuleLike): this {
    this.checkReplacement(name, part);
    this.#arrange(this.#parts.with(Number(name), part));
    return this;
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

  override forward(input: TensorLike, ...options: undefined[]): Tensor {
    this.#takesNone('forward', options);
    return this.#parts.reduce(
      (x, part, i) => (part.forward as Step).call(part, x, ...this.#places[i]!),
      this.#tensor(input, 'forward', 'input'),
    );
  }
  override backward(gradOutput: TensorLike, ...options: undefined[]): Tensor {
    this.#takesNone('backward', options);
    return this.#parts.reduceRight(
      (dy, part, i) => (part.backward as Step).call(part, dy, ...this.#places[i]!),
      this.#tensor(gradOutput, 'backward', 'grad_output'),
    );
  }

  /** Options are of one layer, and would be lost here without a word. */
  #takesNone(method: string, options: readonly unknown[]): void {
    if (options.every((option) => option === undefined)) return;
    throw new TypeError(`Sequential.${method}: options are of single layers; call those that need them one by one`);
  }

  /** A Tensor, as parts are promised; nested arrays take the dtype of the first part that has one. */
  #tensor(value: TensorLike, method: string, name: string): Tensor {
    const dtypes = this.#parts.map((part) => (part as { dtype?: DType }).dtype);
    return asTensor(value, `Sequential.${method}`, name, dtypes.find((dtype) => dtype !== undefined) ?? 'float32');
  }
}
