import { describe, expect, it } from '@jest/globals';
import { OutputPool, Tensor, tensor } from '../../lib';
import { imagesToTensor, presets, tensorToImages } from '../../lib/preprocessing';

const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (i * 7919 + 13) % 256);
const image = (width: number, height: number, channels: number) => ({
  data: bytes(width * height * channels),
  width,
  height,
  channels,
});
const { mean, std } = presets.imageNet;

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
