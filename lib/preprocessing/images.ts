// Images of bytes to tensors that a model takes, in one pass, and back.

import { addon, check, ImageBlock, Names, type DataArray } from '../internal/addon';
import { storage, target } from '../internal/call';
import {
  checkNumber,
  checkOptions,
  checkSize,
  describe,
  formatShape,
  lengthOf,
  viewAs,
  arrayKind,
} from '../internal/errors';
import { Layout, rowMajor } from '../internal/layout';
import { lending, type OutputPool } from '../output-pool';
import { asTensor, isDType, Tensor, type DType, type TensorData, type TensorLike } from '../tensor';

/** Rows of pixels of 1 to 4 interleaved bytes, as canvas, pngjs and jpeg-js have them. */
export interface RawImage {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
  /** Bytes a pixel; default what the data have room for. */
  channels?: number | undefined;
  /** Bytes from one row to the next; default width * channels. */
  rowStride?: number | undefined;
}
/** What sharp's `raw().toBuffer({ resolveWithObject: true })` resolves with. */
export interface SharpImage {
  data: Uint8Array;
  info: { width: number; height: number; channels: number };
}
export type ImageSource = RawImage | SharpImage;
/** One image, several, or a uint8 tensor (H, W, C) or (N, H, W, C). */
export type ImageLike = ImageSource | readonly ImageSource[] | Tensor;

type FloatName = 'float32' | 'float64' | 'float16' | 'bfloat16';
interface Scaling {
  /** What is taken from each channel's scaled values; a number is for all. Default 0. */
  mean?: number | readonly number[] | undefined;
  /** What they are then divided by. Default 1. */
  std?: number | readonly number[] | undefined;
  /** What bytes are multiplied by before; default 1 / 255. */
  scale?: number | undefined;
  /** How the tensor lies: planes or pixels; default 'chw'. */
  layout?: 'chw' | 'hwc' | undefined;
  /** Whether the tensor's channels are the image's, or the first three the other way round; default 'rgb'. */
  order?: 'rgb' | 'bgr' | undefined;
}
export interface ImageOptions extends Scaling {
  /** How many of the image's channels the tensor has, from the first on; default as many as mean or std name, else all. */
  channels?: number | undefined;
  dtype?: FloatName | undefined;
  out?: Tensor | TensorData | OutputPool | undefined;
}
export interface TensorToImagesOptions extends Scaling {
  out?: Tensor | Uint8Array | undefined;
}

/** `mean` and `std` of models: `imagesToTensor(image, { ...presets.imageNet })`. */
export const presets = {
  /** torchvision's, of the ImageNet training set. */
  imageNet: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
  /** OpenAI's CLIP. */
  clip: { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] },
  /** To [-1, 1]. */
  symmetric: { mean: 0.5, std: 0.5 },
} as const;

/** Images of one size, as the kernels take them: each of `parts` has `count` of them. */
interface Batch {
  parts: { bytes: Uint8Array; offset: number }[];
  /** Of all parts; null for one image without a batch dimension. */
  count: number | null;
  each: number;
  height: number;
  width: number;
  step: number;
  rowStride: number;
  imageStride: number;
}

function bytesOf(data: unknown, where: string): Uint8Array {
  const kind = arrayKind(data);
  if (kind === 'Uint8Array' || kind === 'Uint8ClampedArray') return viewAs(Uint8Array, data as Uint8Array);
  throw new TypeError(`${where}: data must be a Uint8Array, but got ${describe(data)}`);
}

function readImage(value: unknown, where: string): Omit<Batch, 'parts' | 'count'> & { bytes: Uint8Array } {
  const fields = value as Partial<RawImage & SharpImage> | null | undefined;
  if (typeof fields !== 'object' || fields === null || ArrayBuffer.isView(fields)) {
    throw new TypeError(`${where} must be {data, width, height} or sharp's {data, info}, but got ${describe(value)}`);
  }
  const { data, info, rowStride } = fields;
  const sizes = info ?? fields;
  const bytes = bytesOf(data, where);
  const width = checkSize(where, 'width', sizes.width);
  const height = checkSize(where, 'height', sizes.height);
  const length = lengthOf(bytes);
  const pixels = width * height;
  const room = pixels > 0 && rowStride === undefined ? length / pixels : 1;
  const step = sizes.channels === undefined ? room : checkSize(where, 'channels', sizes.channels, 1);
  if (!Number.isInteger(step) || step < 1 || step > 4) {
    throw new RangeError(`${where}: ${length} bytes are not 1 to 4 for each of ${width} x ${height} pixels`);
  }
  const stride = rowStride === undefined ? width * step : checkSize(where, 'rowStride', rowStride, width * step);
  const needed = pixels > 0 ? (height - 1) * stride + width * step : 0;
  if (length < needed || (rowStride === undefined && length !== needed)) {
    throw new RangeError(
      `${where}: data has ${length} bytes, ${height} rows of ${width} pixels of ${step} bytes ` +
        `${rowStride === undefined ? '' : `${stride} bytes apart `}need ${needed}`,
    );
  }
  return { bytes, each: 1, height, width, step, rowStride: stride, imageStride: height * stride };
}

function readTensor(x: Tensor, where: string): Batch {
  if (x.dtype !== 'uint8') throw new TypeError(`${where}: a tensor of images is uint8, but got ${x.dtype}`);
  if (x.ndim !== 3 && x.ndim !== 4) {
    throw new RangeError(
      `${where}: a tensor of images is (H, W, C) or (N, H, W, C), but got shape ${formatShape(x.shape)}`,
    );
  }
  x.checkExtent(where, 'images');
  const step = x.shape.at(-1)!;
  if (step < 1 || step > 4) {
    throw new RangeError(
      `${where}: images have 1 to 4 channels behind the rows, but got shape ${formatShape(x.shape)}`,
    );
  }
  const lies = x.strides.at(-1) === 1 && x.strides.at(-2) === step && x.strides.at(-3)! >= x.shape.at(-2)! * step;
  const own = lies ? x : x.contiguous();
  const [height, width] = own.shape.slice(-3) as [number, number];
  const rowStride = own.strides.at(-3)!;
  const batched = own.ndim === 4;
  const strideOk = !batched || own.strides[0]! >= height * rowStride;
  const dense = strideOk ? own : own.contiguous();
  const count = batched ? dense.shape[0]! : 1;
  return {
    parts: [{ bytes: dense.data as Uint8Array, offset: dense.offset }],
    count: batched ? count : null,
    each: count,
    height,
    width,
    step,
    rowStride: dense.strides.at(-3)!,
    imageStride: batched ? dense.strides[0]! : height * rowStride,
  };
}

function readBatch(images: unknown, where: string): Batch {
  if (images instanceof Tensor) return readTensor(images, where);
  if (!Array.isArray(images)) {
    const { bytes, ...own } = readImage(images, `${where}: the image`);
    return { ...own, parts: [{ bytes, offset: 0 }], count: null };
  }
  if (images.length === 0) throw new RangeError(`${where}: there are no images, and so no size`);
  const all = images.map((image, i) => readImage(image, `${where}: image ${i}`));
  const { bytes: _, ...first } = all[0]!;
  all.forEach(({ width, height, step, rowStride }, i) => {
    if (width === first.width && height === first.height && step === first.step && rowStride === first.rowStride)
      return;
    throw new RangeError(
      `${where}: image ${i} is ${width} x ${height} x ${step}, image 0 is ${first.width} x ${first.height} x ${first.step}; ` +
        `images of a batch have one size`,
    );
  });
  return { ...first, parts: all.map(({ bytes }) => ({ bytes, offset: 0 })), count: images.length };
}

function perChannel(where: string, name: string, value: number | readonly number[], channels: number): number[] {
  if (typeof value === 'number') return new Array<number>(channels).fill(checkNumber(where, name, value));
  const list: unknown = value;
  if (!Array.isArray(list)) {
    throw new TypeError(`${where}: ${name} must be a number or a list of them, but got ${describe(value)}`);
  }
  if (list.length !== channels) {
    throw new RangeError(`${where}: ${name} has ${list.length} values for ${channels} channels`);
  }
  return list.map((each) => checkNumber(where, name, each));
}

const scalingNames = ['mean', 'std', 'scale', 'layout', 'order'] as const;

function readScaling(where: string, options: Scaling, channels: number) {
  const { mean = 0, std = 1, scale = 1 / 255, layout = 'chw', order = 'rgb' } = options;
  if (layout !== 'chw' && layout !== 'hwc') {
    throw new TypeError(`${where}: layout must be 'chw' or 'hwc', but got ${describe(layout)}`);
  }
  if (order !== 'rgb' && order !== 'bgr') {
    throw new TypeError(`${where}: order must be 'rgb' or 'bgr', but got ${describe(order)}`);
  }
  if (order === 'bgr' && channels < 3)
    throw new RangeError(`${where}: order 'bgr' needs 3 channels, but got ${channels}`);
  const stds = perChannel(where, 'std', std, channels);
  if (stds.includes(0)) throw new RangeError(`${where}: std must not be 0`);
  if (checkNumber(where, 'scale', scale) === 0) throw new RangeError(`${where}: scale must not be 0`);
  return {
    planar: layout === 'chw',
    order: order === 'bgr' ? [2, 1, 0, 3] : [0, 1, 2, 3],
    // In units of bytes.
    mean: perChannel(where, 'mean', mean, channels).map((m) => m / scale),
    std: stds.map((s) => s / scale),
  };
}

// One for all calls: they are synchronous, and native copies it before all else.
const block = new Float64Array(ImageBlock.length);

function setBlock(batch: Batch, channels: number, scaling: ReturnType<typeof readScaling>, t: Tensor): void {
  block[ImageBlock.count] = batch.each;
  block[ImageBlock.height] = batch.height;
  block[ImageBlock.width] = batch.width;
  block[ImageBlock.step] = batch.step;
  block[ImageBlock.rowStride] = batch.rowStride;
  block[ImageBlock.imageStride] = batch.imageStride;
  block[ImageBlock.channels] = channels;
  block[ImageBlock.planar] = scaling.planar ? 1 : 0;
  block[ImageBlock.flags] = storage(t);
  block.set(scaling.order, ImageBlock.order);
  block.set(scaling.mean, ImageBlock.mean);
  block.set(scaling.std, ImageBlock.std);
}

const shapeOf = (batch: Batch, channels: number, planar: boolean): number[] => [
  ...(batch.count === null ? [] : [batch.count]),
  ...(planar ? [channels, batch.height, batch.width] : [batch.height, batch.width, channels]),
];

/**
 * Images of bytes as a tensor of floats, standardised, in one pass over memory and by all threads.
 *
 * y = (byte * scale - mean[c]) / std[c], worked out as (byte - mean / scale) * (scale / std): within 2 units in the last
 * place of the larger of the two terms.
 *
 * *Shape*: one image gives (C, H, W), a list or a tensor (N, H, W, C) gives (N, C, H, W); with `layout: 'hwc'`
 * (H, W, C) and (N, H, W, C). Images of a list have one size.
 *
 * *Options*: `mean` (0) and `std` (1), a number or one for each channel; `scale` (1 / 255); `layout` ('chw'); `channels`,
 * how many of the image's channels are taken (3 of RGBA leaves alpha out); `order` ('rgb'); `dtype` ('float32', or
 * 'float64', 'float16', 'bfloat16'); `out`.
 *
 * *Throws* TypeError for what is no image and no bytes; RangeError for sizes that the data do not fill, images of
 * different sizes, as many means or deviations as there are not channels, a deviation or scale of 0.
 *
 * *Matches* torchvision's ToTensor and Normalize.
 *
 * @example
 * const image = await sharp('cat.jpg').resize(224, 224).removeAlpha().raw().toBuffer({ resolveWithObject: true });
 * const x = imagesToTensor([image], presets.imageNet); // (1, 3, 224, 224)
 */
export function imagesToTensor(images: ImageLike, options: ImageOptions = {}): Tensor {
  const where = 'imagesToTensor';
  checkOptions(where, options, [...scalingNames, 'channels', 'dtype', 'out']);
  const { channels: asked, dtype = 'float32', mean, std, out } = options;
  const batch = readBatch(images, where);
  const named = [mean, std].find(Array.isArray) as readonly number[] | undefined;
  const channels = asked === undefined ? (named?.length ?? batch.step) : checkSize(where, 'channels', asked, 1);
  if (channels > batch.step) {
    throw new RangeError(`${where}: ${channels} channels are asked for, the images have ${batch.step}`);
  }
  if (!isDType(dtype) || !['float32', 'float64', 'float16', 'bfloat16'].includes(dtype)) {
    throw new TypeError(`${where}: dtype must be a floating point one, but got ${describe(dtype)}`);
  }
  const scaling = readScaling(where, options, channels);
  const shape = shapeOf(batch, channels, scaling.planar);
  const layout = new Layout(shape, rowMajor(shape));
  return lending(out, () => {
    const y = target(out, { dtype: dtype as DType, layout }, false, where);
    const each = layout.size / batch.parts.length;
    setBlock(batch, channels, scaling, y);
    batch.parts.forEach(({ bytes, offset }, i) => {
      block[ImageBlock.offsetTensor] = y.offset + i * each;
      block[ImageBlock.offsetBytes] = offset;
      check(addon.fromImages(block, y.data as DataArray, bytes), where, Names.fromImages);
    });
    return y;
  });
}

/**
 * The way back, to look at: byte = (y * std[c] + mean[c]) / scale, rounded to the nearest, to even, and held within 0 to
 * 255; NaN is 0.
 *
 * *Shape*: (C, H, W) gives a uint8 tensor (H, W, C), (N, C, H, W) gives (N, H, W, C); C is 1 to 4. With `layout: 'hwc'` the
 * input has the shape of the output.
 *
 * *Options*: `mean`, `std`, `scale`, `layout`, `order` as of `imagesToTensor`; `out`, a Uint8Array or uint8 tensor.
 *
 * *Throws* TypeError for integers, RangeError for other shapes, and as `imagesToTensor`.
 *
 * @example
 * const { data, shape } = tensorToImages(x, presets.imageNet);
 */
export function tensorToImages(input: TensorLike, options: TensorToImagesOptions = {}): Tensor {
  const where = 'tensorToImages';
  checkOptions(where, options, [...scalingNames, 'out']);
  const given = asTensor(input, where, 'input', 'float32');
  given.checkExtent(where, 'input');
  if (!['float32', 'float64', 'float16', 'bfloat16'].includes(given.dtype)) {
    throw new TypeError(`${where}: input must be floating point, but got ${given.dtype}`);
  }
  if (given.ndim !== 3 && given.ndim !== 4) {
    throw new RangeError(`${where}: input must have 3 or 4 dimensions, but got shape ${formatShape(given.shape)}`);
  }
  const planar = options.layout !== 'hwc';
  const x = given.contiguous();
  const sizes = x.shape.slice(-3) as [number, number, number];
  const [channels, height, width] = planar ? sizes : [sizes[2], sizes[0], sizes[1]];
  if (channels < 1 || channels > 4) {
    throw new RangeError(`${where}: images have 1 to 4 channels, but got shape ${formatShape(given.shape)}`);
  }
  const scaling = readScaling(where, options, channels);
  const count = x.ndim === 4 ? x.shape[0]! : null;
  const shape = [...(count === null ? [] : [count]), height, width, channels];
  const y = target(options.out, { dtype: 'uint8', layout: new Layout(shape, rowMajor(shape)) }, false, where);
  const rowStride = width * channels;
  const imageStride = height * rowStride;
  const each = count ?? 1;
  setBlock({ parts: [], count, each, height, width, step: channels, rowStride, imageStride }, channels, scaling, x);
  block[ImageBlock.offsetTensor] = x.offset;
  block[ImageBlock.offsetBytes] = y.offset;
  check(addon.toImages(block, x.data as DataArray, y.data as Uint8Array), where, Names.toImages);
  return y;
}
