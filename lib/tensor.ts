// Data with a shape. No arithmetic: a way to say what an array means, and to pass other libraries' tensors in.

// Whatever `lib` a user's compiler has:
/// <reference lib="esnext.disposable" preserve="true" />

import { arrayKind, checkOptions, checkSize, describe, formatShape, lengthOf, viewAs } from './internal/errors';
import { half, type HalfDType } from './internal/half';
import { channelsLastSteps, Layout, product as elementsOf, rowMajor } from './internal/layout';

export { elementsOf };

export type DType = 'float32' | 'float64' | 'float16' | 'bfloat16' | 'int64' | 'int32' | 'int16' | 'int8' | 'uint8';
/** What a tensor keeps its elements in; float16 and bfloat16 are raw bits in a Uint16Array. */
export type TensorData =
  Float32Array | Float64Array | Uint16Array | BigInt64Array | Int32Array | Int16Array | Int8Array | Uint8Array;
/** Float16Array where the compiler's library has one. */
type HalfArray = typeof globalThis extends { Float16Array: { prototype: infer A } } ? A : never;

/** Anything that says what its data mean: ours, `{data, dims}` of onnxruntime, `{data, shape, stride, offset}` of ndarray. */
export interface TensorFields {
  data: TensorData | HalfArray;
  shape?: readonly number[];
  dims?: readonly number[];
  strides?: readonly number[];
  stride?: readonly number[];
  offset?: number;
  /** Needed for a Uint16Array, 'float16' or 'bfloat16'; other arrays say it themselves. */
  dtype?: string;
  /** The same, of onnxruntime. */
  type?: string;
}
export type NestedArray = number | bigint | readonly NestedArray[];
export type TensorLike = Tensor | TensorFields | NestedArray;

const dtypeOfKind: Record<string, DType> = {
  Float32Array: 'float32',
  Float64Array: 'float64',
  Float16Array: 'float16',
  BigInt64Array: 'int64',
  Int32Array: 'int32',
  Int16Array: 'int16',
  Int8Array: 'int8',
  Uint8Array: 'uint8',
};
/** @internal */
export const kindOfDtype = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint8: Uint8Array,
} as const;

export function isDType(value: unknown): value is DType {
  return typeof value === 'string' && Object.hasOwn(kindOfDtype, value);
}

function isHalf(dtype: unknown): dtype is HalfDType {
  return dtype === 'float16' || dtype === 'bfloat16';
}

function checkDType(where: string, dtype: unknown): DType {
  if (isDType(dtype)) return dtype;
  throw new TypeError(
    `${where}: dtype must be one of ${Object.keys(kindOfDtype).join(', ')}, but got ${describe(dtype)}`,
  );
}

/** What the array is of: what it says itself, or for raw bits what was said beside it. */
function dtypeOf(data: unknown, named: unknown, where: string): DType {
  const kind = arrayKind(data) ?? '';
  if (kind === 'Uint16Array') {
    if (isHalf(named)) return named;
    throw new TypeError(
      `${where}: a Uint16Array holds the bits of float16 or bfloat16; say which with dtype, which is ${describe(named)}`,
    );
  }
  const dtype = dtypeOfKind[kind];
  if (!dtype) {
    throw new TypeError(
      `${where}: data must be a Float32Array, Float64Array, Float16Array, Uint16Array, BigInt64Array, Int32Array, ` +
        `Int16Array, Int8Array or Uint8Array, but got ${describe(data)}`,
    );
  }
  if (named !== undefined && named !== dtype) {
    const asked = typeof named === 'string' ? named : describe(named);
    throw new TypeError(`${where}: dtype ${asked} asked for, but the data are ${dtype}; Tensor.to converts`);
  }
  return dtype;
}

/**
 * How lent memory goes back, by its buffer: see OutputPool.
 * @internal
 */
export const lenders = new WeakMap<ArrayBufferLike, (buffer: ArrayBuffer) => void>();

/** @internal */
export function giveBack(buffer: ArrayBufferLike): void {
  const take = lenders.get(buffer);
  lenders.delete(buffer);
  take?.(buffer as ArrayBuffer);
}

/** Zeros. */
export function allocate(dtype: DType, length: number, where = 'Tensor'): TensorData {
  const Kind = kindOfDtype[dtype];
  try {
    return new Kind(length);
  } catch {
    throw new RangeError(
      `${where}: there is no memory for ${length} elements of ${dtype}, ${length * Kind.BYTES_PER_ELEMENT} bytes`,
    );
  }
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
  readonly #layout: Layout;

  /**
   * @param data kept, not copied; of a Float16Array the same memory as a Uint16Array
   * @param view `dtype` is needed for a Uint16Array
   * @throws TypeError for data that is none of these arrays, and for a Uint16Array without a dtype
   * @throws RangeError for a shape that the data do not fill, or strides that leave them
   */
  constructor(
    data: TensorData | HalfArray,
    shape: readonly number[],
    view?: { strides?: readonly number[]; offset?: number; dtype?: DType },
    where?: string,
  );
  /** @internal */
  constructor(data: TensorData, layout: Layout, view?: { offset?: number; dtype?: DType }, where?: string);
  constructor(
    data: TensorData | HalfArray,
    shape: readonly number[] | Layout,
    view: { strides?: readonly number[]; offset?: number; dtype?: DType } = {},
    where = 'Tensor',
  ) {
    this.dtype = dtypeOf(data, view.dtype, where);
    const sizes = shape instanceof Layout ? null : sizesOf(shape, where);
    this.data = isHalf(this.dtype) ? viewAs(Uint16Array, data) : (data as TensorData);
    this.offset = view.offset === undefined ? 0 : checkSize(where, 'offset', view.offset);
    this.#layout = sizes ? layoutOf(sizes, view.strides, where) : (shape as Layout);
    this.shape = this.#layout.shape;
    this.strides = this.#layout.strides;
    const { size } = this.#layout;
    if (view.strides === undefined && view.offset === undefined && lengthOf(this.data) !== size) {
      throw new RangeError(
        `${where}: data has ${lengthOf(this.data)} elements, shape ${formatShape(this.shape)} needs ${size}`,
      );
    }
    this.checkExtent(where, 'data');
  }

  /**
   * What shape and strides say, worked out. Everything here goes by it, so that a tensor whose shape was taken away (see
   * internal/uninitialized.ts) has none of it either.
   * @internal
   */
  get layout(): Layout {
    return this.#layout;
  }

  /**
   * That every element lies inside the data: what a constructor has checked, and what a later detach or resize can undo.
   * @internal
   */
  checkExtent(where: string, name: string): void {
    const { layout, offset } = this;
    if (layout.size === 0) return;
    const low = offset + layout.low;
    const high = offset + layout.high;
    const length = lengthOf(this.data);
    if (low >= 0 && high < length) return;
    const gone = length === 0 ? '; its buffer is detached or was shrunk' : '';
    const { shape, strides } = this;
    throw new RangeError(
      `${where}: ${name} has ${length} elements, shape ${formatShape(shape)} with strides ${formatShape(strides)} ` +
        `at offset ${offset} needs elements ${low} to ${high}${gone}`,
    );
  }

  /** Number of elements. */
  get size(): number {
    return this.layout.size;
  }
  get ndim(): number {
    return this.shape.length;
  }
  /** Whether the elements lie in row-major order without gaps. */
  get isContiguous(): boolean {
    return this.layout.isContiguous;
  }
  /** Whether memory holds (N, ...S, C) under the shape (N, C, ...S), without gaps. */
  get isChannelsLast(): boolean {
    return this.layout.isChannelsLast;
  }

  /** The same data with the dimensions in another order; the axes one by one or in an array. */
  permute(...order: number[] | [readonly number[]]): Tensor;
  permute(...given: (number | readonly number[])[]): Tensor {
    const axes = listOf(given);
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
      { strides: order.map((a) => this.strides[a]!), offset: this.offset, dtype: this.dtype },
    );
  }

  /**
   * The same elements in row-major order under another shape, its sizes one by one or in an array; one size may be -1.
   * Copies unless contiguous.
   */
  reshape(...sizes: number[] | [readonly number[]]): Tensor;
  reshape(...given: (number | readonly number[])[]): Tensor {
    const sizes = listOf(given);
    const free = sizes.indexOf(-1);
    const shape = [...sizes];
    if (free >= 0) shape[free] = this.size / elementsOf(sizes.filter((_, i) => i !== free));
    if (!shape.every((s) => Number.isInteger(s) && s >= 0) || elementsOf(shape) !== this.size) {
      throw new RangeError(`Tensor.reshape: shape ${formatShape(sizes)} is invalid for input of size ${this.size}`);
    }
    const from = this.contiguous();
    return new Tensor(from.data, shape, { offset: from.offset, dtype: this.dtype });
  }

  /** This tensor if it is contiguous, else a copy that is. */
  contiguous(): Tensor {
    return this.isContiguous ? this : this.copy();
  }

  /** A contiguous copy. */
  copy(): Tensor {
    this.checkExtent('Tensor.copy', 'data');
    const out = new Tensor(allocate(this.dtype, this.size, 'Tensor.copy'), this.shape, { dtype: this.dtype });
    gather(this, out.data as Float32Array);
    return out;
  }

  /**
   * The same values in another dtype: this tensor if it has that already, else a copy, which keeps channels-last memory.
   *
   * Floats are rounded once, to nearest, ties to even, and to infinity beyond their range. Integers are truncated
   * towards zero, as torch does.
   *
   * @throws TypeError for a dtype that is none
   * @throws RangeError for NaN, an infinity or a value out of range where an integer is wanted (torch wraps around)
   * @see torch.Tensor.to; float64 to bfloat16 is rounded once, not by way of float32
   * @example
   * const bits = tensor([1.5, 2.25]).to('bfloat16').data; // Uint16Array [0x3fc0, 0x4010]
   */
  to(dtype: DType): Tensor {
    const where = 'Tensor.to';
    checkDType(where, dtype);
    if (dtype === this.dtype) return this;
    this.checkExtent(where, 'data');
    const channelsLast = !this.isContiguous && this.isChannelsLast;
    const { data, offset, size } = channelsLast ? this : this.contiguous();
    const out = allocate(dtype, size, where) as Float32Array;
    const plain = this.dtype !== 'int64' && !isHalf(this.dtype);
    if (plain && (dtype === 'float32' || dtype === 'float64')) {
      out.set(data.subarray(offset, offset + size) as Float32Array);
    } else {
      const read = reader(this.dtype);
      const write = writer(dtype, where);
      for (let i = 0; i < size; i++) out[i] = write(read(data[offset + i]!));
    }
    return viewOf(out, this.shape, channelsLast, 0, dtype);
  }

  /** The elements in row-major order as a plain array of numbers; int64 gives bigints. */
  toArray(): (number | bigint)[] {
    this.checkExtent('Tensor.toArray', 'data');
    const { data, offset, size } = this.contiguous();
    const elements = Array.from(data.subarray(offset, offset + size) as Float32Array);
    return isHalf(this.dtype) ? elements.map(half[this.dtype].decode) : elements;
  }

  /**
   * Gives memory from an OutputPool back: this tensor and every view of the memory have length 0 from then on. Any other
   * memory is left alone.
   */
  dispose(): void {
    giveBack(this.data.buffer);
  }
  declare readonly [Symbol.dispose]: () => void;
  static {
    // Of Node's newer versions; under jest and vm, not even of all those.
    const { dispose } = Symbol;
    if (dispose) Object.defineProperty(Tensor.prototype, dispose, { value: Tensor.prototype.dispose });
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
 * @param data a typed array (not copied), or nested arrays, whose numbers are rounded or truncated as by `Tensor.to`;
 * bigints are for int64 only
 * @param shape needed for a typed array of more than one dimension; default: one dimension
 * @param options `dtype` of nested arrays, default 'float32', and of a Uint16Array: 'float16' or 'bfloat16'
 * @throws TypeError, RangeError as `Tensor` and `Tensor.to`; RangeError for ragged arrays
 * @see torch.tensor
 * @example
 * tensor(new Float32Array(6), [2, 3]);
 * tensor([[1, 2], [3, 4]]);
 * tensor(Uint16Array.of(0x3f80, 0x4000), [2], { dtype: 'bfloat16' }); // 1, 2
 */
export function tensor(
  data: TensorData | HalfArray | NestedArray,
  shape?: readonly number[],
  options: { dtype?: DType } = {},
): Tensor {
  checkOptions('tensor', options, ['dtype']);
  const { dtype } = options;
  if (dtype !== undefined) checkDType('tensor', dtype);
  if (ArrayBuffer.isView(data)) {
    const length = arrayKind(data) === 'DataView' ? 0 : lengthOf(data);
    return new Tensor(data as TensorData, shape ?? [length], { ...(dtype && { dtype }) }, 'tensor');
  }
  const nested = fromNested(data as NestedArray, dtype ?? 'float32', 'tensor');
  return shape === undefined ? nested : new Tensor(nested.data, shape, { dtype: nested.dtype }, 'tensor');
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
  const named = fields.dtype ?? fields.type;
  if (!isListLike(shape)) {
    throw new TypeError(`${where}: ${name} must have a shape (or dims) beside its data, but got ${describe(shape)}`);
  }
  // Other libraries have names of their own for what an array says itself ("generic", "bool").
  const view = {
    ...(strides && { strides }),
    ...(offset !== undefined && { offset }),
    ...((isDType(named) || arrayKind(data) === 'Uint16Array') && { dtype: named as DType }),
  };
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
export function viewOf(
  data: TensorData,
  shape: readonly number[],
  channelsLast: boolean,
  offset = 0,
  dtype?: DType,
): Tensor {
  const strides = channelsLast ? channelsLastSteps(shape) : rowMajor(shape);
  return new Tensor(data, shape, { strides, offset, ...(dtype && { dtype }) });
}

/** Sizes or axes, given one by one or in one array. */
function listOf(given: (number | readonly number[])[]): number[] {
  return given.length === 1 && isListLike(given[0]) ? Array.from(given[0]) : (given as number[]);
}

/** What an element of this dtype stands for. */
function reader(dtype: DType): (stored: number | bigint) => number | bigint {
  if (!isHalf(dtype)) return (stored) => stored;
  const { decode } = half[dtype];
  return (stored) => decode(stored as number);
}

const integerRange: Partial<Record<DType, readonly [bigint, bigint]>> = {
  int64: [-(2n ** 63n), 2n ** 63n - 1n],
  int32: [-(2n ** 31n), 2n ** 31n - 1n],
  int16: [-(2n ** 15n), 2n ** 15n - 1n],
  int8: [-128n, 127n],
  uint8: [0n, 255n],
};

/** How a value is stored in this dtype; the result is a bigint for int64 only, which the compiler need not know. */
function writer(dtype: DType, where: string): (value: number | bigint) => number {
  if (isHalf(dtype)) {
    const { encode } = half[dtype];
    return (value) => encode(typeof value === 'bigint' ? stickyNumber(value) : value);
  }
  const range = integerRange[dtype];
  if (!range) {
    const ofBigint = dtype === 'float32' ? stickyNumber : Number;
    return (value) => (typeof value === 'bigint' ? ofBigint(value) : value);
  }
  const [low, high] = range;
  return (value) => {
    const whole = typeof value === 'bigint' ? value : Math.trunc(value);
    if (!(whole >= low && whole <= high)) {
      throw new RangeError(`${where}: ${describe(value)} does not fit ${dtype}, which holds ${low} to ${high}`);
    }
    return (dtype === 'int64' ? BigInt(whole) : Number(whole)) as number;
  };
}

/**
 * A double that rounds to fewer bits as the 64-bit integer itself would: rounding to a double first and then again could
 * end on the wrong side of a tie, so what a double cannot hold is kept as one odd bit at its end.
 */
function stickyNumber(value: bigint): number {
  const magnitude = value < 0n ? -value : value;
  if (magnitude < 2n ** 53n) return Number(value);
  const cut = (magnitude >> 10n) | (magnitude & 1023n ? 1n : 0n);
  return (value < 0n ? -1024 : 1024) * Number(cut);
}

function isListLike(value: unknown): value is ArrayLike<number> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

function sizesOf(shape: readonly number[], where: string): number[] {
  if (!isListLike(shape)) throw new TypeError(`${where}: shape must be an array, but got ${describe(shape)}`);
  const sizes = Array.from(shape);
  for (let i = 0; i < sizes.length; i++) {
    if (!isSize(sizes[i])) checkSize(where, `shape[${i}]`, sizes[i]);
  }
  return sizes;
}

const isSize = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;

function layoutOf(sizes: number[], strides: readonly number[] | undefined, where: string): Layout {
  if (!Number.isSafeInteger(elementsOf(sizes))) {
    throw new RangeError(`${where}: shape ${formatShape(sizes)} has more than 2^53 elements`);
  }
  if (strides === undefined) return new Layout(sizes, rowMajor(sizes));
  if (!isListLike(strides) || strides.length !== sizes.length) {
    throw new RangeError(`${where}: strides must be an array of ${sizes.length} integers, one for each dimension`);
  }
  const steps = Array.from(strides);
  for (let i = 0; i < steps.length; i++) {
    if (!Number.isSafeInteger(steps[i])) {
      throw new RangeError(`${where}: strides[${i}] must be an integer, but got ${describe(steps[i])}`);
    }
  }
  return new Layout(sizes, steps);
}

function fromNested(value: NestedArray, dtype: DType, where: string): Tensor {
  const shape: number[] = [];
  for (let level = value; Array.isArray(level); level = (level as NestedArray[])[0] as NestedArray) {
    shape.push(level.length);
    if (shape.length > 64) throw new RangeError(`${where}: arrays nested more than 64 deep`);
  }
  const out = allocate(dtype, elementsOf(shape), where) as Float32Array;
  const write = writer(dtype, where);
  let at = 0;
  const fill = (level: NestedArray, depth: number): void => {
    if (depth === shape.length) {
      if (typeof level !== 'number' && !(typeof level === 'bigint' && dtype === 'int64')) {
        const hint = typeof level === 'bigint' ? `; ${dtype} takes no bigints, dtype: 'int64' does` : '';
        throw new TypeError(`${where}: nested arrays must hold numbers, but got ${describe(level)}${hint}`);
      }
      out[at++] = write(level);
      return;
    }
    if (!Array.isArray(level) || level.length !== shape[depth]) {
      throw new RangeError(`${where}: ragged nested arrays: expected ${shape[depth]} entries in dimension ${depth}`);
    }
    for (const item of level as NestedArray[]) fill(item, depth + 1);
  };
  fill(value, 0);
  return new Tensor(out, shape, { dtype });
}
