// Data with a shape. No arithmetic: a way to say what an array means, and to pass other libraries' tensors in.

import { arrayKind, checkOptions, checkSize, describe, formatShape, lengthOf } from './internal/errors';

export type DType = 'float32' | 'float64' | 'int64' | 'uint8';
export type TensorData = Float32Array | Float64Array | BigInt64Array | Uint8Array;

/** Anything that says what its data mean: ours, `{data, dims}` of onnxruntime, `{data, shape, stride, offset}` of ndarray. */
export interface TensorFields {
  data: TensorData;
  shape?: readonly number[];
  dims?: readonly number[];
  strides?: readonly number[];
  stride?: readonly number[];
  offset?: number;
}
export type NestedArray = number | readonly NestedArray[];
export type TensorLike = Tensor | TensorFields | NestedArray;

const dtypeOfKind: Record<string, DType> = {
  Float32Array: 'float32',
  Float64Array: 'float64',
  BigInt64Array: 'int64',
  Uint8Array: 'uint8',
};
const kindOfDtype = {
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
} as const;

export function isDType(value: unknown): value is DType {
  return typeof value === 'string' && Object.hasOwn(kindOfDtype, value);
}

/** Zeros. */
export function allocate(dtype: DType, length: number): TensorData {
  return new kindOfDtype[dtype](length);
}

export function elementsOf(shape: readonly number[]): number {
  let product = 1;
  for (let i = 0; i < shape.length; i++) product *= shape[i]!;
  return product;
}

function rowMajor(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= Math.max(shape[i]!, 1);
  }
  return strides;
}

/** Whether two strides mean the same walk through `shape`; a stride of a dimension of size 1 means nothing. */
function sameWalk(shape: readonly number[], a: readonly number[], b: readonly number[]): boolean {
  for (let i = 0; i < shape.length; i++) if (shape[i] !== 1 && a[i] !== b[i]) return false;
  return true;
}

/** The order (0, 2, 3, ..., 1) that channels-last memory has. */
function channelsLastStrides(shape: readonly number[]): number[] {
  const [n, c, ...spatial] = shape as [number, number, ...number[]];
  const [stepN, ...rest] = rowMajor([n, ...spatial, c]);
  return [stepN!, rest.pop()!, ...rest];
}

/**
 * A view of a typed array: element (i, j, ...) is `data[offset + i * strides[0] + j * strides[1] + ...]`.
 *
 * @example
 * const nhwc = tensor(new Float32Array(2 * 4 * 4 * 3), [2, 4, 4, 3]);
 * const x = nhwc.permute(0, 3, 1, 2); // (N, C, H, W), no copy; layers recognise channels-last by its strides
 */
export class Tensor {
  readonly data: TensorData;
  readonly shape: readonly number[];
  /** In elements, not bytes. */
  readonly strides: readonly number[];
  readonly offset: number;
  readonly dtype: DType;
  #contiguous: boolean | undefined;

  /**
   * @throws TypeError for data that is no Float32Array, Float64Array, BigInt64Array or Uint8Array
   * @throws RangeError for a shape that the data do not fill, or strides that leave them
   */
  constructor(
    data: TensorData,
    shape: readonly number[],
    view: { strides?: readonly number[]; offset?: number } = {},
    where = 'Tensor',
  ) {
    const dtype = dtypeOfKind[arrayKind(data) ?? ''];
    if (!dtype) {
      throw new TypeError(
        `${where}: data must be a Float32Array, Float64Array, BigInt64Array or Uint8Array, but got ${describe(data)}`,
      );
    }
    if (!isListLike(shape)) throw new TypeError(`${where}: shape must be an array, but got ${describe(shape)}`);
    this.data = data;
    this.dtype = dtype;
    this.shape = Object.freeze(Array.from(shape, (size, i) => checkSize(where, `shape[${i}]`, size)));
    this.offset = checkSize(where, 'offset', view.offset ?? 0);
    const elements = elementsOf(this.shape);
    if (!Number.isSafeInteger(elements)) {
      throw new RangeError(`${where}: shape ${formatShape(this.shape)} has more than 2^53 elements`);
    }
    if (view.strides === undefined) {
      this.strides = Object.freeze(rowMajor(this.shape));
      if (view.offset === undefined && lengthOf(data) !== elements) {
        throw new RangeError(
          `${where}: data has ${lengthOf(data)} elements, shape ${formatShape(this.shape)} needs ${elements}`,
        );
      }
    } else {
      if (!isListLike(view.strides) || view.strides.length !== this.shape.length) {
        throw new RangeError(
          `${where}: strides must be an array of ${this.shape.length} integers, one for each dimension`,
        );
      }
      this.strides = Object.freeze(Array.from(view.strides, (step, i) => checkStride(where, `strides[${i}]`, step)));
    }
    this.checkExtent(where, 'data');
  }

  /**
   * That every element lies inside the data: what a constructor has checked, and what a later detach or resize can undo.
   * @internal
   */
  checkExtent(where: string, name: string): void {
    const { shape, strides } = this;
    let low = this.offset;
    let high = this.offset;
    for (let i = 0; i < shape.length; i++) {
      if (shape[i] === 0) return;
      const reach = (shape[i]! - 1) * strides[i]!;
      if (reach < 0) low += reach;
      else high += reach;
    }
    const length = lengthOf(this.data);
    if (low >= 0 && high < length) return;
    const gone = length === 0 ? '; its buffer is detached or was shrunk' : '';
    throw new RangeError(
      `${where}: ${name} has ${length} elements, shape ${formatShape(shape)} with strides ${formatShape(strides)} ` +
        `at offset ${this.offset} needs elements ${low} to ${high}${gone}`,
    );
  }

  /** Number of elements. */
  get size(): number {
    return elementsOf(this.shape);
  }
  get ndim(): number {
    return this.shape.length;
  }
  /** Whether the elements lie in row-major order without gaps. */
  get isContiguous(): boolean {
    return (this.#contiguous ??= this.size === 0 || sameWalk(this.shape, this.strides, rowMajor(this.shape)));
  }
  /** Whether memory holds (N, ...S, C) under the shape (N, C, ...S), without gaps. */
  get isChannelsLast(): boolean {
    return this.ndim > 2 && sameWalk(this.shape, this.strides, channelsLastStrides(this.shape));
  }

  /** The same data with the dimensions in another order. */
  permute(...axes: number[]): Tensor {
    const rank = this.ndim;
    const order = axes.map((axis) => (axis < 0 ? axis + rank : axis));
    if (
      order.length !== rank ||
      !order.every((a, i) => Number.isInteger(a) && a >= 0 && a < rank && order.indexOf(a) === i)
    ) {
      throw new RangeError(`Tensor.permute: expected each of the ${rank} axes once, but got ${formatShape(axes)}`);
    }
    return new Tensor(
      this.data,
      order.map((a) => this.shape[a]!),
      { strides: order.map((a) => this.strides[a]!), offset: this.offset },
    );
  }

  /** The same elements in row-major order under another shape; one size may be -1. Copies unless contiguous. */
  reshape(...sizes: number[]): Tensor {
    const free = sizes.indexOf(-1);
    const shape = [...sizes];
    if (free >= 0) shape[free] = this.size / elementsOf(sizes.filter((_, i) => i !== free));
    if (!shape.every((s) => Number.isInteger(s) && s >= 0) || elementsOf(shape) !== this.size) {
      throw new RangeError(`Tensor.reshape: shape ${formatShape(sizes)} is invalid for input of size ${this.size}`);
    }
    const from = this.contiguous();
    return new Tensor(from.data, shape, { offset: from.offset });
  }

  /** This tensor if it is contiguous, else a copy that is. */
  contiguous(): Tensor {
    return this.isContiguous ? this : this.copy();
  }

  /** A contiguous copy. */
  copy(): Tensor {
    const out = new Tensor(allocate(this.dtype, this.size), this.shape);
    gather(this, out.data as Float32Array);
    return out;
  }

  /** The elements in row-major order as a plain array; int64 gives bigints. */
  toArray(): (number | bigint)[] {
    const { data, offset, size } = this.contiguous();
    return Array.from(data.subarray(offset, offset + size) as Float32Array);
  }

  toString(): string {
    return `Tensor(${this.dtype}, ${formatShape(this.shape)})`;
  }
}

/** A tensor that training changes, and its gradient. */
export class Parameter extends Tensor {
  /** Summed by every backward until `zeroGrad`; null before the first. */
  grad: Tensor | null = null;
  /** Whether backward computes `grad`. */
  requiresGrad = true;
}

/**
 * Makes a tensor of a typed array and a shape, or of nested arrays of numbers.
 *
 * @param data a typed array (not copied), or nested arrays
 * @param shape needed for a typed array of more than one dimension; default: one dimension
 * @param options `dtype` of nested arrays, default 'float32'
 * @throws TypeError, RangeError as `Tensor`; RangeError for ragged arrays
 * @see torch.tensor
 * @example
 * tensor(new Float32Array(6), [2, 3]);
 * tensor([[1, 2], [3, 4]]);
 */
export function tensor(
  data: TensorData | NestedArray,
  shape?: readonly number[],
  options: { dtype?: DType } = {},
): Tensor {
  checkOptions('tensor', options, ['dtype']);
  const { dtype } = options;
  if (dtype !== undefined && !isDType(dtype)) {
    throw new TypeError(
      `tensor: dtype must be one of ${Object.keys(kindOfDtype).join(', ')}, but got ${describe(dtype)}`,
    );
  }
  if (ArrayBuffer.isView(data)) {
    const made = new Tensor(data as TensorData, shape ?? [lengthOf(data)], {}, 'tensor');
    if (dtype !== undefined && dtype !== made.dtype) {
      throw new TypeError(`tensor: dtype ${dtype} asked for, but the data are ${made.dtype}`);
    }
    return made;
  }
  const nested = fromNested(data as NestedArray, dtype ?? 'float32', 'tensor');
  return shape === undefined ? nested : new Tensor(nested.data, shape, {}, 'tensor');
}

/**
 * A Tensor of whatever says that it is one.
 * @internal
 */
export function asTensor(value: unknown, where: string, name: string, dtype: DType): Tensor {
  if (value instanceof Tensor) return value;
  if (Array.isArray(value)) return fromNested(value as NestedArray, dtype, `${where}: ${name}`);
  const fields = value as Partial<TensorFields> | null | undefined;
  if (typeof fields !== 'object' || fields === null || ArrayBuffer.isView(fields) || fields.data === undefined) {
    throw new TypeError(
      `${where}: ${name} must be a tensor, {data, shape}, {data, dims} or nested arrays, but got ${describe(value)}`,
    );
  }
  // Each field is read once: a getter may answer differently the next time.
  const { data, offset } = fields;
  const shape = fields.shape ?? fields.dims;
  const strides = fields.strides ?? fields.stride;
  if (!isListLike(shape)) {
    throw new TypeError(`${where}: ${name} must have a shape (or dims) beside its data, but got ${describe(shape)}`);
  }
  const view = { ...(strides && { strides }), ...(offset !== undefined && { offset }) };
  return new Tensor(data, shape, view, `${where}: ${name}`);
}

/**
 * Copies the elements of x into `out`, which is as long, in row-major order.
 * @internal
 */
export function gather(x: Tensor, out: Float32Array): void {
  const { shape, strides } = x;
  const data = x.data as Float32Array;
  const rank = shape.length;
  if (x.size === 0) return;
  if (x.isContiguous) {
    out.set(data.subarray(x.offset, x.offset + x.size));
    return;
  }
  const index = new Array<number>(rank).fill(0);
  const last = rank - 1;
  const length = shape[last]!;
  const step = strides[last]!;
  let from = x.offset;
  for (let to = 0; to < out.length; to += length) {
    for (let i = 0, p = from; i < length; i++, p += step) out[to + i] = data[p]!;
    for (let axis = last - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      from -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
}

/**
 * The view of `data` (of as many elements) under `shape` in row-major or channels-last order.
 * @internal
 */
export function viewOf(data: TensorData, shape: readonly number[], channelsLast: boolean, offset = 0): Tensor {
  return new Tensor(data, shape, { strides: channelsLast ? channelsLastStrides(shape) : rowMajor(shape), offset });
}

function isListLike(value: unknown): value is ArrayLike<number> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

function checkStride(where: string, name: string, step: unknown): number {
  if (!Number.isSafeInteger(step))
    throw new RangeError(`${where}: ${name} must be an integer, but got ${describe(step)}`);
  return step as number;
}

function fromNested(value: NestedArray, dtype: DType, where: string): Tensor {
  const shape: number[] = [];
  for (let level = value; Array.isArray(level); level = (level as NestedArray[])[0] as NestedArray) {
    shape.push(level.length);
    if (shape.length > 64) throw new RangeError(`${where}: arrays nested more than 64 deep`);
  }
  const out = allocate(dtype, elementsOf(shape)) as Float32Array;
  let at = 0;
  const fill = (level: NestedArray, depth: number): void => {
    if (depth === shape.length) {
      if (typeof level !== 'number' && typeof level !== 'bigint') {
        throw new TypeError(`${where}: nested arrays must hold numbers, but got ${describe(level)}`);
      }
      out[at++] = level;
      return;
    }
    if (!Array.isArray(level) || level.length !== shape[depth]) {
      throw new RangeError(`${where}: ragged nested arrays: expected ${shape[depth]} entries in dimension ${depth}`);
    }
    for (const item of level as NestedArray[]) fill(item, depth + 1);
  };
  fill(value, 0);
  return new Tensor(out, shape);
}
