// Promise: memory that an OutputPool lends has one user at a time, whatever a program keeps, and is not used up.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { markAsUntransferable } from 'node:worker_threads';
import * as simdnorm from '../lib';
import { BatchNorm1d, BatchNorm2d, LayerNorm, LocalResponseNorm, OutputPool, RMSNorm, Tensor, tensor } from '../lib';
import * as functional from '../lib/functional';
import { addon } from '../lib/internal/addon';
import { values } from './support/shapes';

const random = (...shape: number[]): Tensor => {
  const size = shape.reduce((p, n) => p * n, 1);
  return new Tensor(values(size, 'float32'), shape);
};
const bits = (t: Tensor): number[] => Array.from(t.data.subarray(t.offset, t.offset + t.size) as Float32Array);

/** What a script prints, in a process of its own, from the built library. */
function run(script: string, ...flags: string[]): string {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [...flags, '-e', script], {
    cwd: join(__dirname, '..'),
    encoding: 'utf8',
  });
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  return stdout.trim();
}

describe('lending', () => {
  it('gives the outputs that plain arrays have, forward and backward, in used memory too', () => {
    const pool = new OutputPool();
    const nhwc = random(2, 5, 5, 3).permute(0, 3, 1, 2);
    const x = random(4, 3, 7);
    const calls: ((o: { out?: OutputPool }) => Tensor)[] = [
      (o) => new BatchNorm2d(3).forward(nhwc, o),
      (o) => new BatchNorm1d(3, { relu: true }).forward(x, { add: x, ...o }),
      (o) => new BatchNorm1d(3).forward(x, { lengths: [7, 1, 0, 3], ...o }),
      (o) => new LayerNorm(7).forward(x.to('bfloat16'), o),
      (o) => new RMSNorm(7, { dtype: 'float64' }).forward(x.to('float64'), o),
      (o) => new LocalResponseNorm(2).forward(x, o),
      (o) => functional.groupNorm(x, 3, o),
      (o) => functional.localResponseNorm(x, 2, o),
      (o) => functional.localResponseNormBackward(x, x, 2, o),
      (o) => functional.nativeLayerNorm(x, 7, o).output,
      ...[new BatchNorm2d(3), new LocalResponseNorm(3)].map((layer) => (o: object) => {
        layer.forward(nhwc);
        return layer.backward(nhwc, o);
      }),
      (o) => {
        const layer = new BatchNorm1d(3);
        layer.forward(x, { lengths: [7, 1, 0, 3] });
        return layer.backward(x, o);
      },
    ];
    for (const call of calls) {
      const expected = call({});
      for (let round = 0; round < 2; round++) {
        const y = call({ out: pool });
        expect(bits(y)).toEqual(bits(expected));
        expect(y.strides).toEqual(expected.strides);
        expect(y.dtype).toBe(expected.dtype);
        expect(pool.lentBytes).toBeGreaterThan(0);
        y.data.fill(NaN as never); // what is left in the block is never read
        y.dispose();
        expect(pool.lentBytes).toBe(0);
      }
    }
  });

  it('starts at a cache line, and takes the memory of the same or a similar size again', () => {
    const pool = new OutputPool();
    const lines = [1000, 1010, 990].map((n) => {
      const y = new LayerNorm(n).forward(random(2, n), { out: pool });
      const line = [y.data.byteOffset, addon.bytesToCacheLine(y.data.buffer as ArrayBuffer)] as const;
      y.dispose();
      return line;
    });
    for (const [offset, line] of lines) expect(offset).toBe(line);
    expect(pool.idleBytes).toBe(8192);
  });

  it('of nothing is nothing', () => {
    const pool = new OutputPool();
    const y = new LayerNorm(3).forward(tensor(new Float32Array(0), [0, 3]), { out: pool });
    expect([y.size, pool.lentBytes]).toEqual([0, 0]);
    y.dispose();
    expect(pool.idleBytes).toBe(0);
  });

  it('is for what a call returns', () => {
    const layer = new BatchNorm1d(3);
    const x = random(4, 3);
    layer.forward(x, { add: x });
    expect(() => layer.backward(x, { gradAdd: new OutputPool() as never })).toThrow(
      new TypeError('BatchNorm1d.backward: gradAdd must be a typed array or a Tensor, but got an object'),
    );
  });
});

describe('dispose', () => {
  it('takes the memory from every view at once; later calls and disposes see nothing of it', () => {
    const pool = new OutputPool();
    const layer = new LayerNorm(8);
    const y = layer.forward(random(4, 8), { out: pool });
    const views = [
      y.data,
      y.data.subarray(3),
      new Uint8Array(y.data.buffer),
      y.reshape(8, 4).data,
      y.permute(1, 0).data,
    ];
    const turned = y.permute(1, 0);
    y.permute(1, 0).dispose();
    expect(() => turned.copy()).toThrow(/Tensor.copy: data has 0 elements.*its buffer is detached or was shrunk/);
    expect(() => turned.toArray()).toThrow(/its buffer is detached or was shrunk/);
    expect(() => y.toArray()).toThrow(/its buffer is detached or was shrunk/);
    expect(views.map((v) => v.length)).toEqual([0, 0, 0, 0, 0]);
    const next = layer.forward(random(4, 8), { out: pool });
    const before = bits(next);
    y.dispose();
    y.data[0] = 9 as never;
    expect(pool.lentBytes).toBe(128);
    expect(bits(next)).toEqual(before);
    expect(() => layer.forward(y)).toThrow(/input has 0 elements.*its buffer is detached or was shrunk/);
    expect(() => layer.forward(random(4, 8), { out: y })).toThrow(/out has 0 elements.*detached/);
    const view = new DataView(new ArrayBuffer(128)) as never;
    expect(() => layer.forward(random(4, 8), { out: view })).toThrow(
      /out must be a typed array or a Tensor, but got a DataView/,
    );
  });

  it('leaves other memory alone', () => {
    const y = new LayerNorm(8).forward(random(4, 8));
    y.dispose();
    expect(y.data.length).toBe(32);
  });

  it('of what a layer keeps for backward is an error there, which changes nothing', () => {
    const pool = new OutputPool();
    for (const relu of [false, true]) {
      const layer = new LayerNorm(8, { relu });
      const [x, dy] = [random(4, 8), random(4, 8)];
      const input = new RMSNorm(8).forward(x, { out: pool });
      layer.forward(input, { add: dy });
      input.dispose();
      new RMSNorm(8).forward(dy, { out: pool }); // has that very memory now
      for (let again = 0; again < 2; again++) {
        expect(() => layer.backward(dy)).toThrow(/the kept input has 0 elements.*its buffer is detached/);
        expect(layer.weight!.grad).toBeNull();
      }
      const plain = new RMSNorm(8).forward(x);
      layer.forward(plain, { add: dy });
      const expected = bits(layer.backward(dy));
      const copied = new RMSNorm(8).forward(x, { out: pool });
      layer.forward(copied, { add: dy, saveInput: 'copy' });
      copied.dispose();
      expect(bits(layer.backward(dy))).toEqual(expected);
    }
    const layer = new LayerNorm(8, { relu: true });
    const add = new RMSNorm(8).forward(random(4, 8), { out: pool });
    layer.forward(random(4, 8), { add });
    add.dispose();
    expect(() => layer.backward(random(4, 8))).toThrow(/what was added has 0 elements.*detached/);
  });

  it('of memory that went elsewhere loses the block, not its new owner', () => {
    const pool = new OutputPool();
    const layer = new LayerNorm(8);
    const gone = layer.forward(random(4, 8), { out: pool });
    const elsewhere = structuredClone(gone.data, { transfer: [gone.data.buffer as ArrayBuffer] });
    const pinned = layer.forward(random(4, 8), { out: pool });
    markAsUntransferable(pinned.data.buffer as ArrayBuffer);
    const before = Array.from(elsewhere as Float32Array);
    const own = bits(pinned);
    gone.dispose();
    pinned.dispose();
    // Node 22 transfers what is marked too, other versions do not.
    const detached = pinned.data.length === 0;
    expect([pool.lentBytes, pool.idleBytes]).toEqual([0, detached ? 128 : 0]);
    for (let i = 0; i < 3; i++) layer.forward(random(4, 8), { out: pool }).dispose();
    expect(Array.from(elsewhere as Float32Array)).toEqual(before);
    expect(detached ? own : bits(pinned)).toEqual(own);
  });

  it('is also Symbol.dispose, where there is one', () => {
    const script = `
      const { OutputPool, RMSNorm, tensor } = require('./dist');
      const pool = new OutputPool();
      const y = new RMSNorm(2).forward([[1, 2]], { out: pool });
      (Symbol.dispose ? y[Symbol.dispose] : y.dispose).call(y);
      console.log(y.data.length, pool.lentBytes, 'undefined' in y);`;
    expect(run(script)).toBe('0 0 false');
  });
});

describe('maxBytes', () => {
  const make = (pool: OutputPool, bytes: number): Tensor =>
    new RMSNorm(16).forward(random(bytes / 64, 16), { out: pool });

  it('past it come plain arrays, which dispose detaches too', () => {
    const pool = new OutputPool({ maxBytes: 4096 });
    const outputs = [1024, 2048, 2048, 1024, 64].map((bytes) => make(pool, bytes));
    expect(outputs.map((y) => y.data.buffer.byteLength - y.data.byteLength)).toEqual([64, 64, 0, 64, 0]);
    expect(pool.lentBytes).toBe(4096);
    for (const y of outputs) y.dispose();
    expect(outputs.map((y) => y.data.length)).toEqual([0, 0, 0, 0, 0]);
    expect([pool.lentBytes, pool.idleBytes]).toEqual([0, 4096]);
    const none = new OutputPool({ maxBytes: 0 });
    expect(make(none, 64).data.buffer.byteLength).toBe(64);
  });

  it('idle blocks make room, the size first that was not used for longest', () => {
    const pool = new OutputPool({ maxBytes: 4096 });
    const use = (...sizes: number[]): void => {
      for (const y of sizes.map((bytes) => make(pool, bytes))) y.dispose();
    };
    use(1024, 1024);
    use(512);
    use(256);
    expect(pool.idleBytes).toBe(2816);
    use(2048);
    expect(pool.idleBytes).toBe(3840); // without one of 1024
    use(512);
    use(4096);
    expect(pool.idleBytes).toBe(4096);
    pool.clear();
    expect(pool.idleBytes).toBe(0);
  });

  it.each([
    [{ maxBytes: -1 }, RangeError],
    [{ maxBytes: 1.5 }, RangeError],
    [{ maxBytes: '1' }, TypeError],
    [{ max: 1 }, TypeError],
    [5, TypeError],
  ])('%j is refused', (options, kind) => {
    expect(() => new OutputPool(options as never)).toThrow(kind);
  });
});

it('a call that throws gives back what it was lent, and nothing else', () => {
  const pool = new OutputPool();
  const layer = new BatchNorm1d(3, { nonFinite: 'throw' });
  const held = layer.forward(random(4, 3), { out: pool });
  const before = bits(held);
  const bad = random(4, 3);
  bad.data[5] = NaN as never;
  expect(() => layer.forward(bad, { out: pool })).toThrow(/ERR_NON_FINITE|not finite|NaN/i);
  expect(() => layer.forward(random(4, 2), { out: pool })).toThrow(RangeError);
  expect(() => layer.backward(random(4, 2), { out: pool })).toThrow(RangeError);
  layer.weight!.grad = new Tensor(held.data.subarray(0, 3), [3]);
  const running = random(3);
  const twice = { runningMean: running, runningVar: running, training: true, out: pool };
  expect(() => functional.batchNorm(bad, twice)).toThrow(/overlaps/);
  expect(pool.lentBytes).toBe(64);
  expect(pool.idleBytes).toBe(64);
  expect(bits(held)).toEqual(before);
});

it('no memory has two users, in 3,000 steps at random', () => {
  const pool = new OutputPool({ maxBytes: 40_000 });
  let state = 1;
  const below = (n: number): number => (state = (state * 48271) % 2147483647) % n;
  const layers = [8, 24, 100].map((n) => [n, new RMSNorm(n)] as const);
  const live: { y: Tensor; expected: number[] }[] = [];
  let most = 0;
  simdnorm.noGrad(() => {
    for (let step = 0; step < 3000; step++) {
      if (below(2) === 0) {
        const [n, layer] = layers[below(3)]!;
        const x = random(1 + below(12), n);
        live.push({ y: layer.forward(x, { out: pool }), expected: bits(layer.forward(x)) });
      } else if (live.length > 0) {
        const { y, expected } = live.splice(below(live.length), 1)[0]!;
        expect(bits(y)).toEqual(expected);
        y.dispose();
      }
      most = Math.max(most, pool.lentBytes + pool.idleBytes);
    }
  });
  expect(most).toBeGreaterThan(30_000);
  expect(most).toBeLessThanOrEqual(40_000);
});

it('what is collected without dispose is only not counted any more; a view alone keeps the memory', () => {
  const script = `
    const { OutputPool, RMSNorm, tensor } = require('./dist');
    const pool = new OutputPool();
    const layer = new RMSNorm(1024);
    const lend = (v) => layer.forward(tensor(new Float32Array(1024).fill(v), [1, 1024]), { out: pool });
    const settle = async () => {
      for (let i = 0; i < 5; i++) { gc(); await new Promise(setImmediate); }
    };
    (async () => {
      let view = lend(7).data.subarray(1000);
      for (let i = 0; i < 5; i++) lend(-i);
      await settle();
      console.log(pool.lentBytes, pool.idleBytes);
      for (let i = 0; i < 5; i++) lend(-i);
      console.log(view.every((v) => Math.abs(v - 1) < 1e-4), view.length);
      view = null;
      await settle();
      console.log(pool.lentBytes, pool.idleBytes);
    })();`;
  expect(run(script, '--expose-gc')).toBe('4096 0\ntrue 24\n0 0');
});

it('resident memory and V8’s count of it are flat over 10,000 calls in a synchronous loop', () => {
  const script = `
    const { OutputPool, RMSNorm, tensor, noGrad } = require('./dist');
    const pool = new OutputPool();
    const layer = new RMSNorm(1024);
    const bytes = 8 * 2 ** 20;
    const x = tensor(new Float32Array(bytes / 4).fill(1), [bytes / 4096, 1024]);
    const most = [0, 0];
    const counted = [];
    noGrad(() => {
      for (let i = 0; i < 12000; i++) {
        layer.forward(x, { out: pool }).dispose();
        if (i < 2000 || i % 100 > 0) continue;
        const { rss, arrayBuffers } = process.memoryUsage();
        const half = i < 7000 ? 0 : 1;
        most[half] = Math.max(most[half], rss);
        counted.push(arrayBuffers);
      }
    });
    // An output a call would be 40 GB in each half.
    console.log(JSON.stringify({ growth: (most[1] - most[0]) / bytes, spread: (Math.max(...counted) - Math.min(...counted)) / bytes, idle: pool.idleBytes / bytes }));`;
  const { growth, spread, idle } = JSON.parse(run(script)) as Record<string, number>;
  expect(growth).toBeLessThan(1);
  expect(spread).toBeLessThan(0.1);
  expect(idle).toBe(1);
});

it('from a warm pool an output of 32 MiB costs at most 1.5 times the call with out', () => {
  // Processor time, in random order: what else runs on the machine does not count.
  const script = `
    const { OutputPool, RMSNorm, tensor, noGrad, setNumThreads } = require('./dist');
    setNumThreads(1);
    const pool = new OutputPool();
    const layer = new RMSNorm(4096);
    const x = tensor(new Float32Array(2 ** 23).fill(1), [2048, 4096]);
    const out = new Float32Array(2 ** 23);
    const ways = [() => layer.forward(x, { out }), () => layer.forward(x, { out: pool }).dispose()];
    const times = [[], []];
    const cpu = () => { const { user, system } = process.cpuUsage(); return user + system; };
    noGrad(() => {
      for (let i = 0; i < 82; i++) {
        const which = Math.random() < 0.5 ? 0 : 1;
        const began = cpu();
        ways[which]();
        ways[which]();
        times[which].push(cpu() - began);
      }
    });
    const [plain, pooled] = times.map((t) => t.sort((a, b) => a - b)[t.length >> 1]);
    console.log(pooled / plain);`;
  expect(Number(run(script))).toBeLessThanOrEqual(1.5);
});

it('in Workers that end with outputs lent, that are terminated, and that were sent one', () => {
  const script = `
    const { Worker } = require('node:worker_threads');
    const { OutputPool, RMSNorm, tensor } = require('./dist');
    const lend = "const { OutputPool, RMSNorm, tensor } = require('./dist'); const pool = new OutputPool(); const layer = new RMSNorm(64);" +
      "const lend = (v) => layer.forward(tensor(new Float32Array(64 * 64).fill(v), [64, 64]), { out: pool });" +
      "globalThis.held = [lend(1), lend(2)]; lend(3).dispose();";
    const ended = (worker) => new Promise((ok, no) => worker.on('error', no).on('exit', ok));
    (async () => {
      await Promise.all([1, 2, 3, 4].map(() => ended(new Worker(lend, { eval: true }))));
      const busy = new Worker(lend + "for (;;) lend(4).dispose();", { eval: true });
      await new Promise((ok) => setTimeout(ok, 200));
      await busy.terminate();

      const receiver = new Worker("const { parentPort } = require('node:worker_threads'); let data; parentPort.on('message', (m) => { if (m.data) data = m.data; parentPort.postMessage(data.every((v) => v === data[0]) && data.length); });", { eval: true });
      const ask = (message, list) => new Promise((ok) => { receiver.once('message', ok); receiver.postMessage(message, list); });
      const pool = new OutputPool();
      const layer = new RMSNorm(64);
      const own = (v) => layer.forward(tensor(new Float32Array(64 * 64).fill(v), [64, 64]), { out: pool });
      const y = own(5);
      console.log(await ask({ data: y.data }, [y.data.buffer]), y.data.length);
      y.dispose();
      console.log(pool.lentBytes, pool.idleBytes);
      for (let i = 0; i < 100; i++) { const z = own(-i); z.data.fill(i); z.dispose(); }
      console.log(await ask({}));
      await receiver.terminate();
      globalThis.held = own(6);
    })();`;
  expect(run(script)).toBe('4096 0\n0 0\n4096');
});

it('new outputs of 32 MiB and more have huge pages asked for, where the system has them', () => {
  const script = `
    const { RMSNorm, tensor, noGrad } = require('./dist');
    const { existsSync, readFileSync } = require('node:fs');
    const x = tensor(new Float32Array(2 ** 23), [2 ** 13, 2 ** 10]);
    const advised = () => existsSync('/proc/self/smaps')
      ? readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-)/m)
          .filter((m) => / hg( |$)/m.test(/VmFlags:.*/.exec(m)?.[0] ?? '')).map((m) => Number(/Size: +(\\d+) kB/.exec(m)[1])).reduce((a, b) => a + b, 0)
      : 0;
    const before = advised();
    const y = noGrad(() => new RMSNorm(1024).forward(x));
    console.log((advised() - before) >> 10, y.size);`;
  const there = existsSync('/sys/kernel/mm/transparent_hugepage/enabled');
  const [mebibytes] = run(script).split(' ').map(Number);
  // Those that lie wholly in the array.
  expect(mebibytes).toBeGreaterThanOrEqual(there ? 30 : 0);
  expect(mebibytes).toBeLessThanOrEqual(there ? 32 : 0);
});
