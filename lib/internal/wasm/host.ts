// The binary as WebAssembly: the same bindings, ops and kernels, behind the same functions, with the same bits. Its memory
// is its own, so each call copies what it reads in and what it wrote out, and leaves nothing there.
//
// The bindings ask Node-API about the values of a call; here are the answers to just those questions. A value is the number
// of its place among the values of the call that is running, and none outlives it. No JavaScript of anybody else runs
// between the copies, so nothing can take memory away meanwhile.

import type { Addon } from '../addon';
import { arrayKind, bufferOf, byteOffsetOf, isArrayBuffer, lengthOf, StateError } from '../errors';
import { reads, uses, writes } from './uses';

/** A WebAssembly.Module, which TypeScript knows with the library of browsers only. */
export type WasmModule = object;

type Callback = (env: number, info: number) => number;
interface Exports {
  memory: { buffer: ArrayBuffer };
  _initialize(): void;
  malloc(bytes: number): number;
  free(address: number): void;
  napi_register_wasm_v1(env: number, exports: number): number;
  __indirect_function_table: { get(i: number): Callback };
}
declare const WebAssembly: {
  Module: { imports(module: WasmModule): { name: string }[] };
  Instance: new (module: WasmModule, imports: object) => { exports: unknown };
};

/** napi_status */
const Status = { ok: 0, invalidArgument: 1, numberExpected: 6, arrayExpected: 8 } as const;
/** By napi_typedarray_type: the name, and the bytes of an element. */
const types: readonly (readonly [kind: string, bytes: number])[] = [
  ['Int8Array', 1],
  ['Uint8Array', 1],
  ['Uint8ClampedArray', 1],
  ['Int16Array', 2],
  ['Uint16Array', 2],
  ['Int32Array', 4],
  ['Uint32Array', 4],
  ['Float32Array', 4],
  ['Float64Array', 8],
  ['BigInt64Array', 8],
  ['BigUint64Array', 8],
  ['Float16Array', 2],
];

/** A typed array among the arguments. */
interface View {
  type: number;
  length: number;
  buffer: ArrayBufferLike;
  byteOffset: number;
  /** Where native finds element 0, or would, were it copied: only what is used of an array is. */
  address: number;
}
/** What a call uses of one, as bytes of its buffer. */
interface Part {
  view: View;
  begin: number;
  end: number;
  how: number;
}

/** Parts that overlap, together. */
interface Stretch {
  begin: number;
  end: number;
  parts: Part[];
}

const line = 64;
// Its malloc traps where it is asked for half the memory.
const largest = 2 ** 31 - 2 ** 20;
// As native/core/geometry.h has it: 32 bits count what the ops need beside so many elements.
const most = 2 ** 28;
const outOfMemory = 6 << 4;

function viewOf(value: unknown): View | null {
  const kind = arrayKind(value);
  const type = types.findIndex(([name]) => name === kind);
  if (type < 0) return null;
  const array = value as ArrayBufferView;
  return { type, length: lengthOf(array), buffer: bufferOf(array), byteOffset: byteOffsetOf(array), address: 0 };
}

/** The elements of a list: undefined where a getter throws. */
function elementsOf(list: readonly unknown[]): unknown[] {
  return Array.from({ length: list.length }, (_, i) => {
    try {
      return list[i];
    } catch {
      return undefined;
    }
  });
}

/** Stretches of one buffer that touch nothing of each other: parts that overlap stay together, as native must see it. */
function* apart(parts: readonly Part[]): Generator<Stretch> {
  const byBuffer = new Map<ArrayBufferLike, Part[]>();
  for (const part of parts) {
    const others = byBuffer.get(part.view.buffer);
    if (others) others.push(part);
    else byBuffer.set(part.view.buffer, [part]);
  }
  for (const own of byBuffer.values()) {
    own.sort((a, b) => a.begin - b.begin);
    for (let i = 0; i < own.length;) {
      const together = [own[i]!];
      let { end } = own[i]!;
      for (i++; i < own.length && own[i]!.begin < end; i++) {
        together.push(own[i]!);
        end = Math.max(end, own[i]!.end);
      }
      yield { begin: together[0]!.begin, end, parts: together };
    }
  }
}

class Instance {
  readonly #exports: Exports;
  readonly #functions = new Map<string, Callback>();
  // Of the call that is running. First undefined, then its arguments, the elements of lists among them, what native made.
  #values: unknown[] = [undefined];
  #given = 0;
  #views: (View | null)[] = [];
  readonly #lists = new Map<number, { first: number; length: number }>();
  #memory = new DataView(new ArrayBuffer(0));

  constructor(module: WasmModule) {
    const napi: Record<string, (...numbers: number[]) => number> = {};
    for (const { name } of WebAssembly.Module.imports(module)) {
      napi[name] =
        this.#answers[name] ??
        (() => {
          throw new StateError('ERR_WASM', `simdnorm: WebAssembly asks for ${name}, which has no answer`);
        });
    }
    this.#exports = new WebAssembly.Instance(module, { napi }).exports as Exports;
    this.#exports._initialize();
    this.#exports.napi_register_wasm_v1(1, 0);
  }

  /** A call that looks into no array. */
  call(name: string, given: readonly unknown[]): unknown {
    this.#values = [undefined, ...given];
    this.#given = given.length;
    return this.#result(name);
  }

  /** A call on what it uses of its typed arrays. */
  callWithMemory(name: string, given: readonly unknown[]): number {
    this.#take(given);
    const parts: Part[] = [];
    const use = (argument: number, how: number, from = 0, count?: number): void => {
      const { first, length } = this.#lists.get(argument + 1) ?? { first: argument + 1, length: 1 };
      for (const view of this.#views.slice(first, first + length)) {
        if (!view) continue;
        const to = from + (count ?? view.length);
        // What is out of bounds native refuses, by the lengths alone.
        if (!(from >= 0 && from < to && to <= view.length)) continue;
        const [, bytes] = types[view.type]!;
        const [begin, end] = [view.byteOffset + from * bytes, view.byteOffset + to * bytes];
        parts.push({ view, begin, end, how });
      }
    };
    use(0, reads);
    const block = arrayKind(given[0]) === 'Float64Array' ? (given[0] as Float64Array) : new Float64Array(0);
    const isTooLarge = uses[name]!(use, block, given) > most && parts.some(({ begin, end }) => end - begin > most);
    const places = isTooLarge ? null : this.#place([...apart(parts)]);
    if (!places) return outOfMemory;
    for (const part of parts) if (part.how & reads) this.#there(part).set(here(part));
    const fault = this.#result(name) as number;
    if (fault === 0) {
      for (const part of parts) if (part.how & writes) here(part).set(this.#there(part));
    }
    this.#free(places);
    return fault;
  }

  /** Memory for each of them, and addresses for what lies in it; null, and nothing was taken, without. */
  #place(stretches: readonly Stretch[]): number[] | null {
    const places: number[] = [];
    for (const { begin, end, parts } of stretches) {
      const bytes = end - begin + 2 * line;
      const place = bytes < largest ? this.#exports.malloc(bytes) >>> 0 : 0;
      if (place === 0) {
        this.#free(places);
        return null;
      }
      places.push(place);
      // As far from a line's begin as it was.
      const address = Math.ceil(place / line) * line + (begin % line);
      for (const { view } of parts) view.address = address + view.byteOffset - begin;
    }
    return places;
  }
  #free(places: readonly number[]): void {
    for (const place of places) this.#exports.free(place);
  }

  /** The arguments as values, and which of them have memory. */
  #take(given: readonly unknown[]): void {
    this.#values = [undefined, ...given];
    this.#given = given.length;
    this.#lists.clear();
    given.forEach((arg, i) => {
      if (!Array.isArray(arg)) return;
      // Read once and first of all: whatever a getter does, native comes later.
      const list = elementsOf(arg);
      this.#lists.set(i + 1, { first: this.#values.length, length: list.length });
      for (const element of list) this.#values.push(element); // a spread of many would be the end of the stack
    });
    this.#views = this.#values.map(viewOf);
  }

  #result(name: string): unknown {
    const value = this.#values[this.#functions.get(name)!(1, 1)];
    // Nothing of the caller's is held on to.
    this.#values = [undefined];
    this.#views = [];
    return value;
  }

  /** The bytes of a part, in the instance's memory. */
  #there({ view, begin, end }: Part): Uint8Array {
    return new Uint8Array(this.#exports.memory.buffer, view.address + begin - view.byteOffset, end - begin);
  }

  /** The memory as it is now: it grows, and then it is another buffer. */
  get #words(): DataView {
    const { buffer } = this.#exports.memory;
    if (this.#memory.buffer !== buffer) this.#memory = new DataView(buffer);
    return this.#memory;
  }
  #write(address: number, word: number): void {
    if (address !== 0) this.#words.setUint32(address, word, true);
  }
  #make(value: unknown, result: number): number {
    this.#write(result, this.#values.push(value) - 1);
    return Status.ok;
  }
  #text(address: number): string {
    let text = '';
    for (let code; (code = this.#words.getUint8(address++)) !== 0;) text += String.fromCharCode(code);
    return text;
  }

  /** By name: what Node-API says of the same function. All texts that come here are ASCII, and end with 0. */
  readonly #answers: Record<string, (env: number, ...numbers: number[]) => number> = {
    napi_get_cb_info: (_env, _info, count, values) => {
      const room = this.#words.getUint32(count!, true);
      for (let i = 0; i < room; i++) this.#write(values! + 4 * i, i < this.#given ? i + 1 : 0);
      this.#write(count!, this.#given);
      return Status.ok;
    },
    napi_get_typedarray_info: (_env, value, type, length, data) => {
      const view = this.#views[value!];
      if (!view) return Status.invalidArgument;
      this.#write(type!, view.type);
      this.#write(length!, view.length);
      this.#write(data!, view.address);
      return Status.ok;
    },
    napi_get_array_length: (_env, value, length) => {
      const list = this.#lists.get(value!);
      if (!list) return Status.arrayExpected;
      this.#write(length!, list.length);
      return Status.ok;
    },
    napi_get_element: (_env, value, i, result) => {
      this.#write(result!, this.#lists.get(value!)!.first + i!);
      return Status.ok;
    },
    napi_is_arraybuffer: (_env, value, result) => {
      this.#words.setUint8(result!, Number(isArrayBuffer(this.#values[value!])));
      return Status.ok;
    },
    // It lies nowhere in this memory.
    napi_get_arraybuffer_info: (_env, value, data, length) => {
      this.#write(data!, 0);
      this.#write(length!, (this.#values[value!] as ArrayBuffer).byteLength);
      return Status.ok;
    },
    napi_get_undefined: (_env, result) => {
      this.#write(result!, 0);
      return Status.ok;
    },
    napi_get_value_double: (_env, value, result) => {
      const number = this.#values[value!];
      if (typeof number !== 'number') return Status.numberExpected;
      this.#words.setFloat64(result!, number, true);
      return Status.ok;
    },
    napi_create_double: (_env, number, result) => this.#make(number, result!),
    napi_create_string_utf8: (_env, text, _length, result) => this.#make(this.#text(text!), result!),
    napi_create_function: (_env, _name, _length, callback, _data, result) =>
      this.#make(this.#exports.__indirect_function_table.get(callback!), result!),
    napi_set_named_property: (_env, _object, name, value) => {
      this.#functions.set(this.#text(name!), this.#values[value!] as Callback);
      return Status.ok;
    },
    napi_open_handle_scope: () => Status.ok,
    napi_close_handle_scope: () => Status.ok,
  };
  get names(): Iterable<string> {
    return this.#functions.keys();
  }
}

const here = ({ view, begin, end }: Part): Uint8Array => new Uint8Array(view.buffer, begin, end - begin);

/** What the native addon exports, but for process groups. There is one thread, whatever number is set. */
export function addonOf(module: WasmModule): Addon {
  let current: Instance | null = new Instance(module);
  const addon: Record<string, (...args: never[]) => unknown> = {};
  for (const name of current.names) {
    addon[name] = (...args: unknown[]) => {
      const instance = (current ??= new Instance(module));
      // An instance that ends in the middle of a call, at the end of the stack for one, never frees what it had taken.
      current = null;
      const result = name in uses ? instance.callWithMemory(name, args) : instance.call(name, args);
      current = instance;
      return result;
    };
  }
  // No other thread would take them: they are made at once, and settle as those of another thread do.
  for (const name of ['forward', 'fromImages']) {
    addon[`${name}Async`] = (...args: unknown[]) => {
      const settle = args.pop() as (fault: number) => void;
      const fault = addon[name]!(...(args as never[])) as number;
      if (fault === 0) queueMicrotask(() => settle(0));
      return fault;
    };
  }
  return addon as unknown as Addon;
}
