// NumPy's files: those it wrote are read, what we write is what it writes, and anything else is refused by name.

import fs from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { StateError, Tensor, type DType, type TensorData } from '../../lib';
import { npyHeader, readNpyElements, withNpy, writeNpy, type NpyHeader } from '../../lib/io/npy';
import byNumPy from './npy.json';

const folder = fs.mkdtempSync(join(os.tmpdir(), 'npy-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));
const path = join(folder, 'x.npy');

/** Puts bytes into a file and reads them all. */
async function read(bytes: Uint8Array): Promise<{ header: NpyHeader; data: TensorData; dtype: DType }> {
  fs.writeFileSync(path, bytes);
  return withNpy(path, async (file, header) => {
    const count = header.shape.reduce((product, size) => product * size, 1);
    return { header, ...(await readNpyElements(path, file, header, 0, count)) };
  });
}
const numbers = (data: TensorData, dtype: DType): number[] =>
  new Tensor(data, [data.length], { dtype }).to('float64').toArray() as number[];

/** What NumPy calls the dtypes that are written. */
const names: Record<string, DType> = {
  '<f8': 'float64',
  '<f4': 'float32',
  '<f2': 'float16',
  '|i1': 'int8',
  '<i2': 'int16',
  '<i4': 'int32',
  '<i8': 'int64',
  '|u1': 'uint8',
};

describe(`files of NumPy ${byNumPy.numpy}`, () => {
  it.each(byNumPy.files.map((file) => [file.name, file] as const))('%s', async (name, expected) => {
    const bytes = Buffer.from(expected.file, 'base64');
    const { header, data, dtype } = await read(bytes);
    expect(header.shape).toEqual(expected.shape);
    expect([header.fortranOrder, header.bigEndian]).toEqual([expected.fortran, /^>|big-endian/.test(name)]);
    // toEqual tells -0 from 0.
    expect(numbers(data, dtype)).toEqual(expected.values);
    // What no tensor holds, or statistics do not take, is float64.
    if (/^[<>|]/.test(name)) {
      const kind = { b1: 'uint8', i8: 'float64' }[name.slice(1)] ?? names[`<${name.slice(1)}`] ?? names[name];
      expect(dtype).toBe(kind ?? 'float64');
    }
  });

  it('are read from any element on', async () => {
    fs.writeFileSync(path, Buffer.from(byNumPy.files.find(({ name }) => name === '>i4')!.file, 'base64'));
    const middle = await withNpy(path, (file, header) => readNpyElements(path, file, header, 1, 1));
    expect(Array.from(middle.data as Int32Array)).toEqual([7]);
  });

  it('begin with the same bytes as ours', () => {
    let compared = 0;
    for (const { name, shape, file } of byNumPy.files) {
      const dtype =
        names[name] ?? { 'two dimensions': 'float32', 'one number': 'float64', 'no samples': 'int16' }[name];
      if (!dtype) continue;
      const ours = Buffer.from(npyHeader(dtype as DType, shape));
      expect(ours.toString('latin1')).toBe(Buffer.from(file, 'base64').toString('latin1', 0, ours.length));
      compared++;
    }
    expect(compared).toBe(11);
  });

  it.each(byNumPy.refused.map(({ name, file }) => [name, file]))(
    'of elements that are no numbers: %s',
    async (_, file) => {
      const error = await refusal(Buffer.from(file!, 'base64'));
      expect(error).toMatch(/elements of .* are not read|its header is/);
    },
  );
});

/** The message of a refusal, which has the code and the name of the file. */
async function refusal(bytes: Uint8Array): Promise<string> {
  const error = await read(bytes).then(
    () => new Error('nothing was thrown'),
    (thrown: Error) => thrown,
  );
  expect(error).toBeInstanceOf(StateError);
  expect(error).toMatchObject({ code: 'ERR_NPY' });
  expect(error.message.startsWith(`${path}: this is no valid .npy file: `)).toBe(true);
  return error.message;
}

describe('writeNpy', () => {
  const cases: [DType, TensorData][] = [
    ['float64', Float64Array.of(1 / 3, -0, NaN, Infinity, 5e-324, 1e308)],
    ['float32', Float32Array.of(1 / 3, -0, NaN, -Infinity, 1e-45, 3e38)],
    ['float16', Uint16Array.of(0x3c00, 0x8000, 0x7e00, 0x7c00, 1, 0x7bff)],
    ['int32', Int32Array.of(-(2 ** 31), -1, 0, 1, 2, 2 ** 31 - 1)],
    ['int16', Int16Array.of(-32768, -1, 0, 1, 2, 32767)],
    ['int8', Int8Array.of(-128, -1, 0, 1, 2, 127)],
    ['uint8', Uint8Array.of(0, 1, 2, 127, 128, 255)],
  ];
  it.each(cases)('%s comes back', async (dtype, data) => {
    for (const shape of [[6], [2, 3], [3, 1, 2]]) {
      await writeNpy(path, data, dtype, shape);
      const { header, data: back, dtype: own } = await read(fs.readFileSync(path));
      expect([own, header.shape, header.offset % 64]).toEqual([dtype, shape, 0]);
      const bytes = ({ buffer, byteOffset, byteLength }: TensorData): Buffer =>
        Buffer.from(buffer, byteOffset, byteLength);
      expect(bytes(back).equals(bytes(data))).toBe(true);
    }
  });

  it('writes a view, an int64, one number and none', async () => {
    await writeNpy(path, Float32Array.of(9, 1, 2, 9).subarray(1, 3), 'float32', [2]);
    expect(numbers((await read(fs.readFileSync(path))).data, 'float32')).toEqual([1, 2]);
    await writeNpy(path, BigInt64Array.of(-5n, 2n ** 53n), 'int64', [2]);
    expect(Array.from((await read(fs.readFileSync(path))).data as Float64Array)).toEqual([-5, 2 ** 53]);
    for (const [shape, count] of [
      [[], 1],
      [[0, 4], 0],
    ] as const) {
      // prettier-ignore
      await writeNpy(path, new Float64Array(count), 'float64', shape);
      expect((await read(fs.readFileSync(path))).header.shape).toEqual(shape);
    }
    expect(fs.readdirSync(folder)).toEqual(['x.npy']);
  });

  it('has no name for bfloat16', async () => {
    await expect(writeNpy(path, new Uint16Array(1), 'bfloat16', [1])).rejects.toThrow(/NumPy has no bfloat16/);
  });
});

describe('refuses', () => {
  const whole = Buffer.concat([npyHeader('float32', [2, 3]), new Uint8Array(24)]);
  const text = whole.toString('latin1', 10, 128).trimEnd();
  /** A file of 24 bytes of data with this header. */
  const withHeader = (header: string, major = 1): Buffer => {
    const start = Buffer.from(`\x93NUMPY${String.fromCharCode(major)}\x00\x00\x00`, 'latin1');
    start.writeUInt16LE(header.length, 8);
    return Buffer.concat([start, Buffer.from(header, 'latin1'), new Uint8Array(24)]);
  };
  const changed = (at: number, value: number): Buffer => {
    const bytes = Buffer.from(whole);
    bytes[at] = value;
    return bytes;
  };

  it('nothing of a file that is whole', async () => {
    expect((await read(withHeader(text))).header).toMatchObject({
      descr: 'f4',
      shape: [2, 3],
      offset: 10 + text.length,
    });
    expect((await read(withHeader(text.replaceAll(' ', '')))).header.shape).toEqual([2, 3]);
    expect((await read(withHeader(text.replace('(2, 3)', '(2L, 3L)')))).header.shape).toEqual([2, 3]); // of Python 2
  });

  it('a file cut at any byte, and a byte too many', async () => {
    for (let length = 0; length < whole.length; length++) {
      const message = await refusal(whole.subarray(0, length));
      expect(message).toMatch(length < 12 ? /it ends after/ : length < 128 ? /header would end at 128/ : /needs 152 bytes, and it has/); // prettier-ignore
    }
    expect(await refusal(Buffer.concat([whole, Buffer.alloc(1)]))).toMatch(/\(2, 3\) of f4 needs 152 bytes, and it has 153/); // prettier-ignore
  });

  it.each([
    ['no magic', changed(0, 0x92), /does not begin with/],
    ['version 9', changed(6, 9), /its version is 9/],
    ['version 0', changed(6, 0), /its version is 0/],
    ['a header longer than the file', changed(9, 0xff), /header would end at/],
    ['no header', withHeader(''), /its header is ""/],
    ['a header that is cut', withHeader(text.slice(0, 30)), /its header is "\{'descr'/],
    ['something after the header', withHeader(`${text} x`), /its header is/],
    ['another key', withHeader(text.replace('descr', 'dtype')), /its header is/],
    ['a negative size', withHeader(text.replace('2,', '-2,')), /its header is/],
    ['a size that is no number', withHeader(text.replace('2,', 'two,')), /its header is/],
    ['an order that is neither', withHeader(text.replace('False', '1')), /its header is/],
    [
      'a name that objects have',
      withHeader(text.replace('f4', 'constructor')),
      /elements of <constructor are not read/,
    ],
    ['sizes beyond all memory', withHeader(text.replace('2,', `${2 ** 60},`)), /needs .* bytes, and it has/],
    ['another shape', withHeader(text.replace('2,', '4,')), /shape \(4, 3\) of f4 needs/],
  ])('%s', async (_, bytes, message) => expect(await refusal(bytes)).toMatch(message));

  it('a shape that is none, however long, at once', async () => {
    const text = `{'descr': '<f8', 'fortran_order': False, 'shape': (${'1'.repeat(60)}x), }`.padEnd(117) + '\n';
    const head = Buffer.from('\x93NUMPY\x01\x00v\x00', 'latin1');
    await expect(read(Buffer.concat([head, Buffer.from(text)]))).rejects.toThrow(/its header is/);
  });

  it('a file that is not there, by the name the system has for it', async () => {
    const none = withNpy(join(folder, 'none.npy'), async () => 0);
    await expect(none).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
