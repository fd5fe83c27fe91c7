// Images as data, folders, what is no data, and what is said where an optional package is missing.

import { mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { peer } from '../../lib/preprocessing/data/peer';
import { bitsOf, folder, inProcess, put, rejection, root, streams } from '../support/streams';

const { fitParallel, listData } = streams;
const refusal = async (file: string): Promise<string> => {
  const error = await rejection(fitParallel([file], { workers: 1 }));
  expect(error.message.startsWith(`${file}: `)).toBe(true);
  return `${error.code} ${error.message.slice(file.length + 2)}`;
};

describe('images', () => {
  it('of known pixels, as red, green and blue in [0, 1]: with alpha, grey, of 16 bits, in other formats', async () => {
    inProcess(`
      const sharp = require('sharp');
      const folder = ${JSON.stringify(folder)};
      const write = async (name, data, channels) => {
        let image = sharp(data, { raw: { width: 2, height: 1, channels } });
        if (name.endsWith('tiff')) image = image.tiff({ compression: 'lzw' });
        if (name.startsWith('deep')) image.toColourspace('rgb16');
        if (name.startsWith('grey')) image.toColourspace('b-w');
        await image.toFile(folder + '/' + name);
      };
      await write('rgb.png', Buffer.from([0, 51, 102, 255, 153, 204]), 3);
      await write('rgb.tiff', Buffer.from([0, 51, 102, 255, 153, 204]), 3);
      await write('RGBA.PNG', Buffer.from([0, 51, 102, 0, 255, 153, 204, 255]), 4);
      await write('deep.png', Uint16Array.from([0, 51, 102, 255, 153, 204], (v) => 257 * v), 3);
      await write('grey.png', Buffer.from([0, 51]), 1);
      return 0;`);
    const bytes = [[0, 255], [51, 153], [102, 204]]; // prettier-ignore
    // A byte becomes a float32.
    const value = (b: number): number => Math.fround(b * Math.fround(1 / 255));
    const means = bytes.map(([a, b]) => (value(a!) + value(b!)) / 2);
    for (const name of ['rgb.png', 'rgb.tiff', 'RGBA.PNG', 'deep.png']) {
      const { moments: m } = await fitParallel([join(folder, name)], { workers: 1 });
      expect([m.names, [...m.count], [...m.mean]]).toEqual([['red', 'green', 'blue'], [2, 2, 2], means]);
      expect([[...m.min], [...m.max]]).toEqual([bytes.map(([a]) => value(a!)), bytes.map(([, b]) => value(b!))]);
    }
    const { moments: grey } = await fitParallel([join(folder, 'grey.png')], { workers: 1 });
    expect([...grey.mean]).toEqual([value(51) / 2, value(51) / 2, value(51) / 2]);
  });

  it('are photographs, with the same bits for any number of workers', async () => {
    const packages = readdirSync(join(root, 'node_modules/@stdlib')).filter((name) => name.startsWith('datasets-img-'));
    const photos = packages.map((name) => join(root, 'node_modules/@stdlib', name, 'data/image.jpg'));
    expect(photos.length).toBeGreaterThanOrEqual(6);
    const results = [];
    for (const workers of [1, 2, 3, 5]) results.push((await fitParallel(photos, { workers })).moments);
    expect(new Set(results.map(bitsOf)).size).toBe(1);
    const sums = inProcess(`
      const sharp = require('sharp');
      const [n, sum, squares] = [[0, 0, 0], [0, 0, 0], [0, 0, 0]];
      for (const photo of ${JSON.stringify(photos)}) {
        const { data, info } = await sharp(photo).toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
        for (let i = 0; i < data.length; i++) {
          const c = i % info.channels;
          n[c]++;
          sum[c] += data[i];
          squares[c] += data[i] ** 2;
        }
      }
      return [n, sum, squares];`) as [number[], number[], number[]];
    const [n, sum, squares] = sums;
    const m = results[0]!;
    expect([...m.count]).toEqual(n);
    for (let c = 0; c < 3; c++) {
      // In bytes; each float32 of one is off by 2^-24 of itself twice.
      const mean = sum[c]! / n[c]!;
      expect(Math.abs((m.mean[c]! * 255) / mean - 1)).toBeLessThan(2 ** -23);
      expect(Math.abs((m.variance()[c]! * 255 ** 2) / (squares[c]! / n[c]! - mean ** 2) - 1)).toBeLessThan(1e-5);
    }
  });

  it('that are none are refused', async () => {
    expect(await refusal(put('text.jpg', 'no image'))).toMatch(/^ERR_DATA .*unsupported image format/);
    expect(await refusal(put('empty.png', ''))).toMatch(/^ERR_DATA /);
  });
});

describe('listData', () => {
  const at = (...parts: string[]): string => join(folder, 'data', ...parts);
  beforeAll(() => {
    mkdirSync(at('b', 'deep.csv'), { recursive: true });
    mkdirSync(at('none', 'empty'), { recursive: true });
    for (const name of [
      'c.csv',
      'B.PNG',
      'a.npy',
      'b/2.csv',
      'b/10.csv',
      'b/deep.csv/x.parquet',
      'b/notes.txt',
      'none/LICENSE',
      'x.csv.bak',
      'csv',
    ]) {
      // prettier-ignore
      put(join('data', name), '1\n2\n');
    }
    symlinkSync(at('c.csv'), at('z.csv'));
  });

  it('gives the files of data in folders, in the order of their names, and what is named itself as it is', () => {
    const all = ['B.PNG', 'a.npy', 'b/10.csv', 'b/2.csv', 'b/deep.csv/x.parquet', 'c.csv', 'z.csv'].map((n) => at(n));
    expect(listData([at()])).toEqual(all);
    expect(listData([at('x.csv.bak'), at('c.csv'), at('b'), at('c.csv')])).toEqual(
      ['x.csv.bak', 'c.csv', 'b/10.csv', 'b/2.csv', 'b/deep.csv/x.parquet', 'c.csv'].map((name) => at(name)),
    );
    expect([listData([]), listData([at('none')])]).toEqual([[], []]);
  });

  it('refuses', async () => {
    expect(() => listData([at('nothing')])).toThrow(/ENOENT/);
    expect(() => listData(at() as never)).toThrow(/listData: paths must be an array, but got the string/);
    expect(() => listData([5] as never)).toThrow(/listData: a path must be a string, but got 5/);
    expect((await rejection(fitParallel(listData([at('none')])))).message).toBe('fitParallel: there are no data');
  });
});

it('a file of another kind, or that is not there, is refused by name', async () => {
  const known = /^ERR_FORMAT a file of data ends with one of \.npy, \.safetensors, \.csv, \.parquet, \.jpg/;
  for (const name of ['x.txt', 'csv', 'x.constructor', '.npy']) {
    expect(await refusal(put(name, '1\n'))).toMatch(known);
  }
  expect(await refusal(folder)).toMatch(known);
  for (const end of ['npy', 'safetensors', 'csv', 'parquet']) {
    expect(await refusal(join(folder, `nothing.${end}`))).toMatch(/^ENOENT .*no such file/);
  }
  expect(await refusal(join(folder, 'nothing.jpg'))).toMatch(/^ERR_DATA .*missing/);
});

describe('an optional package', () => {
  const failing = (code: string, message: string) => () => Promise.reject(Object.assign(new Error(message), { code }));

  it('that is missing is named, with the way to get it', async () => {
    for (const load of [
      failing('ERR_MODULE_NOT_FOUND', "Cannot find package 'csv-parse' imported from /a/csv.js"),
      failing('MODULE_NOT_FOUND', "Cannot find module 'csv-parse'\nRequire stack:\n- /a/csv.js"),
    ]) {
      expect(await rejection(peer(load, 'csv-parse', 'reading x.csv'))).toMatchObject({
        code: 'ERR_MISSING_PACKAGE',
        message: 'reading x.csv needs the package csv-parse: npm install csv-parse',
      });
    }
    expect(await peer(() => Promise.resolve(5), 'five', 'counting')).toBe(5);
  });

  it('that fails otherwise says why itself', async () => {
    for (const load of [
      failing('ERR_MODULE_NOT_FOUND', "Cannot find package 'semver' imported from /node_modules/sharp/lib/index.js"),
      failing('ERR_DLOPEN_FAILED', 'sharp: libvips.so: cannot open'),
    ]) {
      expect((await rejection(peer(load, 'sharp', 'reading x.jpg'))).message).toMatch(/semver|libvips/);
    }
  });
});
