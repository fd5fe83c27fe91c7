// The safetensors format, strictly: what is read is exactly what the file says, or an error says what is wrong with it.

import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { types } from 'node:util';
import { arrayKind, checkOptions, describe, lengthOf, StateError } from '../internal/errors';
import { allocate, asTensor, Tensor, type TensorLike } from '../tensor';
import { readAt, replaceFile, runAsync, runSync, withFile, type Steps } from './files';
import {
  bytesOfDtype,
  headerLength,
  loneSurrogate,
  mostHeaderBytes,
  quote,
  readHeader,
  writeHeader,
  type Entry,
  type Header,
  type Refuse,
} from './safetensors-header';

/** What a file holds, in the order of its header. */
export interface Safetensors {
  tensors: Map<string, Tensor>;
  metadata: Map<string, string>;
}
/** Tensors by name: a Map, a state dict, any list of pairs, or a plain object. */
export type NamedTensors = Iterable<readonly [string, TensorLike]> | Readonly<Record<string, TensorLike>>;

export interface SafetensorsOptions {
  /** Text beside the tensors. Some programs look for `{ format: 'pt' }`. */
  metadata?: Iterable<readonly [string, string]> | Readonly<Record<string, string>> | undefined;
}

/** The format is little-endian, and so are typed arrays wherever our kernels run; elsewhere nothing is guessed. */
function checkEndianness(where: string): void {
  if (os.endianness() !== 'LE') {
    throw new StateError('ERR_BIG_ENDIAN', `${where}: safetensors is read and written on little-endian machines only`);
  }
}

function fileName(path: unknown, where: string): string {
  if (typeof path === 'string') return path;
  try {
    return fileURLToPath(path as URL);
  } catch {
    throw new TypeError(`${where}: path must be a string or a file URL, but got ${describe(path)}`);
  }
}

function refusal(where: string): Refuse {
  return (what) => {
    throw new StateError('ERR_SAFETENSORS', `${where}: this is no valid safetensors file: ${what}`);
  };
}

/** A tensor for the entry, and its bytes, which are still to be filled. Memory of its own: data in files lie unaligned. */
function prepare(entry: Entry, where: string): { tensor: Tensor; bytes: Uint8Array } {
  const { dtype, shape, begin, end } = entry;
  const data = allocate(dtype, (end - begin) / bytesOfDtype[dtype], where);
  return { tensor: new Tensor(data, shape, { dtype }, where), bytes: new Uint8Array(data.buffer) };
}

/**
 * The tensors of a safetensors file in memory. They are copies: the bytes may be used again.
 *
 * Held to: a header of at most 100 MB that begins with `{`, is UTF-8, and is JSON without duplicate keys; no fields but
 * dtype, shape and data_offsets; dtypes F64, F32, F16, BF16, I64, I32, I16, I8 and U8; at most 64 dimensions; data that the
 * tensors fill without a gap, an overlap or a byte left over; metadata of strings. Names are only names: `__proto__` is
 * one.
 *
 * @throws TypeError for what are no bytes
 * @throws StateError (`code` 'ERR_SAFETENSORS') for anything else than a valid file
 * @see https://github.com/huggingface/safetensors, whose reader takes more dtypes and unknown fields
 * @example
 * const { tensors, metadata } = parse(serialize({ weight: tensor([1, 2]) }, { metadata: { epoch: '3' } }));
 */
export function parse(bytes: Uint8Array | ArrayBufferLike): Safetensors {
  const where = 'parse';
  checkEndianness(where);
  if (!types.isAnyArrayBuffer(bytes) && arrayKind(bytes) !== 'Uint8Array') {
    throw new TypeError(`${where}: bytes must be a Uint8Array or an ArrayBuffer, but got ${describe(bytes)}`);
  }
  const all = types.isAnyArrayBuffer(bytes) ? new Uint8Array(bytes) : (bytes as Uint8Array);
  const refuse = refusal(where);
  const size = lengthOf(all);
  const start = 8 + headerLength(all.subarray(0, 8), size, refuse);
  const header = new Uint8Array(start - 8); // a copy: no text is decoded from shared memory
  header.set(all.subarray(8, start));
  const { entries, metadata } = readHeader(header, size - start, refuse);
  const tensors = new Map<string, Tensor>();
  for (const entry of entries) {
    const { tensor, bytes: into } = prepare(entry, where);
    into.set(all.subarray(start + entry.begin, start + entry.end));
    tensors.set(entry.name, tensor);
  }
  return { tensors, metadata };
}

interface OpenFile extends Header {
  /** Fills bytes with what stands from `position` on, counted from the end of the header. */
  load(into: Uint8Array, position: number): Steps<void>;
}

function* headerOf(fd: number, size: number, refuse: Refuse): Steps<OpenFile> {
  const load = function* (into: Uint8Array, position: number): Steps<void> {
    const got = yield* readAt(fd, into, position);
    if (got < into.length) refuse(`it ended at byte ${position + got} while it was read`);
  };
  const first = new Uint8Array(Math.min(size, 8));
  yield* load(first, 0);
  const header = new Uint8Array(headerLength(first, size, refuse));
  yield* load(header, 8);
  const start = 8 + header.length;
  return { ...readHeader(header, size - start, refuse), load: (into, position) => load(into, start + position) };
}

function* read(path: string | URL, where: string): Steps<Safetensors> {
  checkEndianness(where);
  const name = fileName(path, where);
  return yield* withFile(name, function* (fd, size) {
    const { entries, metadata, load } = yield* headerOf(fd, size, refusal(`${where}: ${name}`));
    const tensors = new Map<string, Tensor>();
    for (const entry of entries) {
      const { tensor, bytes } = prepare(entry, where);
      yield* load(bytes, entry.begin);
      tensors.set(entry.name, tensor);
    }
    return { tensors, metadata };
  });
}

/**
 * What the header of a file says of its tensors.
 * @internal
 */
export async function readEntries(path: string): Promise<Entry[]> {
  checkEndianness(path);
  const steps = withFile(path, function* (fd, size) {
    return (yield* headerOf(fd, size, refusal(path))).entries;
  });
  return runAsync(steps);
}

/**
 * Some of a tensor's elements in row-major order, in one dimension, without the rest of the file.
 * @internal
 */
export async function readElements(path: string, name: string, from: number, count: number): Promise<Tensor> {
  const refuse = refusal(path);
  const steps = withFile(path, function* (fd, size) {
    const { entries, load } = yield* headerOf(fd, size, refuse);
    const entry = entries.find((own) => own.name === name) ?? refuse(`the tensor ${quote(name)} is gone`);
    const begin = entry.begin + from * bytesOfDtype[entry.dtype];
    const end = begin + count * bytesOfDtype[entry.dtype];
    if (end > entry.end) refuse(`the tensor ${quote(name)} has become shorter while it was read`);
    const { tensor, bytes } = prepare({ ...entry, shape: [count], begin, end }, path);
    yield* load(bytes, begin);
    return tensor;
  });
  return runAsync(steps);
}

/**
 * The tensors of a safetensors file, each read into memory of its own, whatever the file's size. All as `parse`.
 *
 * @throws StateError (`code` 'ERR_SAFETENSORS') for a file that is not valid; the system's errors as they are
 * @example
 * const { tensors } = readSafetensors('model.safetensors');
 */
export function readSafetensors(path: string | URL): Safetensors {
  return runSync(read(path, 'readSafetensors'));
}

/**
 * `readSafetensors` without holding up the thread while the disk works.
 *
 * @example
 * const { tensors } = await readSafetensorsAsync('model.safetensors');
 */
export async function readSafetensorsAsync(path: string | URL): Promise<Safetensors> {
  return runAsync(read(path, 'readSafetensorsAsync'));
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.iterator in value;
}

/** A promise or a layer has no entries of its own, and would make an empty file. */
function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype = Object.getPrototypeOf(value) as object | null;
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** The pairs of a Map, a list or a plain object, each name once, in the order of their UTF-8 bytes. */
function pairsOf<T>(
  given: unknown,
  where: string,
  what: string,
  check: (name: string, value: unknown) => T,
): [string, T][] {
  if (!isIterable(given) && !isPlain(given)) {
    throw new TypeError(`${where}: ${what} must be a Map, pairs or a plain object, but got ${describe(given)}`);
  }
  const pairs = isIterable(given) ? given : Object.entries(given);
  const found = new Map<string, { value: T; order: Buffer }>();
  for (const pair of pairs) {
    if (!Array.isArray(pair) || pair.length !== 2 || typeof pair[0] !== 'string') {
      throw new TypeError(`${where}: ${what} must be pairs of a name and a value, but got ${describe(pair)}`);
    }
    const [name, value] = pair as [string, unknown];
    if (found.has(name)) throw new RangeError(`${where}: ${what} have the name ${quote(name)} twice`);
    if (loneSurrogate.test(name)) throw new RangeError(`${where}: ${quote(name)} has half a surrogate pair`);
    found.set(name, { value: check(name, value), order: Buffer.from(name) });
  }
  return [...found].sort(([, a], [, b]) => a.order.compare(b.order)).map(([name, { value }]) => [name, value]);
}

/** The elements in row-major order, byte by byte. */
function bytesOf(tensor: Tensor, where: string, name: string): Uint8Array {
  tensor.checkExtent(where, `tensor ${quote(name)}`);
  const { data, offset, size } = tensor.contiguous();
  const elements = data.subarray(offset, offset + size);
  return new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
}

/** The file piece by piece: its header first, then each tensor, laid out in a row only when its turn comes. */
function plan(
  named: NamedTensors,
  options: SafetensorsOptions,
  where: string,
): { size: number; pieces: Iterable<Uint8Array> } {
  checkEndianness(where);
  checkOptions(where, options, ['metadata']);
  const metadata = pairsOf(options.metadata ?? {}, where, 'metadata', (name, value) => {
    if (typeof value !== 'string' || loneSurrogate.test(value)) {
      throw new TypeError(
        `${where}: metadata ${quote(name)} must be a string of whole characters, but got ${describe(value)}`,
      );
    }
    return value;
  });
  const tensors = pairsOf(named, where, 'tensors', (name, value) => {
    if (name === '__metadata__') throw new RangeError(`${where}: no tensor can have the name "__metadata__"`);
    return asTensor(value, where, `tensor ${quote(name)}`, 'float32');
  });
  // Wide elements first, as the format's own writer has it: every tensor then begins at a multiple of its element size.
  tensors.sort(([, a], [, b]) => bytesOfDtype[b.dtype] - bytesOfDtype[a.dtype]);
  let end = 0;
  const entries = tensors.map(([name, { dtype, shape, size }]): Entry => {
    const begin = end;
    end += size * bytesOfDtype[dtype];
    return { name, dtype, shape: [...shape], begin, end };
  });
  const header = writeHeader({ entries, metadata: new Map(metadata) });
  if (header.length - 8 > mostHeaderBytes) {
    throw new RangeError(
      `${where}: the header would have ${header.length - 8} bytes, and ${mostHeaderBytes} are the most`,
    );
  }
  const pieces = function* (): Generator<Uint8Array> {
    yield header;
    for (const [name, tensor] of tensors) yield bytesOf(tensor, where, name);
  };
  return { size: header.length + end, pieces: pieces() };
}

/**
 * A safetensors file in memory. The same tensors and metadata give the same bytes, in whatever order they come: wide
 * elements first, then by name.
 *
 * @param tensors by name; any strides, written in row-major order; nested arrays are float32
 * @throws TypeError for what is no tensor, or metadata that is no text
 * @throws RangeError for a name given twice, the name "__metadata__", or a header of more than 100 MB
 * @example
 * const bytes = serialize(new Map([['weight', tensor([1, 2])]]), { metadata: { format: 'pt' } });
 */
export function serialize(tensors: NamedTensors, options: SafetensorsOptions = {}): Uint8Array {
  const where = 'serialize';
  const { size, pieces } = plan(tensors, options, where);
  const out = allocate('uint8', size, where) as Uint8Array;
  let at = 0;
  for (const piece of pieces) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

function* write(path: string | URL, tensors: NamedTensors, options: SafetensorsOptions, where: string): Steps<void> {
  const name = fileName(path, where);
  yield* replaceFile(name, plan(tensors, options, where).pieces, where);
}

/**
 * Writes a safetensors file, whole or not at all: beside the old one, flushed to the disk, then renamed over it. Whoever
 * reads meanwhile, or after a crash, finds the old file or the new one. Links are followed, permissions kept.
 *
 * A process that is killed while it writes leaves a file `.<16 digits>.tmp` behind in the folder.
 *
 * @throws TypeError, RangeError as `serialize`; StateError (`code` 'ERR_NOT_A_FILE') where something else than a file
 * has the name; the system's errors as they are. The old file is then as it was.
 * @example
 * writeSafetensors('model.safetensors', { weight: tensor([1, 2]) }, { metadata: { format: 'pt' } });
 */
export function writeSafetensors(path: string | URL, tensors: NamedTensors, options: SafetensorsOptions = {}): void {
  runSync(write(path, tensors, options, 'writeSafetensors'));
}

/**
 * `writeSafetensors` without holding up the thread while the disk works. The tensors must not change before it is done.
 *
 * @example
 * await writeSafetensorsAsync('model.safetensors', { weight: tensor([1, 2]) });
 */
export async function writeSafetensorsAsync(
  path: string | URL,
  tensors: NamedTensors,
  options: SafetensorsOptions = {},
): Promise<void> {
  await runAsync(write(path, tensors, options, 'writeSafetensorsAsync'));
}
