// Promise: forwardAsync gives forward's bits while the event loop goes on, and no call of it, nor what happens to its
// memory meanwhile, can corrupt the process.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import {
  BatchNorm1d,
  BatchNorm2d,
  GroupNorm,
  InstanceNorm2d,
  LayerNorm,
  LazyBatchNorm1d,
  LocalResponseNorm,
  noGrad,
  OutputPool,
  RMSNorm,
  tensor,
  Tensor,
} from '../../lib';

const wave = (n: number, phase = 0): Float32Array =>
  Float32Array.from({ length: n }, (_, i) => Math.sin(i + phase) * 3);
const shape = [6, 8, 5, 7];
const size = 6 * 8 * 5 * 7;
const shared = (data: Float32Array): Float32Array => {
  const own = new Float32Array(new SharedArrayBuffer(4 * data.length));
  own.set(data);
  return own;
};

const layers: [string, () => BatchNorm2d | InstanceNorm2d | GroupNorm | LayerNorm | RMSNorm][] = [
  ['BatchNorm2d', () => new BatchNorm2d(8)],
  ['BatchNorm2d, momentum null', () => new BatchNorm2d(8, { momentum: null })],
  ['BatchNorm2d with a ReLU', () => new BatchNorm2d(8, { relu: true, nonFinite: 'throw' })],
  ['InstanceNorm2d', () => new InstanceNorm2d(8, { affine: true, trackRunningStats: true })],
  ['GroupNorm', () => new GroupNorm(2, 8)],
  ['LayerNorm', () => new LayerNorm([5, 7])],
  ['RMSNorm', () => new RMSNorm(7)],
];

describe.each(layers)('%s', (_, make) => {
  it.each(['contiguous', 'channels-last', 'shared'])(
    'output, gradient and state have the bits of forward, %s',
    async (how) => {
      const [sync, async_] = [make(), make()];
      for (const layer of [sync, async_]) layer.weight?.data.forEach((_v, i, all) => (all[i] = 1 + i / 10));
      for (const training of [true, true, false]) {
        const data = wave(size, Number(training));
        const x =
          how === 'channels-last'
            ? tensor(data, [6, 5, 7, 8]).permute(0, 3, 1, 2)
            : tensor(how === 'shared' ? shared(data) : data, shape);
        sync.train(training);
        async_.train(training);
        const expected = sync.forward(x);
        const y = await async_.forwardAsync(x);
        expect(y.data).toEqual(expected.data);
        expect(y.strides).toEqual(expected.strides);
        expect(async_.backward(y).data).toEqual(sync.backward(expected).data);
        expect(async_.weight!.grad!.data).toEqual(sync.weight!.grad!.data);
        expect([...async_.stateDict()]).toEqual([...sync.stateDict()]);
      }
    },
  );
});

it('calls on one layer follow each other: running statistics see the batches in the order of the calls', async () => {
  const [sync, async_] = [new BatchNorm1d(4, { momentum: null }), new BatchNorm1d(4, { momentum: null })];
  const batches = Array.from({ length: 20 }, (_, i) => tensor(wave(4 * (3 + i), i), [3 + i, 4]));
  const expected = batches.map((x) => sync.forward(x));
  const found = await Promise.all(batches.map((x) => async_.forwardAsync(x)));
  found.forEach((y, i) => expect(y.data).toEqual(expected[i]!.data));
  expect([...async_.stateDict()]).toEqual([...sync.stateDict()]);
});

it('what happens to the input and to its buffer after the call has no effect', async () => {
  const layer = new BatchNorm2d(8);
  const expected = new BatchNorm2d(8).forward(tensor(wave(size), shape));
  const ways: ((data: Float32Array<ArrayBuffer>) => void)[] = [
    (data) => data.fill(NaN),
    (data) => structuredClone(data.buffer, { transfer: [data.buffer] }),
  ];
  for (const way of ways) {
    const data = wave(size) as Float32Array<ArrayBuffer>;
    const promise = layer.forwardAsync({ data, shape });
    way(data);
    expect((await promise).data).toEqual(expected.data);
  }
});

it('an array that pretends to be shared, or hands out its own copies, is copied all the same', async () => {
  class Liar extends Float32Array {
    override get buffer(): ArrayBuffer {
      return new SharedArrayBuffer(8) as never;
    }
    override slice(): never {
      throw new Error('asked');
    }
  }
  const data = new Liar(wave(size));
  const promise = new BatchNorm2d(8).forwardAsync(new Tensor(data as never, shape));
  data.fill(NaN);
  expect((await promise).data).toEqual(new BatchNorm2d(8).forward(tensor(wave(size), shape)).data);
});

describe('out', () => {
  const x = tensor(wave(size), shape);
  const expected = new GroupNorm(2, 8).forward(x).data;
  it('is written at the end, or where it lies if it is shared; an input of its own buffer is not copied', async () => {
    const layer = new GroupNorm(2, 8);
    const plain = new Float32Array(size);
    const promise = layer.forwardAsync(x, { out: plain });
    await Promise.resolve();
    expect(plain.every((v) => v === 0)).toBe(true);
    expect((await promise).data).toBe(plain);
    expect(plain).toEqual(expected);
    const data = shared(wave(size));
    let inPlace!: Promise<Tensor>;
    noGrad(() => {
      inPlace = layer.forwardAsync({ data, shape }, { out: data });
    });
    expect((await inPlace).data).toBe(data);
    expect(new Float32Array(data)).toEqual(expected);
  });
  it('that is gone at the end is refused, and the layer is as it was', async () => {
    const layer = new BatchNorm2d(8);
    const before = [...layer.stateDict()].map(([key, t]) => [key, t.toArray()]);
    const out = new Float32Array(size);
    const promise = layer.forwardAsync(x, { out });
    structuredClone(out.buffer, { transfer: [out.buffer] });
    await expect(promise).rejects.toThrow(/BatchNorm2d\.forwardAsync: out must be float32 with 1680 elements/);
    expect([...layer.stateDict()].map(([key, t]) => [key, t.toArray()])).toEqual(before);
    expect(() => layer.backward(x)).toThrow(/there is no forward to go back through/);
  });
  it('of a pool is refused, and nothing is lent', async () => {
    const pool = new OutputPool();
    const options = { out: pool } as object;
    await expect(new GroupNorm(2, 8).forwardAsync(x, options)).rejects.toThrow(
      new TypeError(
        'GroupNorm.forwardAsync: out must be a typed array or a Tensor; an OutputPool lends to synchronous calls only',
      ),
    );
    expect([pool.lentBytes, pool.idleBytes]).toEqual([0, 0]);
  });
});

it('refuses with the errors of forward, by rejecting, and goes on', async () => {
  const layer = new BatchNorm2d(8, { nonFinite: 'throw' });
  const x = tensor(wave(size), shape);
  const refusals: [unknown, unknown, RegExp][] = [
    [tensor(wave(8), [2, 4]), {}, /expected 4D input/],
    [tensor(new Float64Array(size), shape), {}, /input is float64, the layer is float32/],
    [x, { mask: [] }, /unknown option "mask"; known options are out, context, updateStats/],
    [x, { out: new Float32Array(3) }, /out must be float32 with 1680 elements/],
    [x, { updateStats: 1 }, /updateStats must be a boolean/],
    [x, { context: new BatchNorm2d(8).context() }, /belongs to another layer/],
    [tensor(wave(size).fill(NaN), shape), {}, /the batch has a mean of NaN/],
    [undefined, undefined, /input must be/],
  ];
  for (const [input, options, message] of refusals) {
    await expect(layer.forwardAsync(input as Tensor, options as object)).rejects.toThrow(message);
  }
  expect(layer.numBatchesTracked).toBe(0);
  await layer.forwardAsync(x);
  expect(layer.numBatchesTracked).toBe(1);
  await expect(new LazyBatchNorm1d().forwardAsync(tensor(wave(8), [2, 4]))).rejects.toMatchObject({
    code: 'ERR_UNINITIALIZED',
  });
  await expect(new LocalResponseNorm(3).forwardAsync(x)).rejects.toMatchObject({ code: 'ERR_NO_ASYNC' });
});

describe('in a process of its own', () => {
  const run = (script: string): { status: number | null; signal: string | null; output: string } => {
    const root = join(__dirname, '..', '..');
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['-e', script], {
      cwd: root,
      encoding: 'utf8',
    });
    return { status, signal, output: stdout + stderr };
  };
  const begin = `
    const s = require('./dist');
    const x = s.tensor(new Float32Array(32 * 64 * 56 * 56).fill(2), [32, 64, 56, 56]);
    const layers = Array.from({ length: 8 }, () => new s.BatchNorm2d(64));
    const all = () => layers.map((layer) => layer.forwardAsync(x));`;
  it('timers fire while it computes, and many may be pending', () => {
    const script = `${begin}
      const calls = all(); // copies of the inputs
      let turns = 0, pending = true;
      const turn = () => { if (pending) { turns++; setImmediate(turn); } };
      turn();
      Promise.all(calls).then((ys) => { pending = false; console.log(turns > 20, ys.every((y) => y.data[0] === 0)); });`;
    expect(run(script)).toEqual({ status: 0, signal: null, output: 'true true\n' });
  });
  it('process.exit with work pending', () => {
    expect(run(`${begin} all(); setTimeout(() => process.exit(7), 20);`)).toEqual({
      status: 7,
      signal: null,
      output: '',
    });
  });
  it('a Worker is terminated with work pending, again and again', () => {
    const script = `
      const { Worker } = require('node:worker_threads');
      const work = \`${begin} setInterval(() => {}, 1000); all(); require('node:worker_threads').parentPort.postMessage(0);\`;
      (async () => {
        for (let i = 0; i < 8; i++) {
          const worker = new Worker(work, { eval: true });
          await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
          await new Promise((resolve) => setTimeout(resolve, 2 * i));
          await worker.terminate();
        }
        ${begin}
        console.log((await Promise.all(all())).length);
      })();`;
    expect(run(script)).toEqual({ status: 0, signal: null, output: '8\n' });
  });
});
