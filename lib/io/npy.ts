// NumPy's .npy: the header, strictly, and elements in any order of bytes.

import { open, type FileHandle } from 'node:fs/promises';
import { elementsOf, kindOfDtype, type DType, type TensorData } from '../tensor';
import { StateError } from '../internal/errors';
import { mostAtOnce, replaceFile, runAsync } from './files';

export interface NpyHeader {
  /** NumPy's, without the order of bytes: f8, i2, b1 ... */
  descr: string;
  bigEndian: boolean;
  fortranOrder: boolean;
  shape: number[];
  /** Where the elements begin in the file. */
  offset: number;
}

const magic = '\x93NUMPY';

function refuse(path: string, what: string): never {
  throw new StateError('ERR_NPY', `${path}: this is no valid .npy file: ${what}`);
}

/** What elements are read as, by their descr: those that no tensor holds, as float64. */
const read: Readonly<Record<string, { dtype: DType; bytes: number; value?: (view: DataView, at: number) => number }>> =
  {
    f8: { dtype: 'float64', bytes: 8 },
    f4: { dtype: 'float32', bytes: 4 },
    f2: { dtype: 'float16', bytes: 2 },
    i1: { dtype: 'int8', bytes: 1 },
    i2: { dtype: 'int16', bytes: 2 },
    i4: { dtype: 'int32', bytes: 4 },
    i8: { dtype: 'float64', bytes: 8, value: (view, at) => Number(view.getBigInt64(at, true)) },
    u1: { dtype: 'uint8', bytes: 1 },
    b1: { dtype: 'uint8', bytes: 1 },
    u2: { dtype: 'float64', bytes: 2, value: (view, at) => view.getUint16(at, true) },
    u4: { dtype: 'float64', bytes: 4, value: (view, at) => view.getUint32(at, true) },
    u8: { dtype: 'float64', bytes: 8, value: (view, at) => Number(view.getBigUint64(at, true)) },
  };

export const elementBytes = ({ descr }: NpyHeader): number => read[descr]!.bytes;

async function bytesAt(path: string, file: FileHandle, from: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(bytes, done, Math.min(length - done, mostAtOnce), from + done);
    if (bytesRead === 0) refuse(path, `it ends after ${from + done} bytes, and ${from + length} are needed`);
    done += bytesRead;
  }
  return bytes;
}

export async function readNpyHeader(path: string, file: FileHandle): Promise<NpyHeader> {
  const start = await bytesAt(path, file, 0, 12);
  if (start.toString('latin1', 0, 6) !== magic) refuse(path, 'it does not begin with \\x93NUMPY');
  const major = start[6]!;
  if (major < 1 || major > 3) refuse(path, `its version is ${major}`);
  const [at, length] = major === 1 ? [10, start.readUInt16LE(8)] : [12, start.readUInt32LE(8)];
  const { size } = await file.stat();
  if (at + length > size) refuse(path, `its header would end at ${at + length}, and it has ${size} bytes`);
  const text = (await bytesAt(path, file, at, length)).toString(major === 3 ? 'utf8' : 'latin1');
  const found =
    /^\{'descr': ?'([<>|=])(\w+)', ?'fortran_order': ?(True|False), ?'shape': ?\(((?:\d+L?(?:, ?\d+L?)*,?)?)\),? ?\}\s*$/.exec(
      text,
    );
  if (!found) refuse(path, `its header is ${JSON.stringify(text.trim().slice(0, 100))}`);
  const [, order, descr, fortran, sizes] = found as unknown as [string, string, string, string, string];
  if (!Object.hasOwn(read, descr)) refuse(path, `elements of ${order}${descr} are not read`);
  const shape = sizes.split(',').flatMap((part) => (part.trim() === '' ? [] : [parseInt(part, 10)]));
  const header = { descr, bigEndian: order === '>', fortranOrder: fortran === 'True', shape, offset: at + length };
  const needed = header.offset + elementsOf(shape) * elementBytes(header);
  if (size !== needed)
    refuse(path, `shape (${shape.join(', ')}) of ${descr} needs ${needed} bytes, and it has ${size}`);
  return header;
}

/** Elements [from, from + count) in the order of the file. */
export async function readNpyElements(
  path: string,
  file: FileHandle,
  header: NpyHeader,
  from: number,
  count: number,
): Promise<{ data: TensorData; dtype: DType }> {
  const { dtype, bytes: each, value } = read[header.descr]!;
  const bytes = await bytesAt(path, file, header.offset + from * each, count * each);
  if (header.bigEndian && each === 2) bytes.swap16();
  if (header.bigEndian && each === 4) bytes.swap32();
  if (header.bigEndian && each === 8) bytes.swap64();
  if (value) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return { data: Float64Array.from({ length: count }, (_, i) => value(view, i * each)), dtype };
  }
  const data = new kindOfDtype[dtype](count);
  new Uint8Array(data.buffer).set(bytes);
  return { data, dtype };
}

const descrOf: Partial<Record<DType, string>> = {
  float64: '<f8',
  float32: '<f4',
  float16: '<f2',
  int64: '<i8',
  int32: '<i4',
  int16: '<i2',
  int8: '|i1',
  uint8: '|u1',
};

/** The first bytes of a file of such elements, which follow in row-major order. */
export function npyHeader(dtype: DType, shape: readonly number[]): Uint8Array {
  const descr = descrOf[dtype];
  if (!descr) throw new TypeError(`npyHeader: NumPy has no ${dtype}`);
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${sizes}), }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const bytes = Buffer.alloc(10 + length, ' ');
  bytes.write(`${magic}\x01\x00`, 'latin1');
  bytes.writeUInt16LE(length, 8);
  bytes.write(text, 10, 'latin1');
  bytes[9 + length] = 0x0a;
  return bytes;
}

/** Opens a file for the length of `body`. */
export async function withNpy<T>(path: string, body: (file: FileHandle, header: NpyHeader) => Promise<T>): Promise<T> {
  const file = await open(path, 'r');
  try {
    return await body(file, await readNpyHeader(path, file));
  } finally {
    await file.close();
  }
}

/** Writes a row-major array; the file is replaced whole. */
export async function writeNpy(path: string, data: TensorData, dtype: DType, shape: readonly number[]): Promise<void> {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  await runAsync(replaceFile(path, [npyHeader(dtype, shape), bytes], 'writeNpy'));
}
