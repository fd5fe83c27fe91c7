// Parquet as writers leave it: row groups larger than memory should be, columns of every type, files without rows.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { bitsOf, expectAlike, folder, inProcess, rejection, root, streams } from '../support/streams';

const { fitParallel, RunningMoments } = streams;
const at = (name: string): string => join(folder, name);

/** Writes files; `columns` is the source of what hyparquet-writer takes. */
function write(name: string, columns: string, rowGroupSize = 2 ** 30): string {
  inProcess(`
    const { parquetWriteFile } = await import('hyparquet-writer');
    const wave = (rows, c) => Float64Array.from({ length: rows }, (_, i) => c + Math.sin(i * (c + 1)));
    parquetWriteFile({ filename: ${JSON.stringify(at(name))}, columnData: ${columns}, rowGroupSize: ${rowGroupSize} });
    return null;`);
  return at(name);
}
const waves = (rows: number, columns: number): string =>
  `Array.from({ length: ${columns} }, (_, c) => ({ name: 'c' + c, data: wave(${rows}, c), type: 'DOUBLE' }))`;
const wave = (rows: number, c: number): Float64Array =>
  Float64Array.from({ length: rows }, (_, i) => c + Math.sin(i * (c + 1)));

it('row groups larger than a batch: each row once, by columns and by batches', async () => {
  const [rows, columns, group] = [900_000, 5, 800_000];
  const file = write('large.parquet', waves(rows, columns), group);
  const found = inProcess(`
    const { openData } = require('./dist/preprocessing/data');
    const file = await openData(${JSON.stringify(file)});
    const sizes = [];
    let row = 0, other = 0;
    for (let part = 0; part < file.parts; part++) {
      for await (const { data, names } of file.read(part)) {
        sizes.push(data.shape[0]);
        for (let i = 0; i < data.shape[0]; i++, row++) {
          for (let c = 0; c < ${columns}; c++) if (data.data[i * ${columns} + c] !== c + Math.sin(row * (c + 1))) other++;
        }
      }
    }
    return { sizes, row, other };`) as { sizes: number[]; row: number; other: number };
  expect({ ...found, sizes: found.sizes.length }).toEqual({ row: rows, other: 0, sizes: 3 });
  const results = [];
  for (const workers of [1, 2, 3]) results.push((await fitParallel([file], { workers })).moments);
  expect(new Set(results.map(bitsOf)).size).toBe(1);
  expect(results[0]!.names).toEqual(['c0', 'c1', 'c2', 'c3', 'c4']);
  for (let c = 0; c < columns; c++) {
    const { moments } = await fitParallel([file], { columns: [`c${c}`] });
    // A column is the same whatever is read beside it.
    expect([moments.mean[0], moments.m2[0]]).toEqual([results[0]!.mean[c], results[0]!.m2[c]]);
    expectAlike(moments, new RunningMoments(1).update(wave(rows, c)));
  }
}, 240_000);

it('nulls are missing; integers of 64 bits and truth are numbers; words and moments are left out', async () => {
  const file = write(
    'types.parquet',
    `[
      { name: 'float', data: [1.5, null, 2.5, null], type: 'FLOAT' },
      { name: 'long', data: [1n, 2n, 3n, 2n ** 40n], type: 'INT64' },
      { name: 'truth', data: [true, false, true, true], type: 'BOOLEAN' },
      { name: 'word', data: ['a', 'b', 'c', 'd'], type: 'STRING' },
      { name: 'time', data: [1, 2, 3, 4].map((s) => new Date(s * 1000)), type: 'TIMESTAMP' },
      { name: 'nothing', data: [null, null, null, null], type: 'DOUBLE' },
    ]`,
    2,
  );
  const { moments } = await fitParallel([file]);
  expect(moments.names).toEqual(['float', 'long', 'truth', 'nothing']);
  expect([...moments.count]).toEqual([2, 4, 4, 0]);
  expect([...moments.missing]).toEqual([2, 0, 0, 4]);
  expect([...moments.mean]).toEqual([2, (6 + 2 ** 40) / 4, 0.75, NaN]);
  expect((await rejection(fitParallel([file], { columns: ['time'] }))).message).toMatch(/"time" holds no numbers/);
});

it('a file without rows adds nothing, and is of the features it names', async () => {
  const empty = write(
    'empty.parquet',
    `[{ name: 'c0', data: [], type: 'DOUBLE' }, { name: 'c1', data: [], type: 'DOUBLE' }]`,
  );
  const some = write('some.parquet', waves(10, 2));
  const other = write('other.parquet', waves(10, 3));
  const { moments } = await fitParallel([empty, some, empty]);
  expect(bitsOf(moments)).toBe(bitsOf((await fitParallel([some])).moments));
  expect((await rejection(fitParallel([empty, other]))).message).toMatch(
    /expected 2 features, but the other one has 3/,
  );
});

it('memory does not grow with the columns: 160 MB in one row group', () => {
  write('wide.parquet', waves(500_000, 40));
  const stats = (...options: string[]): { status: number | null; mib: number } => {
    // On Linux a child takes maxRSS over from the process that started it; VmHWM is its own.
    const peak =
      process.platform === 'linux'
        ? `require('node:fs').readFileSync('/proc/self/status', 'utf8').match(/VmHWM:\\s+(\\d+)/)[1]`
        : 'process.resourceUsage().maxRSS';
    const script = `process.on('exit', () => console.error(${peak})); require('./dist/cli/main.js')`;
    const args = ['-e', script, 'simdnorm', 'stats', at('wide.parquet'), '--workers', '2', ...options];
    const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
    return { status, mib: Number(stderr) / 1024 };
  };
  const [all, one] = [stats(), stats('--columns', 'c0')];
  expect([all.status, one.status]).toEqual([0, 0]);
  expect(all.mib).toBeLessThan(300);
  // The numbers alone are 153 MiB.
  expect(all.mib - one.mib).toBeLessThan(120);
}, 240_000);
