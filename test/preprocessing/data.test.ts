// Files of every format, written here or by others: their statistics are those of the numbers in them, and what is wrong with
// a file is said with its name and the place.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tensor, type DType } from '../../lib';
import { npyHeader } from '../../lib/io/npy';
import { writeSafetensors } from '../../lib/io/safetensors';
import byNumPy from '../io/npy.json';
import { values } from '../support/shapes';
import { bitsOf, expectAlike, expectExact, expectNear, folder, inProcess, put, putNpy, rejection, root, streams, type Moments } from '../support/streams'; // prettier-ignore

const { fitParallel } = streams;
type Options = import('../../lib/preprocessing').FitParallelOptions;

const momentsOf = async (files: string[], options: Options = {}): Promise<Moments> =>
  (await fitParallel(files, { workers: 2, ...options })).moments;
const refusal = async (file: string, options: Options = {}): Promise<string> => {
  const error = await rejection(fitParallel([file], { workers: 1, ...options }));
  expect(error.message.startsWith(`${file}: `)).toBe(true);
  return `${error.code ?? error.name} ${error.message.slice(file.length + 2)}`;
};
const column = (x: ArrayLike<number>, c: number, features: number): number[] =>
  Array.from({ length: x.length / features }, (_, i) => x[i * features + c]!);

describe('.npy', () => {
  it.each(
    byNumPy.files.filter(({ shape }) => shape.length > 0 && shape[0]! > 0).map((file) => [file.name, file] as const),
  )('by NumPy: %s', async (_, { file, shape, fortran, values: own }) => {
    const moments = await momentsOf([put('numpy.npy', Buffer.from(file, 'base64'))]);
    const rows = fortran ? own.map((_, i) => own[(i % 3) * 2 + Math.floor(i / 3)]!) : own;
    expectExact(moments, shape.length === 1 ? [own] : [0, 1, 2].map((c) => column(rows, c, 3)));
  });

  it('has its features on any axis, also where batches would cut them', async () => {
    const [n, c, s] = [40, 3, 10_000];
    const x = values(n * c * s, 'float64', 3, 1) as Float64Array; // of 9.6 MB
    const expected = new streams.RunningMoments(c).update({ data: x, shape: [n, c, s] });
    const planes = await putNpy('planes.npy', x, n, c, s);
    for (const axis of [undefined, 1, -2]) expectAlike(await momentsOf([planes], { axis }), expected);
    const first = new Tensor(x, [n, c, s]).permute(1, 0, 2).copy().data as Float64Array;
    const turned = await putNpy('turned.npy', first, c, n, s);
    for (const axis of [0, -3]) expectAlike(await momentsOf([turned], { axis }), expected);
    // Large enough for several batches of one row each: rows are no features then.
    const wide = await putNpy('wide.npy', x.subarray(0, 2 * 2 ** 19), 2, 2 ** 19);
    expect((await momentsOf([wide], { axis: 0 })).features).toBe(2);
    const line = await putNpy('line.npy', x.subarray(0, 600_000), 600_000);
    const one = new streams.RunningMoments(1).update(x.subarray(0, 600_000));
    for (const axis of [undefined, 0, -1]) expectAlike(await momentsOf([line], { axis }), one);
    expect(await refusal(planes, { axis: 3 })).toMatch(/^RangeError .*axis must be from -3 to 2, but got 3/);
  });

  it('without samples adds nothing', async () => {
    const none = await putNpy('none.npy', new Float64Array(0), 0, 4);
    const other = await putNpy('one.npy', Float64Array.of(1, 2, 3, 4), 1, 4);
    expect([...(await momentsOf([none, other, none])).mean]).toEqual([1, 2, 3, 4]);
    expect((await momentsOf([none])).count).toEqual(new Float64Array(4));
    const empty = put('empty.npy', npyHeader('float64', [2 ** 50, 3, 0]));
    expect((await momentsOf([empty])).count).toEqual(new Float64Array(3));
  });

  it('that is broken is refused', async () => {
    const whole = Buffer.concat([npyHeader('float32', [2, 3]), new Uint8Array(24)]);
    expect(await refusal(put('cut.npy', whole.subarray(0, 140)))).toMatch(/^ERR_NPY .*needs 152 bytes, and it has 140/);
    expect(await refusal(put('scalar.npy', Buffer.concat([npyHeader('float64', []), new Uint8Array(8)])))).toBe('ERR_DATA it holds one number, and no samples'); // prettier-ignore
  });
});

it.each<DType>(['float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'uint8'])(
  '.safetensors of %s',
  async (dtype) => {
    const path = join(folder, 'x.safetensors');
    const own = [3, 0, 1, 100, 7, 5, 2, 64];
    const x = dtype === 'int64' ? new Tensor(BigInt64Array.from(own, BigInt), [4, 2]) : new Tensor(Float64Array.from(own), [4, 2]).to(dtype); // prettier-ignore
    writeSafetensors(path, { x });
    expectExact(await momentsOf([path]), [column(own, 0, 2), column(own, 1, 2)]);
    expect((await momentsOf([path], { axis: 0, tensor: 'x' })).features).toBe(4);
  },
);

it('.safetensors of several tensors needs the name of one', async () => {
  const path = join(folder, 'several.safetensors');
  writeSafetensors(path, { a: [[1, 2]], b: [[3], [5]] });
  expect([...(await momentsOf([path], { tensor: 'b' })).mean]).toEqual([4]);
  expect(await refusal(path)).toBe('ERR_DATA which tensor? There are a, b');
  expect(await refusal(path, { tensor: 'c' })).toBe('ERR_DATA there is no tensor "c"; there are a, b');
  expect(await refusal(put('cut.safetensors', readFileSync(path).subarray(0, 30)))).toMatch(/^ERR_SAFETENSORS/);
});

it('.safetensors is read in parts, as .npy is, with the same bits', async () => {
  const [rows, features] = [3_000_000, 6];
  const x = values(rows * features, 'float32', 11, 3) as Float32Array;
  const path = join(folder, 'large.safetensors');
  writeSafetensors(path, { before: [1, 2, 3], x: new Tensor(x, [rows, features]), z: [4] });
  const parts: number[] = [];
  const onProgress = ({ parts: done }: { parts: number }): void => void parts.push(done);
  const found = [];
  for (const workers of [1, 3]) found.push(await momentsOf([path], { workers, tensor: 'x', onProgress }));
  expect(parts).toEqual([1, 2, 1, 2]);
  const npy = await momentsOf([await putNpy('large.npy', x, rows, features)]);
  expect(found.map(bitsOf)).toEqual([bitsOf(npy), bitsOf(npy)]);
});

describe('.csv', () => {
  const csv = (text: string | Uint8Array, options: Options = {}): Promise<Moments> =>
    momentsOf([put('x.csv', text)], options);

  it('with a header or none, missing cells, quotes, a byte order mark, and ends of lines of every kind', async () => {
    const plain = await csv('1,2.5\n-3,4e2\n');
    expect(plain.names).toBeNull();
    expectExact(plain, [[1, -3], [2.5, 400]]); // prettier-ignore
    const named = await csv('a,"b, ""quoted"""\n1,2.5\n-3,4e2\n');
    expect(named.names).toEqual(['a', 'b, "quoted"']);
    expect(named.mean).toEqual(plain.mean);
    for (const text of [
      '1,2.5\r\n-3,4e2',
      '\ufeff1,2.5\n-3,4e2\n',
      '"1"," 2.5 "\n\n"-3",4e2\n\n',
      '\ufeff"1",2.5\r\n-3,400',
    ]) {
      expect(bitsOf(await csv(text))).toBe(bitsOf(plain));
    }
    expect((await csv('\ufeffa,b\r\n1,2')).names).toEqual(['a', 'b']);
    const holes = await csv('x,y\n1,\n,NaN\nNA,2\nnull,nan\n3,n/a\n?,5\n"",  \n');
    expectExact(holes, [[1, NaN, NaN, NaN, 3, NaN, NaN], [NaN, NaN, 2, NaN, NaN, 5, NaN]]); // prettier-ignore
    // A first line with nothing but numbers and missing ones is data.
    expectExact(await csv('1,NA\n3,2\n'), [[1, 3], [NaN, 2]]); // prettier-ignore
    const empty = await csv('a,b\n');
    expect([empty.names, empty.count]).toEqual([['a', 'b'], new Float64Array(2)]);
    // What pandas and NumPy write; not what other languages do.
    expect([...(await csv('1,inf\n2,-Infinity\n')).max]).toEqual([2, Infinity]);
    expect((await rejection(csv('1\n0x10\n'))).message).toMatch(/line 2, column 1: "0x10" is no number/);
    expect((await rejection(csv('1,x\n2,3\n'))).message).toMatch(
      /line 1 has numbers and "x": say whether it names the columns/,
    );
    expect((await csv('2019,x\n2,3\n', { header: true })).names).toEqual(['2019', 'x']);
    expect([...(await csv('1,2\n2,3\n', { header: false })).count]).toEqual([2, 2]);
  });

  it('of more rows than a batch has, of some columns in the order asked for', async () => {
    const x = values(20_001 * 3, 'float64', 1e3, 1) as Float64Array;
    const rows = Array.from({ length: 20_001 }, (_, i) => x.subarray(3 * i, 3 * i + 3).join());
    const columns = [0, 1, 2].map((c) => column(x, c, 3));
    expectExact(await csv(`a,b,c\n${rows.join('\n')}`), columns);
    const some = await csv(`a,b,c\n${rows.join('\n')}`, { columns: ['c', 'a'] });
    expect(some.names).toEqual(['c', 'a']);
    expectExact(some, [columns[2]!, columns[0]!]);
    // Text is no harm where it is not asked for.
    expect([...(await csv('n,name\n1,one\n2,two', { columns: ['n'] })).mean]).toEqual([1.5]);
    expect([...(await csv('1,2\n3,4', { columns: ['column 2'] })).mean]).toEqual([3]);
  });

  it('that is bad is refused, with the line', async () => {
    const lines = Array.from({ length: 9998 }, (_, i) => `${i},1`).join('\n');
    const of = (text: string, options?: Options): Promise<string> => refusal(put('bad.csv', text), options);
    expect(await of(`a,b\n${lines}\n1,two\n3,4`)).toBe('ERR_DATA line 10000, column "b": "two" is no number');
    expect(await of(`${lines}\n1,two`)).toBe('ERR_DATA line 9999, column 2: "two" is no number');
    expect(await of(`a,b\n${lines}\n1\n`)).toMatch(/^ERR_DATA .*expect 2, got 1 on line 10000/);
    expect(await of(`a,b\n1,2,3\n`)).toMatch(/^ERR_DATA .*expect 2, got 3 on line 2/);
    expect(await of('a,b\n1,"2\n3,4')).toMatch(/^ERR_DATA .*Quote/);
    expect(await of('')).toBe('ERR_DATA the file is empty');
    expect(await of('a,b\n1,2', { columns: ['a', 'd'] })).toBe('ERR_DATA there is no column "d"; there are a, b');
    expect(await of('a,b\n1,2', { columns: ['a', 'a'] })).toBe('ERR_DATA the column "a" is asked for twice');
  });

  it('is closed where reading ends early', () => {
    const bad = put('early.csv', `a,b\n1,x\n${'1,2\n'.repeat(100_000)}`);
    const result = inProcess(`
      const { openData } = require('./dist/preprocessing/data');
      const { createReadStream, ReadStream } = require('node:fs');
      const closed = [];
      const destroy = ReadStream.prototype.destroy;
      ReadStream.prototype.destroy = function (...args) { closed.push(this.path); return destroy.apply(this, args); };
      const file = await openData(${JSON.stringify(bad)});
      let message;
      try { for await (const _ of file.read(0)); } catch (error) { message = error.message; }
      return [message, closed.length > 0];`);
    expect(result).toEqual([expect.stringMatching(/line 2, column "b"/), true]);
  });
});

describe('.parquet', () => {
  const flights = join(root, 'node_modules/vega-datasets/data/flights-3m.parquet');

  it('by others: all columns of numbers, with the same bits for any number of workers', async () => {
    const sums = inProcess(`
      const { asyncBufferFromFile, parquetRead } = await import('hyparquet');
      const { compressors } = await import('hyparquet-compressors');
      const file = await asyncBufferFromFile(${JSON.stringify(flights)});
      const sums = {};
      const onChunk = ({ columnName, columnData }) => {
        const own = (sums[columnName] ??= [0, 0, 0]);
        for (const big of columnData) { const v = Number(big); own[0]++; own[1] += v; own[2] += v * v; }
      };
      await parquetRead({ file, columns: ['delay', 'distance'], compressors, onChunk });
      return [sums.delay, sums.distance];`) as [number, number, number][];
    const results = [];
    for (const workers of [1, 2, 3, 5]) results.push(await momentsOf([flights], { workers }));
    expect(new Set(results.map(bitsOf)).size).toBe(1);
    const m = results[0]!;
    expect([m.names, [...m.count], [...m.missing]]).toEqual([
      ['delay', 'distance'],
      [3e6, 3e6],
      [0, 0],
    ]);
    expect([...m.mean]).toEqual([6.667867666666667, 731.6204026666667]);
    sums.forEach(([n, sum, squares], i) => {
      // Whole numbers below 2^53: exact.
      const variance = Number((BigInt(n) * BigInt(squares) - BigInt(sum) ** 2n) / 9n) / 1e12;
      expectNear(m.mean[i]!, sum / n);
      expectNear(m.variance()[i]!, variance);
    });
    const one = await momentsOf([flights], { columns: ['distance'] });
    expect([one.names, one.mean[0], one.m2[0]]).toEqual([['distance'], m.mean[1], m.m2[1]]);
  });

  it('is refused', async () => {
    expect(await refusal(flights, { columns: ['delays'] })).toBe(
      'ERR_DATA there is no column "delays"; there are date, delay, distance, origin, destination',
    );
    for (const name of ['origin', 'date']) {
      expect(await refusal(flights, { columns: [name] })).toBe(`ERR_DATA the column "${name}" holds no numbers`);
    }
    expect(await refusal(flights, { columns: ['delay', 'delay'] })).toMatch(/"delay" is asked for twice/);
    expect(await refusal(put('cut.parquet', readFileSync(flights).subarray(0, 1000)))).toMatch(/^ERR_DATA .*invalid/);
  });
});
