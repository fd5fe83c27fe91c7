// Promise: the statistics of a stream or of files do not depend on how many threads read, nor on where it was interrupted.

import { Readable } from 'node:stream';
import { fit, RunningMoments } from '../../lib/preprocessing';
import { Tensor } from '../../lib';
import { values } from '../support/shapes';
import { bitsOf, expectAlike, folder, inProcess, put, putNpy, rejection, streams } from '../support/streams';

const { fitParallel } = streams;
type State = import('../../lib/preprocessing').FitState;

describe('fit', () => {
  const batches = [1, 2, 3].map((seed) => {
    const x = values(40, 'float64', seed, 2) as Float64Array;
    return new Tensor(x, [10, 4]);
  });
  const expected = bitsOf(batches.reduce((m, batch) => m.update(batch), new RunningMoments(4)));

  it('takes arrays, generators, async ones, and streams of objects', async () => {
    function* generator(): Generator<Tensor> {
      yield* batches;
    }
    async function* late(): AsyncGenerator<Tensor> {
      for (const batch of batches) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        yield batch;
      }
    }
    const own = { [Symbol.asyncIterator]: late };
    for (const source of [batches, new Set(batches), generator(), late(), own, Readable.from(batches)]) {
      expect(bitsOf(await fit(source as Iterable<Tensor>))).toBe(expected);
    }
  });

  it('takes options of every batch', async () => {
    const turned = batches.map((batch) => batch.permute(1, 0));
    expect(bitsOf(await fit(turned, { axis: 0 }))).toBe(expected);
    const m = await fit([Float32Array.of(1, 5), [3, 7]], { mask: [true, false] });
    expect([m.features, m.mean[0], m.count[0]]).toEqual([1, 2, 2]);
  });

  it('holds one batch at a time, and ends the source where one is refused', async () => {
    const [seen, ended] = [[] as number[], [] as string[]];
    function* source(): Generator<number[][]> {
      try {
        for (let i = 0; i < 5; i++) {
          seen.push(i);
          yield i === 2 ? [[1, 2, 3]] : [[i, i]];
        }
      } finally {
        ended.push('ended');
      }
    }
    const error = await rejection(fit(source()));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toMatch(/expected 2 features, but got 3/);
    expect([seen, ended]).toEqual([[0, 1, 2], ['ended']]);
  });

  it('refuses what gives no batches', async () => {
    for (const nothing of [[], new Set(), Readable.from([])]) {
      expect(await rejection(fit(nothing as never))).toEqual(new RangeError('fit: there are no batches'));
    }
    for (const strange of [undefined, null, 5, {}, batches[0], () => batches]) {
      const error = await rejection(fit(strange as never));
      expect([error.name, error.message]).toEqual([
        'TypeError',
        expect.stringMatching(/^fit: source must be iterable/),
      ]);
    }
    expect(await rejection(fit([batches[0]!], { axes: 1 } as never))).toMatchObject({ name: 'TypeError' });
    const broken = Readable.from(batches).map(() => Promise.reject(new Error('the disk is gone')));
    expect((await rejection(fit(broken as never))).message).toBe('the disk is gone');
  });
});

describe('fitParallel', () => {
  const [rows, features] = [1_100_000, 8];
  const small = values(30 * features, 'float64', 1e3, 5) as Float64Array;
  const large = new Float64Array(rows * features);
  for (let i = 0; i < large.length; i++) large[i] = ((i * 7919) % 10007) * 1e-3 - i / rows;
  let files: string[];
  let whole: string;

  beforeAll(async () => {
    const text = Array.from({ length: 20_000 }, (_, i) => Array.from({ length: features }, (_, j) => i * j).join());
    // 1, 2, 1 and 1 parts.
    files = [
      await putNpy('a.npy', small, 30, features),
      await putNpy('b.npy', large, rows, features),
      put('c.csv', text.join('\n')),
      await putNpy('d.npy', small, 30, features),
    ];
    whole = bitsOf((await fitParallel(files, { workers: 1 })).moments);
  });

  it('is the same as of all rows at once', async () => {
    const { moments } = await fitParallel([files[1]!], { workers: 2 });
    expectAlike(moments, new streams.RunningMoments(features).update({ data: large, shape: [rows, features] }));
  });

  it.each([1, 2, 3, 5, undefined])('has the same bits with %s workers, and tells how far it is', async (workers) => {
    const told: string[] = [];
    const onProgress = (progress: object): number => told.push(Object.values(progress).join(' '));
    const { moments, failed } = await fitParallel(files, { workers, onProgress });
    expect([bitsOf(moments), failed]).toEqual([whole, []]);
    // files, of how many, parts
    expect(told).toEqual(['1 4 1', '1 4 2', '2 4 3', '3 4 4', '4 4 5']);
  });

  /** The state after k parts, where the fit was stopped. */
  async function stopped(k: number, workers: number): Promise<State> {
    const controller = new AbortController();
    const reason = new Error(`stopped after ${k}`);
    let [calls, copy] = [0, null as State | null];
    const onState = (state: State): void => {
      if (++calls > k) return;
      const { moments, current, failed } = state;
      copy = {
        ...state,
        moments: moments && moments.clone(),
        current: current && current.clone(),
        failed: [...failed],
      };
      if (calls === k) controller.abort(reason);
    };
    const error = await rejection(fitParallel(files, { workers, onState, signal: controller.signal, onError: 'skip' }));
    expect(error).toBe(reason);
    return copy!;
  }

  it.each([1, 2, 3, 4])('goes on where it was stopped, after %i of 5 parts, with the same bits', async (k) => {
    for (const workers of [1, 3]) {
      const from = await stopped(k, workers);
      expect([from.files, from.parts]).toEqual([[1, 0], [1, 1], [2, 0], [3, 0]][k - 1]); // prettier-ignore
      const states: number[] = [];
      const onState = ({ files, parts }: State): number => states.push(files + parts / 10);
      const { moments } = await fitParallel(files, { workers: 4 - workers, from, onState });
      expect(bitsOf(moments)).toBe(whole);
      expect(states).toEqual([1, 1.1, 2, 3, 4].slice(k));
    }
  });

  it('only reads a state, which serves again', async () => {
    const from = await stopped(2, 2);
    for (let i = 0; i < 2; i++) expect(bitsOf((await fitParallel(files, { from })).moments)).toBe(whole);
  });

  it('is not taken on for a file that has other parts now', async () => {
    const from = { moments: null, current: new streams.RunningMoments(features), files: 0, parts: 2, failed: [] };
    const error = await rejection(fitParallel([files[0]!], { from }));
    expect(error.message).toBe(`${files[0]}: it has 1 parts, and 2 were read before`);
  });

  it('rejects with the reason of a signal, says nothing more, and lets the process end', async () => {
    const reason = { mine: true };
    expect(await rejection(fitParallel(files, { signal: AbortSignal.abort(reason) }))).toBe(reason);
    const controller = new AbortController();
    let [calls, over] = [0, false];
    let last: State | null = null;
    const onState = (state: State): void => {
      calls++;
      last = state;
      if (!over) controller.abort();
      over = true;
    };
    const error = await rejection(
      fitParallel(files, { workers: 3, onError: 'skip', onState, signal: controller.signal }),
    );
    const then = calls;
    expect(error.name).toBe('AbortError');
    await new Promise((resolve) => setTimeout(resolve, 300));
    // Threads that were ended are no failed files.
    expect([calls, last!.failed]).toEqual([then, []]);
    const [name, took] = inProcess(`
      const { fitParallel } = require('./dist/preprocessing');
      const start = performance.now();
      const error = await fitParallel(${JSON.stringify(files)}, { signal: AbortSignal.timeout(1) }).catch((e) => e);
      return [error.name, performance.now() - start];`) as [string, number];
    expect(name).toBe('TimeoutError');
    expect(took).toBeLessThan(5000);
  });

  it('passes on what a callback throws, and blames no file', async () => {
    for (const [name, at] of [
      ['onState', 1],
      ['onState', 3],
      ['onProgress', 2],
    ] as const) {
      // prettier-ignore
      let calls = 0;
      const mine = new TypeError('mine');
      const callback = (): void => {
        if (++calls === at) throw mine;
      };
      expect(await rejection(fitParallel(files, { workers: 2, onError: 'skip', [name]: callback }))).toBe(mine);
    }
  });

  it('leaves a file out whole, wherever it goes wrong, and lists it', async () => {
    const eight = (i: number): string => `${i},1,2,3,4,5,6,7`;
    const lines = Array.from({ length: 9100 }, (_, i) => eight(i));
    const late = put('late.csv', lines.map((line, i) => (i === 8999 ? line.replace('7', 'seven') : line)).join('\n'));
    const narrow = await putNpy('narrow.npy', small, 60, features / 2);
    const cut = put('cut.npy', Buffer.from('\x93NUMPY', 'latin1'));
    const bad = [narrow, late, cut, `${folder}/none.npy`];
    const mixed = [files[0]!, late, files[1]!, narrow, cut, files[2]!, bad[3]!, files[3]!];
    for (const workers of [1, 3]) {
      const { moments, failed } = await fitParallel(mixed, { workers, onError: 'skip' });
      expect(bitsOf(moments)).toBe(whole);
      expect(failed.map(({ file }) => file)).toEqual([late, narrow, cut, bad[3]]);
      for (const { file, error } of failed) expect(error.message.startsWith(`${file}: `)).toBe(true);
      expect(failed[0]!.error.message).toMatch(/line 9000, column 8: "seven" is no number/);
      expect(failed[1]!.error).toBeInstanceOf(RangeError);
      for (const file of bad) {
        const error = await rejection(fitParallel([files[0]!, file, files[3]!], { workers }));
        expect(error.message).toContain(file);
      }
    }
    // Nothing is left: the first error.
    expect((await rejection(fitParallel([late, cut], { onError: 'skip' }))).message).toContain(late);
    // A state beside a failure: none of the file that goes with others only in part.
    const from = await stopped(2, 2);
    const other = { ...from, moments: new streams.RunningMoments(3) };
    const { failed } = await fitParallel(files.slice(0, 2), { from: other, onError: 'skip' });
    expect(failed[0]!.error.message).toMatch(/b\.npy: RunningMoments\.merge: expected 3 features/);
  });

  it('goes on where a thread ends by itself: its file has failed, no other one', () => {
    const result = inProcess(`
      const { Worker } = require('node:worker_threads');
      const post = Worker.prototype.postMessage;
      Worker.prototype.postMessage = function (task) {
        return task.path.endsWith('c.csv') ? void this.terminate() : post.call(this, task);
      };
      const { fitParallel } = require('./dist/preprocessing');
      const { moments, failed } = await fitParallel(${JSON.stringify(files)}, { workers: 1, onError: 'skip' });
      return [moments.count[0], failed.map(({ error }) => error.message)];`);
    expect(result).toEqual([rows + 60, [`${files[2]}: a worker ended with code 1`]]);
  });

  it('waits for a slow file with a few results behind it, not with one of every file', async () => {
    const many: string[] = [];
    for (let i = 0; i < 40; i++) many.push(await putNpy(`many-${i}.npy`, Float64Array.of(i, 1), 1, 2));
    const result = inProcess(`
      const { Worker } = require('node:worker_threads');
      const post = Worker.prototype.postMessage;
      let asked = 0, release;
      Worker.prototype.postMessage = function (task) {
        asked++;
        if (task.path.endsWith('many-0.npy') && task.part === 0) release = () => post.call(this, task);
        else post.call(this, task);
      };
      const { fitParallel } = require('./dist/preprocessing');
      const fitted = fitParallel(${JSON.stringify(many)}, { workers: 2 });
      for (let before = -1; asked < 5 || asked !== before; ) {
        before = asked;
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
      const ahead = asked;
      release();
      const { moments } = await fitted;
      return { ahead, asked, count: moments.count[0], mean: moments.mean[0] };`) as Record<string, number>;
    // Each file is opened, then read.
    expect(result).toEqual({ ahead: expect.any(Number), asked: 80, count: 40, mean: 19.5 });
    expect(result.ahead).toBeLessThan(20);
  });

  it('refuses', async () => {
    for (const [args, message] of [
      [['a.npy'], /fitParallel: files must be an array, but got the string/],
      [[files, { onError: 'ignore' }], /onError must be 'stop' or 'skip', but got the string "ignore"/],
      [[files, { workers: 0 }], /workers must be an integer of at least 1/],
      [[files, { threads: 2 }], /unknown option "threads"/],
      [[[]], /fitParallel: there are no data/],
    ] as const) {
      expect((await rejection(fitParallel(...(args as unknown as [[]])))).message).toMatch(message);
    }
  });
});
