// Images of bytes to tensors that a model takes, in one pass, and back.

import { addon, check, ImageBlock, Names, type Addon, type DataArray } from '../internal/addon';
import { deliver, directly } from '../internal/async';
import { storage, target } from '../internal/call';
import {
  arrayKind,
  checkNumber,
  checkOptions,
  checkSize,
  describe,
  formatShape,
  isShared,
  lengthOf,
  viewAs,
} from '../internal/errors';
import { Layout, rowMajor } from '../internal/layout';
import { allocateOutput } from '../internal/memory';
import { lending, type OutputPool } from '../output-pool';
import { asTensor, Tensor, type TensorData, type TensorLike } from '../tensor';

/** Rows of pixels of 1 to 4 interleaved bytes, as canvas, pngjs and jpeg-js have them. */
export interface RawImage {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
  /** Bytes a pixel; default what the data have room for. Needed beside `rowStride`. */
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

const floats = ['float32', 'float64', 'float16', 'bfloat16'] as const;
type FloatName = (typeof floats)[number];
const isFloatName = (dtype: unknown): dtype is FloatName => floats.includes(dtype as FloatName);

/** A number for each channel, as `RunningMoments` has them too. */
type PerChannel = readonly number[] | Float32Array | Float64Array;
interface Scaling {
  /** What is taken from each channel's scaled values; a number is for all. Default 0. */
  mean?: number | PerChannel | undefined;
  /** What they are then divided by. Default 1. */
  std?: number | PerChannel | undefined;
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
export interface ImageAsyncOptions extends ImageOptions {
  /** Written at the end, unless it is in a SharedArrayBuffer. */
  out?: Tensor | TensorData | undefined;
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

/** Images of one size, as the kernels take them. */
interface Batch {
  /** Each begins with `each` images. */
  arrays: Uint8Array[];
  each: number;
  /** Of all images, or null for one without a batch dimension. */
  count: number | null;
  height: number;
  width: number;
  step: number;
  rowStride: number;
  imageStride: number;
}

/** Bytes from the first pixel of an array to the last. */
const extent = ({ each, height, width, step, rowStride, imageStride }: Batch): number =>
  each * height * width > 0 ? (each - 1) * imageStride + (height - 1) * rowStride + width * step : 0;

function bytesOf(data: unknown, where: string): Uint8Array {
  const kind = arrayKind(data);
  if (kind === 'Uint8Array' || kind === 'Uint8ClampedArray') return viewAs(Uint8Array, data as Uint8Array);
  throw new TypeError(`${where}: data must be a Uint8Array, but got ${describe(data)}`);
}

function readImage(value: unknown, where: string): Batch {
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
  let step: number;
  if (sizes.channels !== undefined || rowStride !== undefined || pixels === 0) {
    step = checkSize(where, 'channels', sizes.channels, 1);
    if (step > 4) throw new RangeError(`${where}: an image has 1 to 4 channels, but got ${step}`);
  } else {
    step = length / pixels;
    if (!Number.isInteger(step) || step < 1 || step > 4) {
      throw new RangeError(`${where}: ${length} bytes are not 1 to 4 for each of ${width} x ${height} pixels`);
    }
  }
  const stride = rowStride === undefined ? width * step : checkSize(where, 'rowStride', rowStride, width * step);
  const imageStride = height * stride;
  const image = { arrays: [bytes], each: 1, count: null, height, width, step, rowStride: stride, imageStride };
  const needed = extent(image);
  if (length < needed || (rowStride === undefined && length !== needed)) {
    throw new RangeError(
      `${where}: data has ${length} bytes, ${height} rows of ${width} pixels of ${step} bytes ` +
        `${rowStride === undefined ? '' : `${stride} bytes apart `}need ${needed}`,
    );
  }
  return image;
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
  const [height, width] = x.shape.slice(-3) as [number, number];
  // Rows of whole pixels, as a crop has them too.
  const lies = ({ strides }: Tensor): boolean =>
    strides.at(-1) === 1 &&
    strides.at(-2) === step &&
    strides.at(-3)! >= width * step &&
    (x.ndim === 3 || strides[0]! >= height * strides[1]!);
  const own = lies(x) ? x : x.contiguous();
  const rowStride = own.strides.at(-3)!;
  const [count, imageStride] = x.ndim === 4 ? [x.shape[0]!, own.strides[0]!] : [null, height * rowStride];
  const arrays = [viewAs(Uint8Array, own.data).subarray(own.offset)];
  return { arrays, each: count ?? 1, count, height, width, step, rowStride, imageStride };
}

function readBatch(images: unknown, where: string): Batch {
  if (images instanceof Tensor) return readTensor(images, where);
  if (!Array.isArray(images)) return readImage(images, `${where}: the image`);
  if (images.length === 0) throw new RangeError(`${where}: there are no images, and so no size`);
  const all = images.map((image, i) => readImage(image, `${where}: image ${i}`));
  const first = all[0]!;
  const sizes = ({ width, height, step, rowStride }: Batch): string =>
    `${width} x ${height} x ${step}${rowStride === width * step ? '' : `, rows ${rowStride} bytes apart`}`;
  const other = all.findIndex((image) => sizes(image) !== sizes(first));
  if (other > 0) {
    throw new RangeError(
      `${where}: image ${other} is ${sizes(all[other]!)}, image 0 is ${sizes(first)}; images of a batch have one size`,
    );
  }
  return { ...first, arrays: all.flatMap(({ arrays }) => arrays), count: all.length };
}

function perChannel(where: string, name: string, value: number | PerChannel, channels: number): number[] {
  if (typeof value === 'number') return new Array<number>(channels).fill(checkNumber(where, name, value));
  if (!Array.isArray(value) && arrayKind(value) !== 'Float64Array' && arrayKind(value) !== 'Float32Array') {
    throw new TypeError(`${where}: ${name} must be a number or a list of them, but got ${describe(value)}`);
  }
  const list: unknown[] = Array.from(value as readonly number[]);
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

function setBlock(batch: Batch, channels: number, scaling: ReturnType<typeof readScaling>, x: Tensor): void {
  block[ImageBlock.count] = batch.each;
  block[ImageBlock.height] = batch.height;
  block[ImageBlock.width] = batch.width;
  block[ImageBlock.step] = batch.step;
  block[ImageBlock.rowStride] = batch.rowStride;
  block[ImageBlock.imageStride] = batch.imageStride;
  block[ImageBlock.channels] = channels;
  block[ImageBlock.planar] = scaling.planar ? 1 : 0;
  block[ImageBlock.offsetTensor] = x.offset;
  block[ImageBlock.flags] = storage(x);
  block.set(scaling.order, ImageBlock.order);
  block.set(scaling.mean, ImageBlock.mean);
  block.set(scaling.std, ImageBlock.std);
}

const shapeOf = (batch: Batch, channels: number, planar: boolean): number[] => [
  ...(batch.count === null ? [] : [batch.count]),
  ...(planar ? [channels, batch.height, batch.width] : [batch.height, batch.width, channels]),
];

/** What imagesToTensor is asked for. */
interface Conversion {
  batch: Batch;
  channels: number;
  scaling: ReturnType<typeof readScaling>;
  output: { dtype: FloatName; layout: Layout };
}

function readConversion(where: string, images: unknown, options: ImageOptions): Conversion {
  checkOptions(where, options, [...scalingNames, 'channels', 'dtype', 'out']);
  const { channels: asked, dtype = 'float32', mean, std } = options;
  const batch = readBatch(images, where);
  const named = [mean, std].find((each) => typeof each === 'object') as PerChannel | undefined;
  const channels = asked === undefined ? (named?.length ?? batch.step) : checkSize(where, 'channels', asked, 1);
  if (channels > batch.step) {
    throw new RangeError(`${where}: ${channels} channels are asked for, the images have ${batch.step}`);
  }
  if (!isFloatName(dtype)) {
    throw new TypeError(`${where}: dtype must be a floating point one, but got ${describe(dtype)}`);
  }
  const scaling = readScaling(where, options, channels);
  const shape = shapeOf(batch, channels, scaling.planar);
  return { batch, channels, scaling, output: { dtype, layout: new Layout(shape, rowMajor(shape)) } };
}

/** `enter`: addon.fromImages, or another way there. */
function convert(where: string, conversion: Conversion, y: Tensor, enter: Addon['fromImages']): void {
  const { batch, channels, scaling } = conversion;
  setBlock(batch, channels, scaling, y);
  check(enter(block, y.data as DataArray, batch.arrays), where, Names.fromImages);
}

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
  const conversion = readConversion(where, images, options);
  return lending(options.out, () => {
    const y = target(options.out, conversion.output, false, where);
    convert(where, conversion, y, addon.fromImages);
    return y;
  });
}

/**
 * `imagesToTensor` on another thread, with its bits, while the event loop goes on.
 *
 * Images in SharedArrayBuffers are read where they lie, and must be left alone until the promise settles. All others are
 * copied before this returns, and may change or go at once.
 *
 * *Options*: those of `imagesToTensor`. `out` is written at the end, unless it is in a SharedArrayBuffer; an OutputPool is
 * refused.
 *
 * *Throws* nothing: it rejects with the errors of `imagesToTensor`.
 *
 * *Matches* nothing in torchvision.
 *
 * @example
 * const x = await imagesToTensorAsync(images, presets.imageNet);
 */
export async function imagesToTensorAsync(images: ImageLike, options: ImageAsyncOptions = {}): Promise<Tensor> {
  const where = 'imagesToTensorAsync';
  const conversion = readConversion(where, images, options);
  const { batch, output } = conversion;
  const { out } = options;
  const y = target(directly(out, output, false, where), output, false, where);
  const { arrays, memory } = withdrawn(batch, where);
  try {
    const fault = await new Promise<number>((settle) => {
      const enter: Addon['fromImages'] = (...all) => addon.fromImagesAsync(...all, settle);
      convert(where, { ...conversion, batch: { ...batch, arrays } }, y, enter);
    });
    check(fault, where, Names.fromImages);
  } finally {
    idle = new WeakRef(memory);
  }
  return deliver(y, out, false, where);
}

// Where the latest call had its copies, if the collector has left it: the first touch of new pages would take four times
// as long as the copying.
let idle = new WeakRef(new ArrayBuffer(0));

/** The arrays that lie in shared memory, and copies of all others in memory that nobody else knows. */
function withdrawn({ arrays, ...batch }: Batch, where: string): { arrays: Uint8Array[]; memory: ArrayBuffer } {
  const length = extent({ arrays, ...batch });
  const needed = length * arrays.filter((bytes) => !isShared(bytes)).length;
  let memory = idle.deref();
  if (memory && memory.byteLength >= needed) idle = new WeakRef(new ArrayBuffer(0));
  else memory = allocateOutput('uint8', needed, where).buffer as ArrayBuffer;
  let at = 0;
  const own = arrays.map((bytes) => {
    if (isShared(bytes)) return bytes;
    const copy = new Uint8Array(memory, at, length);
    copy.set(bytes.subarray(0, length));
    at += length;
    return copy;
  });
  return { arrays: own, memory };
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
  if (!isFloatName(given.dtype)) {
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
  setBlock({ arrays: [], count, each, height, width, step: channels, rowStride, imageStride }, channels, scaling, x);
  const bytes = viewAs(Uint8Array, y.data).subarray(y.offset, y.offset + y.size);
  check(addon.toImages(block, x.data as DataArray, bytes), where, Names.toImages);
  return y;
}
