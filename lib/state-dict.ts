// What a network saves and loads: torch's state dict, and how one is loaded so that it is loaded whole or not at all.
// The tree of modules is walked in module.ts; nothing here knows a layer.

import { describe, formatShape, isMap, StateError } from './internal/errors';
import { isUninitialized } from './internal/uninitialized';
import { asTensor, gather, Tensor, tensor, type DType, type TensorData, type TensorLike } from './tensor';

/**
 * A Map of torch's dotted keys to tensors, in torch's order.
 *
 * The tensors share memory with the layers they come from, as in torch: copy them to keep them from changing.
 * `num_batches_tracked` is the exception, an int64 tensor of shape [] that holds the count of the moment.
 *
 * @see torch.nn.Module.state_dict
 * @example
 * const saved = net.stateDict();
 * [...saved.keys()]; // ['0.weight', '0.bias', '0.running_mean', '0.running_var', '0.num_batches_tracked', ...]
 */
export class StateDict extends Map<string, Tensor> {
  /** torch's `_metadata`: the version of each module's format, by the module's dotted name ('' is the root). */
  readonly metadata = new Map<string, { version: number }>();
}

/** What `loadStateDict` takes. Of a plain object only own keys count. */
export type StateSource = ReadonlyMap<string, TensorLike> | Readonly<Record<string, TensorLike>>;

export interface LoadOptions {
  /** Whether missing and unexpected keys are errors; default true. A tensor of another shape always is. */
  strict?: boolean | undefined;
}

export interface LoadResult {
  missingKeys: string[];
  unexpectedKeys: string[];
}

/** A whole number that a layer counts and torch keeps as an int64 tensor of shape []. */
export interface StateCount {
  get(): number;
  set(value: number): void;
}

/** A part of a layer's own state: a tensor that is saved as it lies and loaded into, or a count. */
export type StateEntry = [name: string, value: Tensor | StateCount];

/** The tensor that stands for an entry in a state dict. */
export function saved(value: Tensor | StateCount): Tensor {
  if (!(value instanceof Tensor)) return new Tensor(BigInt64Array.of(BigInt(value.get())), []);
  if (isUninitialized(value)) return value;
  const { data, shape, strides, offset, dtype } = value;
  return new Tensor(data, shape, { strides, offset, dtype });
}

/** The entries of whatever serves as a state dict. */
function entriesOf(state: unknown, where: string): Map<string, unknown> {
  if (isMap(state)) {
    const entries = new Map<string, unknown>();
    for (const [key, value] of state as Map<unknown, unknown>) {
      if (typeof key !== 'string') {
        throw new TypeError(`${where}: Expected state_dict to have strings for keys, got ${describe(key)}`);
      }
      entries.set(key, value);
    }
    return entries;
  }
  if (typeof state !== 'object' || state === null || Array.isArray(state) || isData(state)) {
    throw new TypeError(`${where}: Expected state_dict to be dict-like, got ${describe(state)}.`);
  }
  return new Map(Object.entries(state));
}

/** The tensors of a part that keeps its state its own way. */
export function tensorsOf(state: unknown, where: string): Map<string, Tensor> {
  return new Map([...entriesOf(state, where)].map(([name, value]) => [name, entryOf(name, value, where)]));
}

function entryOf(name: string, value: unknown, where: string): Tensor {
  if (typeof value === 'number') return tensor(value, undefined, { dtype: 'float64' });
  if (typeof value === 'bigint') return tensor(value as never, undefined, { dtype: 'int64' });
  const found = asTensor(value, where, name, 'float64');
  if (!isUninitialized(found)) found.checkExtent(where, name);
  return found;
}

function read(key: string, value: unknown): Tensor | string {
  if (value === null || !['object', 'number', 'bigint'].includes(typeof value)) {
    return `expected torch.Tensor or Tensor-like object from checkpoint but received ${describe(value)}`;
  }
  try {
    return entryOf(key, value, 'state_dict');
  } catch (error) {
    return `an exception occurred : ${text(error)}.`;
  }
}

const isData = (value: object): boolean => ArrayBuffer.isView(value) || value instanceof Tensor;

/**
 * One loading of a whole tree: everything is read, checked and converted first, and written at the end, so that an
 * error leaves every tensor as it was.
 */
export class Loading {
  /** By key, the tensor, or why there is none. All are read first, and once: a getter may run anything. */
  readonly entries: ReadonlyMap<string, Tensor | string>;
  readonly missing: string[] = [];
  readonly unexpected: string[] = [];
  readonly lines: string[] = [];
  /** What cannot fail. */
  readonly commits: (() => void)[] = [];
  /** What may fail: the loading of parts that are not ours. Each adds to `undos`. */
  readonly attempts: (() => void)[] = [];
  readonly undos: (() => void)[] = [];
  readonly #versions: ReadonlyMap<string, { version?: number }>;

  constructor(state: unknown, where: string) {
    this.entries = new Map([...entriesOf(state, where)].map(([key, value]) => [key, read(key, value)]));
    const metadata = isMap(state) ? (state as Partial<StateDict>).metadata : undefined;
    this.#versions = isMap(metadata) ? (metadata as ReadonlyMap<string, { version?: number }>) : new Map();
  }

  scope(prefix: string): LoadScope {
    return new LoadScope(this, prefix, this.#versions.get(prefix.slice(0, -1))?.version);
  }

  /** Writes everything, or throws what was found. */
  finish(name: string, strict: boolean): LoadResult {
    const lines = [...this.lines];
    const quoted = (keys: string[]): string => keys.map((key) => `"${key}"`).join(', ');
    if (strict) {
      if (this.unexpected.length > 0) lines.unshift(`Unexpected key(s) in state_dict: ${quoted(this.unexpected)}. `);
      if (this.missing.length > 0) lines.unshift(`Missing key(s) in state_dict: ${quoted(this.missing)}. `);
    }
    if (lines.length > 0) {
      throw new StateError('ERR_STATE_DICT', `Error(s) in loading state_dict for ${name}:\n\t${lines.join('\n\t')}`);
    }
    for (const attempt of this.attempts) attempt();
    for (const commit of this.commits) commit();
    return { missingKeys: this.missing, unexpectedKeys: this.unexpected };
  }

  undo(): void {
    for (const undo of this.undos.reverse()) {
      try {
        undo();
      } catch {
        // A part that is not ours refuses its own old state: the error that brought us here is the one to report.
      }
    }
  }
}

/** What one module sees of a state dict that is being loaded: the entries below its prefix, by its own names. */
export class LoadScope {
  readonly #loading: Loading;
  readonly #names: Map<string, string>;
  readonly #mayLack = new Set<string>();

  /** @internal */
  constructor(
    loading: Loading,
    readonly prefix: string,
    /** The version of the module's format when it was saved; undefined where the state dict has no metadata. */
    readonly version: number | undefined,
  ) {
    this.#loading = loading;
    const keys = [...loading.entries.keys()].filter((key) => key.startsWith(prefix));
    this.#names = new Map(keys.map((key) => [key.slice(prefix.length), key]));
  }

  has(name: string): boolean {
    return this.#names.has(name);
  }
  /** A missing entry of this name is no error: the layer keeps its own. */
  mayLack(name: string): void {
    this.#mayLack.add(name);
  }
  /** Takes no further notice of an entry. */
  ignore(name: string): void {
    this.#names.delete(name);
  }
  /** Adds a line to the error that ends the loading. */
  refuse(line: string): void {
    this.#loading.lines.push(line);
  }
  /** The shape of the tensor given under a name, where it is one. */
  shapeOf(name: string): readonly number[] | undefined {
    if (!this.has(name)) return undefined;
    const found = this.#loading.entries.get(this.prefix + name)!;
    return typeof found === 'string' || isUninitialized(found) ? undefined : found.shape;
  }
  /** What is to happen with all the writing, and what undoes what was prepared for it. */
  afterwards(commit: () => void, undo: () => void): void {
    this.#loading.commits.push(commit);
    this.#loading.undos.push(undo);
  }

  /**
   * Plans the loading of an entry.
   * @internal
   */
  load(name: string, into: Tensor | StateCount): void {
    this.#take(name, into instanceof Tensor ? into : scalar, (source) => {
      const { commits } = this.#loading;
      if (into instanceof Tensor) {
        into.checkExtent('the current model', name);
        const elements = elementsAs(source, into.dtype);
        commits.push(() => write(into, elements));
        return;
      }
      const count = numbersOf(source)[0]!;
      if (!Number.isSafeInteger(count) || count < 0) {
        throw new RangeError(`it must be a whole number from 0 to 2^53 - 1, but got ${count}`);
      }
      commits.push(() => into.set(count));
    });
  }

  /** Plans something with the tensor given under a name if it has the shape of another; otherwise says why not. */
  #take(name: string, like: Tensor | typeof scalar, plan: (source: Tensor) => void): void {
    const key = this.prefix + name;
    const found = this.has(name) ? this.#loading.entries.get(key)! : undefined;
    if (found === undefined) {
      if (!this.#mayLack.has(name)) this.#loading.missing.push(key);
      return;
    }
    if (typeof found === 'string') {
      this.refuse(`While copying the parameter named "${key}", ${found}`);
      return;
    }
    // What is lazy may be loaded into what is lazy: there is nothing to copy.
    if (isUninitialized(found) && like instanceof Tensor && isUninitialized(like)) return;
    try {
      const [came, needed] = [found.shape, like.shape];
      // As torch: one element of shape [1] is taken for a scalar, as the earliest files have it.
      const single = needed.length === 0 && came.length === 1 && came[0] === 1;
      if (single || formatShape(came) === formatShape(needed)) plan(found);
      else {
        this.refuse(
          `size mismatch for ${key}: copying a param with shape torch.Size(${formatShape(came)}) from checkpoint, ` +
            `the shape in current model is torch.Size(${formatShape(needed)}).`,
        );
      }
    } catch (error) {
      this.refuse(`While copying the parameter named "${key}", an exception occurred : ${text(error)}.`);
    }
  }

  /**
   * Every entry that is not known is an unexpected key.
   * @internal
   */
  expectOnly(known: (name: string) => boolean): void {
    for (const [name, key] of this.#names) if (!known(name)) this.#loading.unexpected.push(key);
  }

  /**
   * Plans the loading of exactly these entries.
   * @internal
   */
  loadAll(entries: StateEntry[]): void {
    for (const [name, into] of entries) this.load(name, into);
    const names = new Set(entries.map(([name]) => name));
    this.expectOnly((name) => names.has(name));
  }

  /**
   * Plans the loading of a part that keeps its state its own way; if a later one fails, it gets its old state back.
   * @internal
   */
  delegate(part: { load(state: Map<string, Tensor>): unknown; state: ReadonlyMap<string, Tensor> }): void {
    const given = new StateDict();
    const before = new StateDict();
    for (const [name, own] of part.state) {
      before.set(name, own.copy());
      this.#take(name, own, (source) => given.set(name, source));
    }
    this.expectOnly((name) => part.state.has(name));
    this.#loading.attempts.push(() => {
      part.load(given);
      this.#loading.undos.push(() => void part.load(before));
    });
  }
}

const scalar = { shape: [] as readonly number[] };
const text = (error: unknown): string => (error as Error).message;

/** Every element as a number, in row-major order. */
function numbersOf(x: Tensor): number[] {
  return x.contiguous().to('float64').toArray() as number[];
}

/** A copy of the elements in row-major order, converted to another dtype where need be. */
function elementsAs(x: Tensor, dtype: DType): TensorData {
  return x.dtype === dtype ? x.copy().data : x.contiguous().to(dtype).data;
}

/** Copies elements in row-major order into a tensor that may have strides. */
function write(into: Tensor, elements: TensorData): void {
  const { data, shape, strides, offset } = into;
  if (into.isContiguous) {
    (data as Float64Array).set(elements as Float64Array, offset);
    return;
  }
  const places = new Float64Array(into.size);
  gather(
    new Tensor(
      Float64Array.from({ length: data.length }, (_, i) => i),
      shape,
      { strides, offset },
    ),
    places as never,
  );
  places.forEach((place, i) => (data[place] = elements[i]!));
}
