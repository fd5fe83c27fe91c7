// The one voice of every refusal: who speaks, about what, what came, what was needed.

/** An Error with a stable `code`, for what is neither a wrong kind nor a wrong size. */
export class StateError extends Error {
  override readonly name = 'StateError';
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** How a value is named in a message. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (typeof value === 'string') return `the string ${JSON.stringify(value)}`;
  if (typeof value === 'number' || typeof value === 'boolean' || value === undefined) return String(value);
  if (typeof value === 'bigint') return `${value}n`;
  if (Array.isArray(value)) return 'an array';
  if (ArrayBuffer.isView(value)) return `${arrayKind(value)!.startsWith('I') ? 'an' : 'a'} ${arrayKind(value)}`;
  if (typeof value === 'function') return 'a function';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

const typedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype) as object;
const getter = (name: PropertyKey): ((this: unknown) => unknown) =>
  Object.getOwnPropertyDescriptor(typedArrayPrototype, name)!.get!;
const tagOf = getter(Symbol.toStringTag);
const lengthGetter = getter('length');
const bufferGetter = getter('buffer');
const byteOffsetGetter = getter('byteOffset');

/**
 * 'Float32Array' and so on by what the value is, not by `instanceof`, which fails across realms (jest, vm), nor by a
 * property that can be shadowed; 'DataView' for one, undefined for anything else.
 */
export function arrayKind(value: unknown): string | undefined {
  if (!ArrayBuffer.isView(value)) return undefined;
  return (tagOf.call(value) as string | undefined) ?? 'DataView';
}

/** The true length of a typed array: 0 when its buffer is detached, whatever a subclass says. */
export function lengthOf(array: ArrayBufferView): number {
  return lengthGetter.call(array) as number;
}

/** Whether a typed array lies in a SharedArrayBuffer, whatever it says of itself. */
export function isShared(array: unknown): boolean {
  const kind = arrayKind(array);
  return kind !== undefined && kind !== 'DataView' && !isArrayBuffer(bufferOf(array as ArrayBufferView));
}

/** The memory of a typed array, and where in it the array begins, whatever a subclass says. */
export function bufferOf(array: ArrayBufferView): ArrayBufferLike {
  return bufferGetter.call(array) as ArrayBufferLike;
}
export function byteOffsetOf(array: ArrayBufferView): number {
  return byteOffsetGetter.call(array) as number;
}

/** Whether a getter that looks for what only its own kind has, in whatever realm it was made, finds it. */
function has(getter: (this: unknown) => unknown, value: unknown): boolean {
  try {
    getter.call(value);
    return true;
  } catch {
    return false;
  }
}
const getterOf = (prototype: object, name: string): ((this: unknown) => unknown) =>
  Object.getOwnPropertyDescriptor(prototype, name)!.get!;
const bytesGetter = getterOf(ArrayBuffer.prototype, 'byteLength');
const sizeGetter = getterOf(Map.prototype, 'size');

/** Whether it is an ArrayBuffer; a SharedArrayBuffer is none. */
export function isArrayBuffer(value: unknown): value is ArrayBuffer {
  return has(bytesGetter, value);
}
export function isMap(value: unknown): value is Map<unknown, unknown> {
  return has(sizeGetter, value);
}

/** The same memory as an array of another kind with elements as large, whatever a subclass says; the array itself if it is one. */
export function viewAs<A extends ArrayBufferView>(
  Kind: (new (buffer: ArrayBufferLike, byteOffset: number, length: number) => A) & (new (length: number) => A),
  array: ArrayBufferView,
): A {
  if (arrayKind(array) === Kind.name) return array as A;
  const length = lengthOf(array);
  // A view of a detached buffer cannot be made.
  if (length === 0) return new Kind(0);
  return new Kind(bufferOf(array), byteOffsetOf(array), length);
}

export function formatShape(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}

/** Checks an options object: a plain object with known keys only. */
export function checkOptions(where: string, options: unknown, known: readonly string[]): void {
  if (options === undefined) return;
  if (typeof options !== 'object' || options === null || Array.isArray(options) || ArrayBuffer.isView(options)) {
    throw new TypeError(`${where}: options must be an object, but got ${describe(options)}`);
  }
  // For nearly every call; it meets inherited keys as well, which only cost the list below.
  let usual = true;
  for (const key in options) usual &&= known.includes(key);
  if (usual) return;
  for (const key of Object.keys(options)) {
    if (known.includes(key)) continue;
    const meant = known.find((name) => name.toLowerCase() === key.replace(/_/g, '').toLowerCase());
    const hint = meant ? `did you mean "${meant}"?` : `known options are ${known.join(', ')}`;
    throw new TypeError(`${where}: unknown option "${key}"; ${hint}`);
  }
}

export function checkBoolean(where: string, name: string, value: unknown): boolean {
  if (typeof value !== 'boolean')
    throw new TypeError(`${where}: ${name} must be a boolean, but got ${describe(value)}`);
  return value;
}

export function checkNumber(where: string, name: string, value: unknown): number {
  if (typeof value !== 'number') throw new TypeError(`${where}: ${name} must be a number, but got ${describe(value)}`);
  if (!Number.isFinite(value)) throw new RangeError(`${where}: ${name} must be finite, but got ${value}`);
  return value;
}

/** A size: an integer from `least` to 2^53 - 1. */
export function checkSize(where: string, name: string, value: unknown, least = 0): number {
  if (typeof value !== 'number')
    throw new TypeError(`${where}: ${name} must be an integer, but got ${describe(value)}`);
  if (!Number.isSafeInteger(value) || value < least) {
    throw new RangeError(`${where}: ${name} must be an integer of at least ${least}, but got ${value}`);
  }
  return value;
}
