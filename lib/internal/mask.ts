// Padded batches. The valid positions are packed into dense memory, the ordinary call runs on that, and its result is
// scattered back over zeros: so a padded batch has the bits of its sequences without padding, whatever the padding holds.

import {
  allocate,
  asTensor,
  elementsOf,
  Tensor,
  viewOf,
  type DType,
  type TensorData,
  type TensorFields,
} from '../tensor';
import { backward, checkApart, checkGrad, forward, layOut, target, type Keep, type Plan, type Saved } from './call';
import { describe, formatShape, lengthOf } from './errors';
import type { Layout } from './layout';
import { allocateOutput } from './memory';
import type { Reading } from './plan';

export type NestedMask = boolean | number | readonly NestedMask[];

export interface MaskOptions {
  /**
   * Which positions are data; the others are padding, whose output and gradient are 0. Nonzero or true is valid. Of the
   * input's shape without the channel axis; of LayerNorm and RMSNorm, of the input's first dimensions, one or more.
   */
  mask?: NestedMask[] | Uint8Array | Tensor | TensorFields | undefined;
  /** The same as one length for each sample: how much of the first dimension after the batch and the channels is data. */
  lengths?: ArrayLike<number | bigint> | undefined;
}

/** Stretches of elements, as pairs of a start and a length. */
type Runs = readonly number[];

/** Dense data for one call. */
interface Part {
  reading: Reading;
  /** Where it begins among the packed elements. */
  offset: number;
  /** Which elements of weight and bias go with it; null for all. */
  parameters: Runs | null;
}

export interface Packing {
  /** What is packed, in order, of x as it lies. */
  runs: Runs;
  size: number;
  channelsLast: boolean;
  parts: Part[];
}

export interface PackedSaved {
  packing: Packing;
  layout: Layout;
  dtype: DType;
  parts: Saved[];
}

/** Flags of the positions that `shape` has. */
interface Valid {
  flags: Uint8Array;
  shape: readonly number[];
}

/** Where flags[from .. from + length) are set, counted from `from`, each flag standing for `inner` elements. */
function runsOf(flags: Uint8Array, from: number, length: number, inner: number): number[] {
  const runs: number[] = [];
  for (let i = 0; i < length; i++) {
    if (!flags[from + i]) continue;
    const start = i;
    while (i < length && flags[from + i]) i++;
    runs.push(start * inner, (i - start) * inner);
  }
  return runs;
}

function sizeOf(runs: Runs): number {
  let size = 0;
  for (let i = 1; i < runs.length; i += 2) size += runs[i]!;
  return size;
}

function fromNested(mask: NestedMask[], where: string): Valid {
  const shape: number[] = [];
  for (let level: NestedMask = mask; Array.isArray(level); level = (level as NestedMask[])[0]!)
    shape.push(level.length);
  const flags = new Uint8Array(elementsOf(shape));
  let at = 0;
  const fill = (level: NestedMask, depth: number): void => {
    if (depth < shape.length) {
      if (!Array.isArray(level) || level.length !== shape[depth]) {
        throw new RangeError(`${where}: ragged mask: expected ${shape[depth]} entries in dimension ${depth}`);
      }
      for (const item of level as NestedMask[]) fill(item, depth + 1);
      return;
    }
    if (typeof level !== 'boolean' && typeof level !== 'number') {
      throw new TypeError(`${where}: mask must hold booleans or numbers, but got ${describe(level)}`);
    }
    flags[at++] = Number(level) === 0 ? 0 : 1;
  };
  fill(mask, 0);
  return { flags, shape };
}

/** An array without a shape has `usual`. */
export function fromMask(mask: unknown, usual: readonly number[], where: string): Valid {
  if (Array.isArray(mask)) return fromNested(mask as NestedMask[], where);
  if (ArrayBuffer.isView(mask) && lengthOf(mask) !== elementsOf(usual)) {
    throw new RangeError(
      `${where}: mask has ${lengthOf(mask)} elements, one for each position of ${formatShape(usual)} is needed`,
    );
  }
  const given = ArrayBuffer.isView(mask)
    ? new Tensor(mask as TensorData, usual, {}, `${where}: mask`)
    : asTensor(mask, where, 'mask', 'uint8');
  given.checkExtent(where, 'mask');
  const { data, offset, size, shape } = given.contiguous();
  const flags = Uint8Array.from(data.subarray(offset, offset + size) as Uint8Array, (v) => (Number(v) === 0 ? 0 : 1));
  return { flags, shape };
}

/** Over [samples, length]. */
function fromLengths(lengths: unknown, n: number, length: number | undefined, where: string): Valid {
  if (length === undefined) throw new RangeError(`${where}: lengths need a dimension after the batch and the channels`);
  if (!Array.isArray(lengths) && !ArrayBuffer.isView(lengths)) {
    throw new TypeError(`${where}: lengths must be an array, but got ${describe(lengths)}`);
  }
  const list = lengths as ArrayLike<number | bigint>;
  if (list.length !== n) {
    throw new RangeError(`${where}: lengths must have one entry for each of ${n} samples, but has ${list.length}`);
  }
  const flags = new Uint8Array(n * length);
  for (let i = 0; i < n; i++) {
    const l = typeof list[i] === 'bigint' ? Number(list[i]) : list[i]!;
    if (typeof l !== 'number' || !Number.isInteger(l) || l < 0 || l > length) {
      throw new RangeError(
        `${where}: lengths[${i}] must be an integer from 0 to ${length}, but got ${describe(list[i])}`,
      );
    }
    flags.fill(1, i * length, i * length + l);
  }
  return { flags, shape: [n, length] };
}

/** Each flag `times` times. */
function repeat(flags: Uint8Array, times: number): Uint8Array {
  if (times === 1) return flags;
  const all = new Uint8Array(flags.length * times);
  flags.forEach((flag, i) => all.fill(flag, i * times, (i + 1) * times));
  return all;
}

function checkOne({ mask, lengths }: MaskOptions, where: string): void {
  if (mask !== undefined && lengths !== undefined) {
    throw new TypeError(`${where}: mask and lengths say the same thing; give one of them`);
  }
}

/**
 * (N, C, ...S), or (C, ...S) with `channelAxis` 0. Samples with as many valid positions each are packed to a batch of
 * their own shape; others `together` along one sample, or each to a part of its own. Samples without any are left out.
 */
export function packChannels(
  where: string,
  x: Reading,
  channelAxis: 0 | 1,
  o: MaskOptions,
  together: boolean,
): Packing {
  checkOne(o, where);
  const { n, c, s, channelsLast } = x;
  const spatial = x.shape.slice(channelAxis + 1);
  const positions = [...x.shape.slice(0, channelAxis), ...spatial];
  let flags: Uint8Array;
  if (o.mask === undefined) {
    const { flags: short } = fromLengths(o.lengths, n, spatial[0], where);
    flags = repeat(short, elementsOf(spatial.slice(1)));
  } else {
    const valid = fromMask(o.mask, positions, where);
    if (formatShape(valid.shape) !== formatShape(positions)) {
      throw new RangeError(
        `${where}: mask must have the input's shape without the channel axis, ${formatShape(positions)}, ` +
          `but has ${formatShape(valid.shape)}`,
      );
    }
    flags = valid.flags;
  }
  // Channels beside each other are moved together; else each has a plane of its own.
  const beside = channelsLast || s === 1;
  const [planes, inner] = beside ? [1, c] : [c, 1];
  const own = Array.from({ length: n }, (_, i) => runsOf(flags, i * s, s, inner));
  const counts = own.map((runs) => sizeOf(runs) / inner);
  const samples = counts.flatMap((count, i) => (count > 0 ? [i] : []));
  const total = counts.reduce((sum, count) => sum + count, 0);
  const equal = samples.every((i) => counts[i] === counts[samples[0]!]);

  const runs: number[] = [];
  for (const unit of together && !equal ? [samples] : samples.map((i) => [i])) {
    for (let plane = 0; plane < planes; plane++) {
      for (const i of unit) {
        const begin = (i * planes + plane) * s * inner;
        const list = own[i]!;
        for (let k = 0; k < list.length; k += 2) runs.push(begin + list[k]!, list[k + 1]!);
      }
    }
  }
  const part = (size: number, length: number, offset: number): Part => {
    const shape = s === 1 ? [size, c] : [size, c, length];
    return { reading: { n: size, c, s: length, channelsLast, shape }, offset, parameters: null };
  };
  let parts: Part[];
  if (equal) parts = [part(samples.length, total > 0 ? counts[samples[0]!]! : s, 0)];
  else if (together) parts = [part(1, total, 0)];
  else {
    let offset = 0;
    parts = samples.map((i) => {
      const made = part(1, counts[i]!, offset);
      offset += counts[i]! * c;
      return made;
    });
  }
  return { runs, size: total * c, channelsLast, parts };
}

/**
 * (..., *normalized), the last `dims` dimensions. A mask over dimensions before those takes rows out. One that reaches
 * into them leaves each row the statistics of its valid elements, and their own weights: rows with the same elements are
 * packed to a batch, others each to a part of its own.
 */
export function packTrailing(where: string, x: Reading, dims: number, o: MaskOptions): Packing {
  checkOne(o, where);
  const { shape, n, c } = x;
  const leading = shape.slice(0, shape.length - dims);
  const { flags, shape: prefix } =
    o.mask === undefined ? fromLengths(o.lengths, shape[0] ?? 1, shape[1], where) : fromMask(o.mask, leading, where);
  if (prefix.length > shape.length || prefix.some((size, i) => size !== shape[i])) {
    throw new RangeError(
      `${where}: mask must have the input's first dimensions, of ${formatShape(shape)}, but has ${formatShape(prefix)}`,
    );
  }
  const reading = (size: number, width: number): Reading => ({ ...x, n: size, c: width, shape: [size, width] });
  if (prefix.length <= leading.length) {
    const runs = runsOf(flags, 0, flags.length, elementsOf(shape.slice(prefix.length)));
    const size = sizeOf(runs);
    const whole = { reading: reading(c === 0 ? 0 : size / c, c), offset: 0, parameters: null };
    return { runs, size, channelsLast: false, parts: [whole] };
  }

  const across = elementsOf(prefix.slice(leading.length)); // flags of a row
  const inner = across === 0 ? 0 : c / across;
  const own = Array.from({ length: n }, (_, row) => runsOf(flags, row * across, across, inner));
  const kept = own.flatMap((list, row) => (list.length > 0 ? [row] : []));
  const first = own[kept[0]!];
  const same = kept.every((row) => own[row]!.length === first!.length && own[row]!.every((v, i) => v === first![i]));
  const runs = kept.flatMap((row) => own[row]!.map((v, i) => (i % 2 === 0 ? row * c + v : v)));
  let offset = 0;
  const parts = (same ? kept.slice(0, 1) : kept).map((row): Part => {
    const width = sizeOf(own[row]!);
    const made = { reading: reading(same ? kept.length : 1, width), offset, parameters: own[row]! };
    offset += width;
    return made;
  });
  return { runs, size: sizeOf(runs), channelsLast: false, parts };
}

type Numbers = Float64Array;
const numbers = (t: Tensor): Numbers => t.data as Numbers;

/** Copies runs of x, from its offset on, one after the other; or with `back` the other way. */
function copyRuns(x: Tensor, packed: Numbers, runs: Runs, back: boolean): void {
  const data = numbers(x);
  let at = 0;
  for (let i = 0; i < runs.length; i += 2) {
    const [start, length] = [x.offset + runs[i]!, runs[i + 1]!];
    // Views cost more than a few elements.
    if (length > 32) {
      if (back) data.set(packed.subarray(at, at + length), start);
      else packed.set(data.subarray(start, start + length), at);
    } else if (back) for (let k = 0; k < length; k++) data[start + k] = packed[at + k]!;
    else for (let k = 0; k < length; k++) packed[at + k] = data[start + k]!;
    at += length;
  }
}

function pack(x: Tensor, { runs, size }: Packing): TensorData {
  const packed = allocateOutput(x.dtype, size);
  copyRuns(x, packed as Numbers, runs, false);
  return packed;
}

function scatter(packed: TensorData, y: Tensor, { runs }: Packing): Tensor {
  numbers(y).fill(0, y.offset, y.offset + y.size);
  copyRuns(y, packed as Numbers, runs, true);
  return y;
}

const viewOfPart = (data: TensorData, { reading, offset }: Part, dtype: DType): Tensor =>
  viewOf(data, reading.shape, reading.channelsLast, offset, dtype);

/** The elements of a parameter, or of its gradient, that go with a part. */
function choose(t: Tensor | null, chosen: Runs | null): Tensor | null {
  if (!t || !chosen) return t;
  const own = allocate(t.dtype, sizeOf(chosen));
  copyRuns(t, own as Numbers, chosen, false);
  return new Tensor(own, [own.length]);
}

export function forwardPacked(
  where: string,
  x: Tensor,
  packing: Packing,
  planOf: (reading: Reading) => Plan,
  keep: Keep,
  add: Tensor | null,
  out: unknown,
  compute: typeof forward,
): { y: Tensor; saved: PackedSaved } {
  const { channelsLast } = packing;
  const from = layOut(x, channelsLast);
  const y = target(out, from, channelsLast, where);
  const packed = pack(from, packing);
  const packedAdd = add && pack(layOut(add, channelsLast), packing);
  const result = allocateOutput(x.dtype, packed.length);
  const parts = packing.parts.map((part) => {
    const plan = planOf(part.reading);
    checkApart(where, 'out', y, [plan.weight, plan.bias, plan.runningMean, plan.runningVar]);
    plan.weight = choose(plan.weight, part.parameters);
    plan.bias = choose(plan.bias, part.parameters);
    const [from, to] = [viewOfPart(packed, part, x.dtype), viewOfPart(result, part, x.dtype)];
    const plus = packedAdd && viewOfPart(packedAdd, part, x.dtype);
    return compute(where, from, plan, keep, to, plus).saved!;
  });
  scatter(result, y, packing);
  return { y, saved: { packing, layout: x.layout, dtype: x.dtype, parts } };
}

export function backwardPacked(
  where: string,
  { packing, layout, dtype, parts }: PackedSaved,
  dy: Tensor,
  dweight: Tensor | null,
  dbias: Tensor | null,
  out: unknown,
  gradAdd: unknown,
  compute: typeof backward,
): Tensor {
  checkGrad(where, dy, { dtype, layout });
  const { channelsLast } = packing;
  const dx = target(out, { dtype, layout }, channelsLast, where);
  const passed = gradAdd === undefined ? null : target(gradAdd, { dtype, layout }, channelsLast, where, 'gradAdd');
  checkApart(where, 'out', dx, [passed, dweight, dbias]);
  if (passed) checkApart(where, 'gradAdd', passed, [dweight, dbias]);
  const packed = pack(layOut(dy, channelsLast), packing);
  const result = allocateOutput(dtype, packed.length);
  const packedAdd = passed && allocateOutput(dtype, packed.length);
  // The parts add to copies: should one fail, nothing has happened.
  const sums = [dweight, dbias].map((t) => t && t.copy()) as [Tensor | null, Tensor | null];
  parts.forEach((saved, i) => {
    const part = packing.parts[i]!;
    const own = sums.map((t) => choose(t, part.parameters)) as [Tensor | null, Tensor | null];
    const into = packedAdd ? viewOfPart(packedAdd, part, dtype) : undefined;
    compute(where, saved, viewOfPart(packed, part, dtype), ...own, viewOfPart(result, part, dtype), into);
    const { parameters } = part;
    if (parameters) sums.forEach((t, which) => t && copyRuns(t, numbers(own[which]!), parameters, true));
  });
  [dweight, dbias].forEach((t, i) => t && numbers(t).set(numbers(sums[i]!), t.offset));
  if (passed) scatter(packedAdd!, passed, packing);
  return scatter(result, dx, packing);
}
