// The safetensors reader and writer: files of others, every kind of lie, and what a failed write leaves behind.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { StateError, Tensor, tensor, type DType } from '../../lib';
import {
  parse,
  readSafetensors,
  readSafetensorsAsync,
  serialize,
  writeSafetensors,
  writeSafetensorsAsync,
} from '../../lib/io/safetensors';
import { vectors, vectorsRoot } from '../support/files';
import { readCases, readTensors } from '../support/vectors';

const root = join(__dirname, '..', '..');
const folder = fs.mkdtempSync(join(os.tmpdir(), 'simdnorm-'));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));
afterEach(() => jest.restoreAllMocks());

/** A file of this header, whatever it says, and this many bytes. */
function file(header: string | Uint8Array, data: number | Uint8Array = 0, length?: bigint): Buffer {
  const text = Buffer.from(header as string);
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(length ?? BigInt(text.length));
  return Buffer.concat([bytes, text, typeof data === 'number' ? Buffer.alloc(data) : data]);
}
const entry = (fields: string): string => `{"a":{${fields}}}`;
const twoFloats = '"dtype":"F32","shape":[2],"data_offsets":[0,8]';

/** What a call throws. */
function thrown(call: () => unknown): Error {
  try {
    call();
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was thrown');
}

describe('files of others', () => {
  const found = fs
    .readdirSync(vectorsRoot, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.safetensors'));

  it('are read, and written back byte for byte', () => {
    expect(found.length).toBeGreaterThan(600);
    for (const name of found) {
      const path = join(vectorsRoot, name);
      const { tensors, metadata } = readSafetensors(path);
      const back = serialize([...tensors].reverse(), { metadata });
      if (Buffer.compare(back, fs.readFileSync(path)) !== 0) throw new Error(`${name} is written differently`);
    }
  });
});

describe('saved state of PyTorch, in float64, float32, float16 and bfloat16', () => {
  const saved = readCases(vectors).filter((test) => test.kind === 'state_dict') as unknown as {
    name: string;
    stored_dtype: string;
    file: string;
    modules: { prefix: string; state: Record<string, string | number> }[];
  }[];

  it.each(saved.map((test) => [test.name, test] as const))('%s', (_, test) => {
    const { tensors } = readSafetensors(join(vectorsRoot, 'state-dict', test.file));
    const decoded = readTensors(test as never, vectors);
    let compared = 0;
    for (const { prefix, state } of test.modules) {
      for (const [name, value] of Object.entries(state)) {
        const got = tensors.get(prefix + name);
        if (typeof value === 'number') {
          if (got) expect([got.dtype, got.shape, got.toArray()]).toEqual(['int64', [], [BigInt(value)]]);
          continue;
        }
        expect(got!.dtype).toBe(test.stored_dtype);
        expect(got!.to('float64').toArray()).toEqual([...decoded.get(value)!.values]);
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(0);
  });
});

describe('what is written is read', () => {
  const every: DType[] = ['float64', 'int64', 'float32', 'int32', 'bfloat16', 'float16', 'int16', 'int8', 'uint8'];
  const tensors = new Map(every.map((dtype, i) => [dtype, tensor([i, 1, 2, 3, 4, 127], [2, 3], { dtype })]));

  it('in every dtype, from memory and from a file, at once and later', async () => {
    const path = join(folder, 'every.safetensors');
    writeSafetensors(path, tensors, { metadata: { format: 'pt' } });
    const url = join(folder, 'async.safetensors');
    await writeSafetensorsAsync(pathToFileURL(url), tensors, { metadata: new Map([['format', 'pt']]) });
    expect(fs.readFileSync(url).equals(fs.readFileSync(path))).toBe(true);
    for (const got of [
      readSafetensors(path),
      await readSafetensorsAsync(pathToFileURL(path)),
      parse(fs.readFileSync(path)),
      parse(new Uint8Array(fs.readFileSync(path)).buffer),
    ]) {
      expect(got.metadata).toEqual(new Map([['format', 'pt']]));
      expect([...got.tensors.keys()]).toEqual(every);
      for (const [name, { dtype, shape, data }] of got.tensors) {
        const { data: given } = tensors.get(name as DType)!;
        expect([dtype, shape, data]).toEqual([name, [2, 3], given]);
      }
    }
  });

  it('with any shape and strides', () => {
    const x = tensor(
      Float32Array.from({ length: 24 }, (_, i) => i),
      [2, 3, 4],
    );
    const given = {
      permuted: x.permute(2, 0, 1),
      offset: new Tensor(x.data, [2, 2], { strides: [12, 4], offset: 5 }),
      repeated: new Tensor(x.data, [3, 2], { strides: [0, 1] }),
      scalar: tensor([7n], [], { dtype: 'int64' }),
      empty: tensor(new Float32Array(0), [0, 5]),
      nested: [[1, 2]],
      fields: { data: Float64Array.of(1, 2), dims: [2, 1] },
    };
    const { tensors: got } = parse(serialize(given));
    expect(got.get('permuted')!.toArray()).toEqual(given.permuted.toArray());
    expect(got.get('permuted')!.isContiguous).toBe(true);
    expect(got.get('offset')!.toArray()).toEqual([5, 9, 17, 21]);
    expect(got.get('repeated')!.toArray()).toEqual([0, 1, 0, 1, 0, 1]);
    expect([got.get('scalar')!.shape, got.get('scalar')!.toArray()]).toEqual([[], [7n]]);
    expect([got.get('empty')!.shape, got.get('empty')!.size]).toEqual([[0, 5], 0]);
    expect(String(got.get('nested'))).toBe('Tensor(float32, [1, 2])');
    expect(String(got.get('fields'))).toBe('Tensor(float64, [2, 1])');
    expect(parse(serialize({})).tensors.size).toBe(0);
  });

  it('under any name', () => {
    const names = ['__proto__', 'constructor', 'hasOwnProperty', '', '0', '"\\\n\u0000\u{1f600}é', 'ｚ', '\u{10000}'];
    const { tensors: got, metadata } = parse(
      serialize(
        names.map((name, i) => [name, [i]] as const),
        { metadata: Object.fromEntries(names.map((name) => [name, name])) },
      ),
    );
    // In the order of their UTF-8 bytes, in which U+10000 follows U+FF5A.
    expect([...got.keys()]).toEqual([
      '',
      '"\\\n\u0000\u{1f600}é',
      '0',
      '__proto__',
      'constructor',
      'hasOwnProperty',
      'ｚ',
      '\u{10000}',
    ]);
    for (const [i, name] of names.entries()) expect(got.get(name)!.toArray()).toEqual([i]);
    expect(new Set(metadata.values())).toEqual(new Set(names));
    expect(Object.keys(Object.prototype)).toEqual([]);
  });

  it('with the same bytes for the same tensors, the data at a multiple of 8', () => {
    const pairs = [...tensors];
    const bytes = serialize(pairs, { metadata: { b: '1', a: '2' } });
    expect(serialize(pairs.reverse(), { metadata: { a: '2', b: '1' } })).toEqual(bytes);
    expect(serialize(Object.fromEntries(pairs), { metadata: { a: '2', b: '1' } })).toEqual(bytes);
    expect(Number(new DataView(bytes.buffer).getBigUint64(0, true)) % 8).toBe(0);
  });

  it('out of unaligned data, into memory of its own', () => {
    const header =
      '{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"F64","shape":[],"data_offsets":[3,11]}}';
    const data = Buffer.alloc(11, 1);
    data.writeDoubleLE(Math.PI, 3);
    const bytes = Buffer.concat([Buffer.alloc(1), file(header, data)]).subarray(1);
    const { tensors: got } = parse(bytes);
    bytes.fill(0);
    expect([got.get('a')!.toArray(), got.get('b')!.toArray()]).toEqual([[1, 1, 1], [Math.PI]]);
    expect(got.get('b')!.data.byteLength).toBe(8);
    const path = join(folder, 'unaligned.safetensors');
    fs.writeFileSync(path, file(header, data));
    expect(readSafetensors(path).tensors.get('b')!.toArray()).toEqual([Math.PI]);
  });

  it('in whatever pieces the system reads and writes', async () => {
    const path = join(folder, 'pieces.safetensors');
    const [readSync, writeSync] = [fs.readSync, fs.writeSync] as [typeof fs.readSync, typeof fs.writeSync];
    type Args = [number, Uint8Array, number, number, number | null];
    const seven = (f: unknown) =>
      ((...[fd, bytes, from, length, at]: Args) =>
        (f as (...args: Args) => number)(fd, bytes, from, Math.min(length, 7), at)) as never;
    jest.spyOn(fs, 'writeSync').mockImplementation(seven(writeSync));
    writeSafetensors(path, tensors);
    jest.spyOn(fs, 'readSync').mockImplementation(seven(readSync));
    const { tensors: got } = readSafetensors(path);
    expect(serialize(got)).toEqual(serialize(tensors));
    expect(fs.readFileSync(path).equals(serialize(tensors))).toBe(true);
  });
});

describe('every lie is refused, in memory and in a file, at once and later', () => {
  const lies: [string, Uint8Array, RegExp][] = [
    ['nothing at all', Buffer.alloc(0), /it has 0 bytes, and the length of the header alone takes 8/],
    ['half a length', Buffer.alloc(7), /it has 7 bytes/],
    ['a header of nothing', file(''), /does not begin with "{"/],
    ['a header beyond the file', file('{}', 0, 3n), /its header would have 3 bytes, and 2 follow its length/],
    ['a header beyond 100 MB', file('{}', 0, 100_000_001n), /would have 100000001 bytes, and 100000000 are the most/],
    ['a header of 2^64 - 1', file('{}', 0, 2n ** 64n - 1n), /would have 18446744073709551615 bytes/],
    ['a space before it', file(' {}'), /does not begin with "{"/],
    ['a byte order mark', file('\ufeff{}'), /does not begin with "{"/],
    ['a list', file('[]'), /does not begin with "{"/],
    ['no UTF-8', file(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)), /its header is not UTF-8/],
    ['an overlong character', file(Uint8Array.of(0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x7d)), /not UTF-8/],
    ['an encoded surrogate', file(Uint8Array.of(0x7b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x7d)), /not UTF-8/],
    ['no end', file('{"a":'), /has the end at character 5, where "{" must be/],
    ['two objects', file('{}{}'), /has "{" at character 2, where the end must be/],
    ['padding that is no white space', file('{}\0\0'), /has "\\u0000" at character 2, where the end must be/],
    ['a comma too many', file('{"a":{' + twoFloats + '},}', 8), /has "}" at character 54, where "\\"" must be/],
    ['a name without quotes', file('{a:1}'), /has "a" at character 1, where "\\"" must be/],
    ['a line break in a name', file('{"a\n":1}'), /where the rest of a string must be/],
    ['a bad escape', file('{"\\x41":1}'), /a string with a bad escape at character 2: "\\\\x41"/],
    ['half a surrogate pair', file('{"\\ud800":1}'), /half a surrogate pair in the string at character 2/],
    ['the same name twice', file(`{"a":{${twoFloats}},"a":{${twoFloats}}}`, 8), /its header has "a" twice/],
    ['the same name in other letters', file(`{"a":{${twoFloats}},"\\u0061":{${twoFloats}}}`, 8), /has "a" twice/],
    ['metadata twice', file('{"__metadata__":{},"__metadata__":{}}'), /has "__metadata__" twice/],
    ['a key of metadata twice', file('{"__metadata__":{"a":"1","a":"2"}}'), /__metadata__ has "a" twice/],
    ['metadata that is no text', file('{"__metadata__":{"a":1}}'), /has "1" at character 21, where "\\"" must be/],
    ['metadata within metadata', file('{"__metadata__":{"a":{}}}'), /has "{" at character 21/],
    ['a field twice', file(entry(`${twoFloats},"dtype":"F32"`), 8), /tensor "a" has dtype twice/],
    ['an unknown field', file(entry(`${twoFloats},"strides":[1]`), 8), /tensor "a" has an unknown field "strides"/],
    ['__proto__ for a field', file(entry(`${twoFloats},"__proto__":[1]`), 8), /unknown field "__proto__"/],
    ['no dtype', file(entry('"shape":[2],"data_offsets":[0,8]'), 8), /tensor "a" has no dtype/],
    ['no shape', file(entry('"dtype":"F32","data_offsets":[0,8]'), 8), /tensor "a" has no shape/],
    ['no offsets', file(entry('"dtype":"F32","shape":[2]'), 8), /tensor "a" has no data_offsets/],
    [
      'a dtype that is not read',
      file(entry(twoFloats.replace('F32', 'BOOL')), 8),
      /dtype "BOOL"; what is read are F64/,
    ],
    ['a dtype of Object.prototype', file(entry(twoFloats.replace('F32', 'toString')), 8), /has dtype "toString"/],
    [
      'a negative size',
      file(entry(twoFloats.replace('[2]', '[-2]')), 8),
      /has "-" at character 29, where a whole number/,
    ],
    ['a size in tenths', file(entry(twoFloats.replace('[2]', '[2.0]')), 8), /has "\." at character 30/],
    ['a size with an exponent', file(entry(twoFloats.replace('[2]', '[2e0]')), 8), /has "e" at character 30/],
    ['a size with a zero before it', file(entry(twoFloats.replace('[2]', '[02]')), 8), /has "0" at character 29/],
    ['a size beyond 2^53', file(entry(twoFloats.replace('[2]', '[9007199254740992]')), 8), /a number beyond 2\^53/],
    [
      'a shape beyond 2^53',
      file(entry(twoFloats.replace('[2]', '[65536,65536,65536,65536]')), 8),
      /more than 2\^53 bytes/,
    ],
    ['65 dimensions', file(entry(twoFloats.replace('[2]', `[2${',1'.repeat(64)}]`)), 8), /more than 64 numbers/],
    ['one offset', file(entry(twoFloats.replace('[0,8]', '[8]')), 8), /data_offsets \[8\]; there must be two/],
    [
      'three offsets',
      file(entry(twoFloats.replace('[0,8]', '[0,8,8]')), 8),
      /data_offsets of tensor "a" has more than 2/,
    ],
    ['offsets turned round', file(entry(twoFloats.replace('[0,8]', '[8,0]')), 8), /data_offsets \[8, 0\], -8 bytes/],
    [
      'another length than its shape',
      file(entry(twoFloats.replace('[2]', '[3]')), 8),
      /8 bytes; shape \[3\] of F32 needs 12/,
    ],
    ['bytes missing', file(entry(twoFloats), 7), /its tensors have 8 bytes, and 7 follow the header/],
    ['bytes left over', file(entry(twoFloats), 9), /its tensors have 8 bytes, and 9 follow the header/],
    ['bytes without a tensor', file('{}', 1), /its tensors have 0 bytes, and 1 follow the header/],
    ['a gap', file(entry(twoFloats.replace('[0,8]', '[4,12]')), 12), /tensor "a" begins at 4, not 0: it leaves a gap/],
    ['an overlap', file(`{"a":{${twoFloats}},"b":{${twoFloats}}}`, 8), /tensor "b" begins at 0, not 8: it overlaps/],
    ['a very deep list', file(`{"a":${'['.repeat(100_000)}`), /has "\[" at character 5, where "{" must be/],
    ['very deep metadata', file(`{"__metadata__":${'{"a":'.repeat(100_000)}`), /where "\\"" must be/],
    ['a name of a megabyte', file(`{"${'n'.repeat(2 ** 20)}":{}}`), /tensor "n{100}\.\.\." has no dtype/],
  ];

  it.each(lies)('%s', async (_, bytes, message) => {
    const path = join(folder, 'lie.safetensors');
    fs.writeFileSync(path, bytes);
    const errors = [
      thrown(() => parse(bytes)),
      thrown(() => readSafetensors(path)),
      await readSafetensorsAsync(path).then(
        () => undefined,
        (error: Error) => error,
      ),
    ];
    for (const error of errors) {
      expect(error).toBeInstanceOf(StateError);
      expect((error as StateError).code).toBe('ERR_SAFETENSORS');
      expect(error!.message).toMatch(message);
      expect(error!.message.length).toBeLessThan(1000);
    }
    expect(errors[1]!.message).toContain(`readSafetensors: ${path}: this is no valid safetensors file`);
  });

  it('a file cut short at each of its bytes, or longer', () => {
    const whole = Buffer.from(
      serialize({ a: [1, 2], b: tensor([3n], [], { dtype: 'int64' }) }, { metadata: { c: 'd' } }),
    );
    for (let length = 0; length < whole.length; length++) {
      expect(() => parse(whole.subarray(0, length))).toThrow(StateError);
    }
    expect(() => parse(Buffer.concat([whole, Buffer.alloc(1)]))).toThrow(StateError);
    expect(parse(whole).tensors.size).toBe(2);
  });

  it('20,000 more, by a judge of its own', () => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ['--max-old-space-size=256', join('scripts', 'fuzz-safetensors.mjs'), '--runs', '20000', '--seed', '3'],
      { cwd: root, encoding: 'utf8' },
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const counts = JSON.parse(stdout) as { accepted: number; refused: number; reasons: number };
    expect(counts.accepted + counts.refused).toBe(20_000);
    expect(counts.accepted).toBeGreaterThan(5_000);
    expect(counts.reasons).toBeGreaterThan(35);
  });

  it('a file that shrinks while it is read', () => {
    const path = join(folder, 'shrinks.safetensors');
    writeSafetensors(path, { a: [1, 2] });
    const stats = fs.statSync(path);
    fs.truncateSync(path, stats.size - 4);
    jest.spyOn(fs, 'fstatSync').mockReturnValue(stats);
    expect(thrown(() => readSafetensors(path)).message).toMatch(/it ended at byte \d+ while it was read/);
  });

  it('what is no file and no bytes', async () => {
    expect(thrown(() => readSafetensors(join(folder, 'none')))).toMatchObject({ code: 'ENOENT' });
    await expect(readSafetensorsAsync(join(folder, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
    expect(thrown(() => readSafetensors(folder))).toMatchObject({ code: 'EISDIR' });
    expect(() => readSafetensors(5 as never)).toThrow(/path must be a string or a file URL, but got 5/);
    expect(() => parse('{}' as never)).toThrow(/bytes must be a Uint8Array or an ArrayBuffer, but got the string/);
    expect(() => parse(new Float32Array(4) as never)).toThrow(TypeError);
  });

  it('a machine of the other byte order', () => {
    jest.spyOn(os, 'endianness').mockReturnValue('BE');
    expect(thrown(() => parse(file('{}')))).toMatchObject({ code: 'ERR_BIG_ENDIAN' });
    expect(thrown(() => serialize({}))).toMatchObject({ code: 'ERR_BIG_ENDIAN' });
  });
});

describe('what cannot be written', () => {
  const detached = tensor(new Float32Array(4), [4]);
  structuredClone(detached.data.buffer, { transfer: [detached.data.buffer as ArrayBuffer] });
  it.each<[string, unknown, unknown, new () => Error, RegExp]>([
    ['a number', 5, {}, TypeError, /tensors must be a Map, pairs or a plain object, but got 5/],
    ['a promise', Promise.resolve({}), {}, TypeError, /tensors must be .* plain object, but got an object/],
    ['a tensor alone', tensor([1]), {}, TypeError, /must be a Map, pairs or a plain object/],
    ['a list of tensors', [tensor([1])], {}, TypeError, /must be pairs of a name and a value/],
    ['a typed array', new Float32Array(2), {}, TypeError, /must be pairs of a name and a value, but got 0/],
    ['something else than a tensor', { a: 'x' }, {}, TypeError, /tensor "a" must be a tensor, .* got the string "x"/],
    ['a detached tensor', { a: detached }, {}, RangeError, /tensor "a" has 0 elements/],
    [
      'a name twice',
      [
        ['a', [1]],
        ['a', [2]],
      ],
      {},
      RangeError,
      /tensors have the name "a" twice/,
    ],
    ['the name __metadata__', { __metadata__: [1] }, {}, RangeError, /no tensor can have the name "__metadata__"/],
    ['half a surrogate pair', { '\ud800': [1] }, {}, RangeError, /half a surrogate pair/],
    ['metadata of numbers', {}, { metadata: { a: 1 } }, TypeError, /metadata "a" must be a string/],
    ['an unknown option', {}, { meta: {} }, TypeError, /unknown option "meta"/],
    ['a header beyond 100 MB', { ['n'.repeat(100_000_001)]: [1] }, {}, RangeError, /100000000 are the most/],
  ])('%s', (_, tensors, options, Kind, message) => {
    const path = join(folder, 'never.safetensors');
    for (const call of [
      () => serialize(tensors as never, options as never),
      () => writeSafetensors(path, tensors as never, options as never),
    ]) {
      const error = thrown(call);
      expect(error).toBeInstanceOf(Kind);
      expect(error.message).toMatch(message);
    }
    expect(fs.existsSync(path)).toBe(false);
  });
});

describe('a file is replaced whole or not at all', () => {
  const old = { a: [1, 2, 3] };
  let path = '';
  beforeEach(() => {
    path = join(fs.mkdtempSync(join(folder, 'replace-')), 'model.safetensors');
    writeSafetensors(path, old);
  });
  const isOld = (): void => {
    expect(readSafetensors(path).tensors.get('a')!.toArray()).toEqual([1, 2, 3]);
    expect(fs.readdirSync(dirname(path))).toEqual(['model.safetensors']);
  };

  it('flushed before it is renamed, and the folder after', () => {
    const calls: string[] = [];
    for (const name of ['openSync', 'writeSync', 'fsyncSync', 'closeSync', 'renameSync', 'unlinkSync'] as const) {
      const real = fs[name] as (...args: unknown[]) => unknown;
      jest.spyOn(fs, name).mockImplementation(((...args: unknown[]) => {
        calls.push(name);
        return real(...args);
      }) as never);
    }
    writeSafetensors(path, { a: [4] });
    expect(calls).toEqual([
      ...['openSync', 'writeSync', 'writeSync', 'fsyncSync', 'closeSync', 'renameSync'],
      ...['openSync', 'fsyncSync', 'closeSync'],
    ]);
  });

  it.each(['writeSync', 'fsyncSync', 'closeSync', 'renameSync', 'fchmodSync'] as const)('where %s fails', (name) => {
    const real = fs[name] as (...args: unknown[]) => unknown;
    jest.spyOn(fs, name).mockImplementationOnce(((...args: unknown[]) => {
      if (name === 'closeSync') real(...args);
      throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
    }) as never);
    expect(thrown(() => writeSafetensors(path, { a: [4] }))).toMatchObject({ code: 'ENOSPC' });
    isOld();
  });

  it('where awaited writing fails', async () => {
    const failing = ((...args: unknown[]) =>
      (args.at(-1) as (error: Error) => void)(new Error('no space left'))) as never;
    jest.spyOn(fs, 'fsync').mockImplementationOnce(failing);
    await expect(writeSafetensorsAsync(path, { a: [4] })).rejects.toThrow('no space left');
    isOld();
  });

  it('where the disk is full halfway', () => {
    const script = `
      const { tensor } = require('./dist');
      require('./dist/io/safetensors').writeSafetensors(process.argv[1], { a: tensor(new Float32Array(1e6)) });`;
    const { status, stderr } = spawnSync(
      'sh',
      ['-c', 'ulimit -f 1000; exec "$0" "$@"', process.execPath, '-e', script, path],
      { cwd: root, encoding: 'utf8' },
    );
    expect(status).toBe(1);
    expect(stderr).toMatch(/EFBIG/);
    isOld();
  });

  it('where a tensor goes away under an awaited write', async () => {
    const a = tensor(new Float32Array(4), [4]);
    const writing = writeSafetensorsAsync(path, { a });
    structuredClone(a.data.buffer, { transfer: [a.data.buffer as ArrayBuffer] });
    await expect(writing).rejects.toThrow(/tensor "a" has 0 elements/);
    isOld();
  });

  it('where a folder cannot be flushed', () => {
    const real = fs.openSync;
    jest.spyOn(fs, 'openSync').mockImplementation((name, flags, mode) => {
      if (flags === 'r') throw Object.assign(new Error('not permitted'), { code: 'EPERM' });
      return real(name, flags, mode);
    });
    writeSafetensors(path, { a: [4] });
    jest.restoreAllMocks();
    expect(readSafetensors(path).tensors.get('a')!.toArray()).toEqual([4]);
  });

  it('behind a link, with the permissions it had', () => {
    const link = join(dirname(path), 'latest');
    fs.symlinkSync('model.safetensors', link);
    fs.chmodSync(path, 0o640);
    writeSafetensors(link, { a: [4] });
    expect(fs.lstatSync(link).isSymbolicLink()).toBe(true);
    expect(fs.statSync(path).mode & 0o777).toBe(0o640);
    expect(readSafetensors(path).tensors.get('a')!.toArray()).toEqual([4]);
  });

  it('and nothing but a file', () => {
    expect(thrown(() => writeSafetensors(dirname(path), old))).toMatchObject({ code: 'ERR_NOT_A_FILE' });
    expect(thrown(() => writeSafetensors('/dev/null', old))).toMatchObject({ code: 'ERR_NOT_A_FILE' });
    expect(thrown(() => writeSafetensors(join(path, 'x'), old))).toMatchObject({ code: 'ENOTDIR' });
    expect(thrown(() => writeSafetensors(join(folder, 'none', 'x'), old))).toMatchObject({ code: 'ENOENT' });
    isOld();
  });
});
