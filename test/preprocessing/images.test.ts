import { describe, expect, it } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { OutputPool, Tensor, tensor } from '../../lib';
import { addon } from '../../lib/internal/addon';
import { imagesToTensor, imagesToTensorAsync, presets, tensorToImages } from '../../lib/preprocessing';

const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (i * 7919 + 13) % 256);
const image = (width: number, height: number, channels: number) => ({
  data: bytes(width * height * channels),
  width,
  height,
  channels,
});
const { mean, std } = presets.imageNet;
const shared = (data: Uint8Array): Uint8Array => {
  const own = new Uint8Array(new SharedArrayBuffer(data.length));
  own.set(data);
  return own;
};
const detach = ({ buffer }: Uint8Array | Float32Array): void => {
  structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
};

describe('imagesToTensor', () => {
  it.each([
    [5, 3, 3],
    [33, 17, 4],
    [224, 5, 3],
  ])('is (byte / 255 - mean) / std in planes: %d x %d x %d', (width, height, channels) => {
    const source = image(width, height, channels);
    const y = imagesToTensor(source, presets.imageNet);
    expect(y.shape).toEqual([3, height, width]);
    for (let c = 0; c < 3; c++) {
      for (let pixel = 0; pixel < width * height; pixel++) {
        const exact = (source.data[pixel * channels + c]! / 255 - mean[c]!) / std[c]!;
        expect(Math.abs((y.data[c * width * height + pixel] as number) - exact)).toBeLessThan(1e-6);
      }
    }
  });

  it('gives (byte / 255) without options, of all channels', () => {
    const source = image(4, 2, 4);
    const y = imagesToTensor([source], { layout: 'hwc' });
    expect(y.shape).toEqual([1, 2, 4, 4]);
    expect(Array.from(y.data as Float32Array)).toEqual(
      Array.from(source.data, (b) => Math.fround(b * Math.fround(1 / 255))),
    );
  });

  it('takes what sharp, canvas and a tensor have', () => {
    const { data, width, height } = image(6, 4, 3);
    const plain = imagesToTensor({ data, width, height });
    expect(imagesToTensor({ data, info: { width, height, channels: 3 } })).toEqual(plain);
    expect(imagesToTensor({ data: Buffer.from(data), width, height })).toEqual(plain);
    expect(imagesToTensor({ data: Uint8ClampedArray.from(data), width, height })).toEqual(plain);
    expect(imagesToTensor(tensor(data, [height, width, 3]))).toEqual(plain);
    expect(imagesToTensor(tensor(data, [1, height, width, 3])).data).toEqual(plain.data);
  });

  it('takes a list as it takes each of it', () => {
    const sources = Array.from({ length: 40 }, (_, i) => ({ ...image(50, 40, 3), data: bytes(6000 + i).subarray(i) }));
    const y = imagesToTensor(sources, presets.imageNet).data as Float32Array;
    sources.forEach((source, i) => {
      expect(y.subarray(i * 6000, (i + 1) * 6000)).toEqual(imagesToTensor(source, presets.imageNet).data);
    });
  });

  it('takes the part of a tensor where it lies', () => {
    const [n, height, width] = [3, 7, 9];
    const whole = bytes(n * height * width * 3);
    const crop = new Tensor(whole, [2, 4, 5, 3], { strides: [height * width * 3, width * 3, 3, 1], offset: 33 });
    expect(imagesToTensor(crop).data).toEqual(imagesToTensor(crop.copy()).data);
    const turned = new Tensor(whole, [n, width, height, 3], { strides: [height * width * 3, 3, width * 3, 1] });
    expect(imagesToTensor(turned).data).toEqual(imagesToTensor(turned.copy()).data);
  });

  it('skips what lies between rows', () => {
    const [width, height, gap] = [5, 4, 7];
    const dense = image(width, height, 3);
    const rowStride = width * 3 + gap;
    const padded = new Uint8Array(rowStride * height - gap).fill(99);
    for (let row = 0; row < height; row++) {
      padded.set(dense.data.subarray(row * width * 3, (row + 1) * width * 3), row * rowStride);
    }
    const y = imagesToTensor({ data: padded, width, height, channels: 3, rowStride }, presets.clip);
    expect(y.data).toEqual(imagesToTensor(dense, presets.clip).data);
  });

  it('turns the channels round, for bgr', () => {
    const source = image(3, 3, 3);
    const [rgb, bgr] = [imagesToTensor(source), imagesToTensor(source, { order: 'bgr' })];
    const plane = (y: Tensor, c: number) => (y.data as Float32Array).subarray(c * 9, c * 9 + 9);
    expect(plane(bgr, 0)).toEqual(plane(rgb, 2));
    expect(plane(bgr, 1)).toEqual(plane(rgb, 1));
  });

  it('writes where it is told, and lends from a pool', () => {
    const source = image(8, 8, 3);
    const out = new Float32Array(192);
    expect(imagesToTensor(source, { out }).data).toBe(out);
    expect(out).toEqual(imagesToTensor(source).data);
    const pool = new OutputPool();
    expect(imagesToTensor(source, { out: pool }).data).toEqual(out);
    expect(pool.lentBytes).toBeGreaterThan(0);
  });

  it('has float64, float16 and bfloat16', () => {
    const source = image(8, 8, 1);
    const single = imagesToTensor(source).data as Float32Array;
    expect(imagesToTensor(source, { dtype: 'float64' }).data[5]).toBeCloseTo(source.data[5]! / 255, 15);
    for (const dtype of ['float16', 'bfloat16'] as const) {
      const half = imagesToTensor(source, { dtype });
      expect(half.dtype).toBe(dtype);
      (half.toArray() as unknown as number[][][])
        .flat(2)
        .forEach((v, i) => expect(v).toBeCloseTo(single[i]!, dtype === 'float16' ? 3 : 2));
    }
  });

  it.each<[string, () => unknown, new (message: string) => Error, RegExp]>([
    ['no image', () => imagesToTensor(3 as never), TypeError, /the image must be \{data, width, height\}.*got 3/],
    [
      'no bytes',
      () => imagesToTensor({ data: new Float32Array(3), width: 1, height: 1 } as never),
      TypeError,
      /data must be a Uint8Array, but got a Float32Array/,
    ],
    [
      'too few',
      () => imagesToTensor({ data: bytes(11), width: 2, height: 2, channels: 3 }),
      RangeError,
      /data has 11 bytes.*need 12/,
    ],
    [
      'five channels',
      () => imagesToTensor({ data: bytes(20), width: 2, height: 2 }),
      RangeError,
      /20 bytes are not 1 to 4/,
    ],
    [
      'too many channels',
      () => imagesToTensor({ data: bytes(20), width: 2, height: 2, channels: 5 }),
      RangeError,
      /an image has 1 to 4 channels, but got 5/,
    ],
    [
      'a stride without channels',
      () => imagesToTensor({ data: bytes(12), width: 2, height: 2, rowStride: 6 }),
      TypeError,
      /channels must be an integer, but got undefined/,
    ],
    [
      'sizes beyond everything',
      () => imagesToTensor({ data: bytes(12), width: 2 ** 31, height: 2 ** 31, channels: 4 }),
      RangeError,
      /data has 12 bytes/,
    ],
    [
      'a detached buffer',
      () => {
        const source = image(2, 2, 3);
        detach(source.data);
        return imagesToTensor([image(2, 2, 3), source]);
      },
      RangeError,
      /image 1: data has 0 bytes/,
    ],
    [
      'out over an image',
      () => {
        const memory = new ArrayBuffer(48);
        const data = new Uint8Array(memory, 0, 12);
        return imagesToTensor([image(2, 2, 3), { data, width: 2, height: 2 }].slice(1), {
          out: new Float32Array(memory),
        });
      },
      RangeError,
      /out overlaps another argument/,
    ],
    ['none', () => imagesToTensor([]), RangeError, /there are no images/],
    [
      'sizes',
      () => imagesToTensor([image(2, 2, 3), image(2, 3, 3)]),
      RangeError,
      /image 1 is 2 x 3 x 3, image 0 is 2 x 2 x 3/,
    ],
    [
      'means',
      () => imagesToTensor(image(2, 2, 1), { mean: [1, 2], channels: 1 }),
      RangeError,
      /mean has 2 values for 1 channels/,
    ],
    ['std', () => imagesToTensor(image(2, 2, 1), { std: 0 }), RangeError, /std must not be 0/],
    [
      'more channels',
      () => imagesToTensor(image(2, 2, 1), presets.imageNet),
      RangeError,
      /3 channels are asked for, the images have 1/,
    ],
    [
      'out',
      () => imagesToTensor(image(2, 2, 1), { out: new Float32Array(3) }),
      RangeError,
      /out must be float32 with 4 elements/,
    ],
    ['option', () => imagesToTensor(image(2, 2, 1), { means: 3 } as never), TypeError, /unknown option "means"/],
    ['rank', () => imagesToTensor(tensor(bytes(4), [4])), RangeError, /is \(H, W, C\) or \(N, H, W, C\)/],
    ['floats', () => imagesToTensor(tensor(new Float32Array(4), [2, 2, 1])), TypeError, /is uint8, but got float32/],
  ])('refuses: %s', (_, call, kind, message) => {
    expect(call).toThrow(kind);
    expect(call).toThrow(message);
  });
});

it('a list that takes memory away while it is read is refused', () => {
  const block = Float64Array.of(1, 2, 2, 3, 6, 12, 3, 1, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 1, 1, 1, 1);
  const taking = (from: Uint8Array | Float32Array, first: Uint8Array): Uint8Array[] =>
    Object.defineProperty([first], 1, {
      get() {
        detach(from);
        return bytes(12);
      },
    });
  const [y, first] = [new Float32Array(24), bytes(12)];
  const length = 3 * 16;
  expect(addon.fromImages(block, y, [first, bytes(12)])).toBe(0);
  expect(addon.fromImages(block, y, taking(first, first))).toBe(length + 2);
  expect(addon.fromImages(block, y, taking(y, bytes(12)))).toBe(length + 1);
  const throwing = Object.defineProperty([bytes(12)], 1, {
    get() {
      throw new Error('asked');
    },
  });
  expect(addon.fromImages(block, new Float32Array(24), throwing)).toBe(16 + 2);
});

describe('imagesToTensorAsync', () => {
  const options = { ...presets.clip, layout: 'hwc' } as const;
  const sources = () => [image(19, 7, 4), image(19, 7, 4)];
  const expected = imagesToTensor(sources(), options);

  it('has the bits of imagesToTensor, of memory of all kinds', async () => {
    expect(await imagesToTensorAsync(sources(), options)).toEqual(expected);
    const mixed = sources().map((source, i) => (i ? { ...source, data: shared(source.data) } : source));
    expect(await imagesToTensorAsync(mixed, options)).toEqual(expected);
    const whole = new Uint8Array(1 + 2 * 19 * 7 * 4);
    sources().forEach(({ data }, i) => whole.set(data, 1 + i * data.length));
    for (const data of [whole, shared(whole)]) {
      const x = new Tensor(data, [2, 7, 19, 4], { offset: 1 });
      expect(await imagesToTensorAsync(x, options)).toEqual(expected);
    }
    for (const dtype of ['float64', 'float16', 'bfloat16'] as const) {
      expect(await imagesToTensorAsync(sources(), { dtype })).toEqual(imagesToTensor(sources(), { dtype }));
    }
    expect((await imagesToTensorAsync({ data: bytes(0), width: 0, height: 3, channels: 3 })).shape).toEqual([3, 3, 0]);
  });

  it('does not care what happens to the images after the call', async () => {
    for (const spoil of [(data: Uint8Array) => data.fill(0), detach]) {
      const own = sources();
      const promise = imagesToTensorAsync(own, options);
      own.forEach(({ data }) => spoil(data));
      own.length = 0;
      expect(await promise).toEqual(expected);
    }
  });

  it('writes to `out` at the end, or where it lies if it is shared', async () => {
    const out = new Float32Array(expected.size);
    const promise = imagesToTensorAsync(sources(), { ...options, out });
    await Promise.resolve();
    expect(out.every((v) => v === 0)).toBe(true);
    expect((await promise).data).toBe(out);
    expect(out).toEqual(expected.data);
    const place = new Float32Array(new SharedArrayBuffer(4 * expected.size));
    expect((await imagesToTensorAsync(sources(), { ...options, out: place })).data).toBe(place);
    expect(Float32Array.from(place)).toEqual(expected.data);
  });

  it('refuses by rejecting', async () => {
    const pool = new OutputPool();
    const gone = new Float32Array(expected.size);
    const late = imagesToTensorAsync(sources(), { ...options, out: gone });
    detach(gone);
    await expect(late).rejects.toThrow(/imagesToTensorAsync: out must be float32 with/);
    await expect(imagesToTensorAsync(sources(), { out: pool } as object)).rejects.toThrow(
      /imagesToTensorAsync: out must be.*lends to synchronous calls only/,
    );
    expect(pool.lentBytes).toBe(0);
    await expect(imagesToTensorAsync([])).rejects.toThrow(/imagesToTensorAsync: there are no images/);
    await expect(imagesToTensorAsync(sources(), { std: 0 })).rejects.toThrow(RangeError);
    const both = new Float32Array(new SharedArrayBuffer(48));
    const over = { data: new Uint8Array(both.buffer, 0, 12), width: 2, height: 2 };
    await expect(imagesToTensorAsync(over, { out: both })).rejects.toThrow(/out overlaps another argument/);
  });

  describe('in a process of its own', () => {
    const run = (script: string): string => {
      const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['-e', script], {
        cwd: join(__dirname, '..', '..'),
        encoding: 'utf8',
      });
      return `${stdout}${stderr}${signal ?? status}`;
    };
    const begin = `
      const s = require('./dist'), p = require('./dist/preprocessing');
      const x = s.tensor(new Uint8Array(new SharedArrayBuffer(128 * 224 * 224 * 3)).fill(255), [128, 224, 224, 3]);
      const all = () => Array.from({ length: 6 }, () => p.imagesToTensorAsync(x, { dtype: 'float64' }));`;
    it('timers fire while it computes', () => {
      const script = `${begin}
        const calls = all();
        let turns = 0, pending = true;
        const turn = () => { if (pending) { turns++; setImmediate(turn); } };
        turn();
        Promise.all(calls).then((ys) => { pending = false; console.log(turns > 20, ys.every((y) => y.data.at(-1) === 1)); });`;
      expect(run(script)).toBe('true true\n0');
    });
    it('a Worker is terminated with work pending', () => {
      const script = `
        const { Worker } = require('node:worker_threads');
        const work = \`${begin} setInterval(() => {}, 1000); all(); require('node:worker_threads').parentPort.postMessage(0);\`;
        (async () => {
          for (let i = 0; i < 5; i++) {
            const worker = new Worker(work, { eval: true });
            await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
            await new Promise((resolve) => setTimeout(resolve, 10 * i));
            await worker.terminate();
          }
          ${begin}
          console.log((await Promise.all(all())).length);
        })();`;
      expect(run(script)).toBe('6\n0');
    });
  });
});

describe('tensorToImages', () => {
  it.each(['chw', 'hwc'] as const)('is the way back, %s', (layout) => {
    const sources = [image(19, 7, 3), image(19, 7, 3)];
    const x = imagesToTensor(sources, { ...presets.imageNet, layout });
    const back = tensorToImages(x, { ...presets.imageNet, layout });
    expect(back.shape).toEqual([2, 7, 19, 3]);
    expect(back.data).toEqual(Uint8Array.from(sources.flatMap(({ data }) => [...data])));
  });
  it('holds bytes within 0 to 255', () => {
    const y = tensorToImages(tensor(Float32Array.of(-1, 0.5, 2, NaN), [1, 2, 2]));
    expect(Array.from(y.data as Uint8Array)).toEqual([0, 128, 255, 0]);
  });
  it('refuses integers and other shapes', () => {
    expect(() => tensorToImages(tensor(bytes(4), [1, 2, 2]))).toThrow(/must be floating point, but got uint8/);
    expect(() => tensorToImages(tensor(new Float32Array(4), [4]))).toThrow(/must have 3 or 4 dimensions/);
    expect(() => tensorToImages(tensor(new Float32Array(20), [5, 2, 2]))).toThrow(/1 to 4 channels/);
  });
});
