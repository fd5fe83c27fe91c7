// How statistics read a batch: as [outer][channels][inner] where it lies so, else as a copy.

import { TallyBlock } from '../internal/addon';
import { storage } from '../internal/call';
import { arrayKind, checkSize, describe, formatShape, lengthOf } from '../internal/errors';
import { fromMask, type NestedMask } from '../internal/mask';
import { asTensor, elementsOf, Tensor, type TensorData, type TensorFields, type TensorLike } from '../tensor';

export interface BatchOptions {
  /** Which axis has the features or channels, negative ones from the end; default 1, of one dimension none. */
  axis?: number | undefined;
  /** How many of the batch's channels are taken, from the first on: 3 of RGBA leaves alpha out. Default all of them. */
  channels?: number | undefined;
  /** One for each sample (N), or for each position (N, ...S): how often it counts. */
  weights?: Batch | undefined;
  /** Which samples (N) or positions (N, ...S) are data: nonzero or true. */
  mask?: NestedMask[] | Uint8Array | Tensor | TensorFields | undefined;
}
export const batchOptions = ['axis', 'channels', 'weights', 'mask'] as const;

/** [outer][features][inner] of x.data from x.offset on. */
export interface Samples {
  x: Tensor;
  outer: number;
  features: number;
  inner: number;
  /** Elements from one outer to the next. */
  stride: number;
  /** The sizes without the axis. */
  positions: readonly number[];
}

/** A tensor, or the values of one feature. */
export type Batch = TensorLike | Exclude<TensorData, Uint16Array | BigInt64Array>;

/** What has no shape has one dimension. */
const shaped = (batch: Batch): TensorLike =>
  ArrayBuffer.isView(batch) && arrayKind(batch) !== 'DataView'
    ? { data: batch as TensorData, shape: [lengthOf(batch)] }
    : (batch as TensorLike);

/** The view of x as it lies, where its axes collapse to that; null otherwise. */
function asItLies(x: Tensor, axis: number): Samples | null {
  const features = x.shape[axis] ?? 1;
  const between = features > 1 ? x.strides[axis]! : Infinity;
  const axes = x.shape.flatMap((size, i) => (i === axis || size === 1 ? [] : [{ size, stride: x.strides[i]! }]));
  let inner = 1;
  for (let last; (last = axes.at(-1)) && last.stride === inner && last.stride < between; axes.pop()) inner *= last.size;
  if (features > 1 && between !== inner) return null;
  const stride = axes.at(-1)?.stride ?? features * inner;
  let outer = 1;
  for (const { size, stride: own } of axes.reverse()) {
    if (own !== stride * outer) return null;
    outer *= size;
  }
  if (stride < features * inner) return null;
  return { x, outer, features, inner, stride, positions: x.shape.filter((_, i) => i !== axis) };
}

/** Reads a batch of so many features; `features` null for as many as it has. */
export function readSamples(batch: Batch, features: number | null, o: BatchOptions, where: string): Samples {
  const given = asTensor(shaped(batch), where, 'batch', 'float64');
  given.checkExtent(where, 'batch');
  if (given.dtype === 'int64') throw new TypeError(`${where}: batch is int64; convert it, to float64 or int32`);
  const { ndim } = given;
  if (ndim === 0) throw new RangeError(`${where}: batch must have a dimension of samples, but is a single number`);
  const asked = o.axis ?? (ndim === 1 ? null : 1);
  if (asked !== null && !Number.isInteger(asked)) {
    throw new TypeError(`${where}: axis must be an integer, but got ${describe(asked)}`);
  }
  const axis = asked === null ? -1 : asked < 0 ? asked + ndim : asked;
  if (asked !== null && !(axis >= 0 && axis < ndim)) {
    throw new RangeError(`${where}: axis must be from ${-ndim} to ${ndim - 1}, but got ${asked}`);
  }
  const own = axis < 0 ? 1 : given.shape[axis]!;
  const taken = o.channels === undefined ? own : checkSize(where, 'channels', o.channels, 1);
  if (taken > own) throw new RangeError(`${where}: ${taken} channels are asked for, the batch has ${own}`);
  if (features !== null && taken !== features) {
    throw new RangeError(
      `${where}: expected ${features} features, but got ${taken} (batch of shape ${formatShape(given.shape)}, ` +
        `${axis < 0 ? 'one feature' : `axis ${axis}`})`,
    );
  }
  const shape = given.shape.map((size, i) => (i === axis ? taken : size));
  const { data, strides, offset, dtype } = given;
  const x = taken === own ? given : new Tensor(data, shape, { strides, offset, dtype });
  if (x.size === 0) {
    const positions = shape.filter((_, i) => i !== axis);
    return { x, outer: 0, features: taken, inner: 1, stride: taken, positions };
  }
  return asItLies(x, axis) ?? asItLies(x.copy(), axis)!;
}

/** A weight for each position in the order of memory, from the weights and the mask of a call; null for ones. */
export function weightsOf({ positions }: Samples, { weights, mask }: BatchOptions, where: string): Float64Array | null {
  if (weights === undefined && mask === undefined) return null;
  const all = new Float64Array(elementsOf(positions)).fill(1);
  /** f(position, i) for what element i of an array of the first `rank` dimensions stands for. */
  const spread = (shape: readonly number[], name: string, times: (i: number) => number): void => {
    if (shape.length > positions.length || shape.some((size, i) => size !== positions[i])) {
      throw new RangeError(
        `${where}: ${name} must have the batch's first dimensions without its features, of ${formatShape(positions)}, ` +
          `but has ${formatShape(shape)}`,
      );
    }
    const each = elementsOf(positions.slice(shape.length));
    for (let i = 0; i < all.length; i++) all[i]! *= times(Math.floor(i / each));
  };
  if (weights !== undefined) {
    const t = asTensor(shaped(weights), where, 'weights', 'float64');
    const values = t.to('float64').contiguous();
    const numbers = values.data.subarray(values.offset, values.offset + values.size) as Float64Array;
    const bad = numbers.findIndex((w) => !(w >= 0 && w < Infinity));
    if (bad >= 0) {
      throw new RangeError(`${where}: weights must be finite and not negative, but weight ${bad} is ${numbers[bad]}`);
    }
    spread(t.shape, 'weights', (i) => numbers[i]!);
  }
  if (mask !== undefined) {
    // A plain array is of the positions, or of the samples.
    const samples = positions.slice(0, 1);
    const usual = ArrayBuffer.isView(mask) && (mask as Uint8Array).length === elementsOf(samples) ? samples : positions;
    const valid = fromMask(mask, usual, where);
    spread(valid.shape, 'mask', (i) => valid.flags[i]!);
  }
  return all;
}

// One for all calls: they are synchronous, and native copies it before all else.
const block = new Float64Array(TallyBlock.length);

/** The parameters of a native call. */
export function blockOf({ x, outer, features, inner, stride }: Samples, weights: Float64Array | null): Float64Array {
  block[TallyBlock.outer] = outer;
  block[TallyBlock.channels] = features;
  block[TallyBlock.inner] = inner;
  block[TallyBlock.stride] = stride;
  block[TallyBlock.offset] = x.offset;
  block[TallyBlock.flags] = storage(x);
  block[TallyBlock.given] = weights ? 4 : 0;
  return block;
}
