// What tests of streams share. They run what is built: threads start dist/preprocessing/fit-worker.js.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeNpy } from '../../lib/io/npy';
import { exactMoments } from './exact';

export const root = join(__dirname, '..', '..');
export const streams = require('../../dist/preprocessing') as typeof import('../../lib/preprocessing');
export type Moments = import('../../lib/preprocessing').RunningMoments;

/** A folder for one test file. */
export const folder = mkdtempSync(join(tmpdir(), 'streams-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

export function put(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}
export async function putNpy(name: string, data: Float64Array | Float32Array, ...shape: number[]): Promise<string> {
  const path = join(folder, name);
  await writeNpy(path, data, data.BYTES_PER_ELEMENT === 8 ? 'float64' : 'float32', shape);
  return path;
}

/** Runs a script in a process of its own, for what jest's modules cannot load; what it printed, as JSON. */
export function inProcess(script: string): unknown {
  const all = `(async () => { ${script} })().then((result) => console.log(JSON.stringify(result)));`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', all], { cwd: root, encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout);
}

export const bitsOf = (moments: Moments): string => JSON.stringify(moments);

/** Within 4 ulp of the exact results, a mean of the size of its data; NaN among them is missing. */
export function expectExact(moments: Moments, columns: readonly ArrayLike<number>[]): void {
  expect(moments.features).toBe(columns.length);
  columns.forEach((column, i) => {
    const present = Array.from(column).filter((v) => !Number.isNaN(v));
    const exact = exactMoments(present);
    const least = present.reduce((a, b) => Math.min(a, b));
    const most = present.reduce((a, b) => Math.max(a, b));
    expect([moments.count[i], moments.missing[i]]).toEqual([present.length, column.length - present.length]);
    expect([moments.min[i], moments.max[i]]).toEqual([least, most]);
    expectNear(moments.mean[i]!, exact.mean, Math.max(Math.abs(exact.mean), exact.deviation));
    expectNear(moments.variance()[i]!, exact.variance);
  });
}
/** As of all rows at once, within 4 ulp. */
export function expectAlike(moments: Moments, once: Moments): void {
  expect([moments.count, moments.min, moments.max]).toEqual([once.count, once.min, once.max]);
  once.mean.forEach((mean, i) => {
    expectNear(moments.mean[i]!, mean, Math.max(Math.abs(mean), once.std()[i]!));
    expectNear(moments.variance()[i]!, once.variance()[i]!);
  });
}
export function expectNear(actual: number, expected: number, size = Math.abs(expected)): void {
  if (Math.abs(actual - expected) <= 4 * 2 ** -52 * size || actual === expected) return;
  throw new Error(`${actual} is not within 4 ulp of ${expected}`);
}

/** What a promise is rejected with. */
export async function rejection(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  return promise.then(
    () => {
      throw new Error('nothing was thrown');
    },
    (error: Error) => error,
  );
}
