// What every call into the kernels shares: which data it takes, where its output goes, how they lie in memory.

import { allocate, asTensor, elementsOf, Tensor, viewOf, type DType, type TensorData } from '../tensor';
import { describe, formatShape, lengthOf } from './errors';

export type FloatDType = 'float32' | 'float64';

export const isFloat = (dtype: DType): dtype is FloatDType => dtype === 'float32' || dtype === 'float64';

/** Whether data of one dtype go with parameters of the other. Outputs and their gradients are of the data's. */
export const accepts = (data: DType, parameters: FloatDType): boolean => data === parameters;

/** The data of a layer's call: a tensor of a dtype that goes with its parameters. */
export function dataOf(value: unknown, where: string, name: string, parameters: FloatDType): Tensor {
  const x = asTensor(value, where, name, parameters);
  if (!accepts(x.dtype, parameters)) {
    const hint = isFloat(x.dtype)
      ? `mixed dtype: all inputs must share same datatype; make the layer with dtype: '${x.dtype}' or convert the data`
      : 'layers take floating point data; scale integers to floats first';
    throw new TypeError(`${where}: ${name} is ${x.dtype}, the layer is ${parameters}: ${hint}`);
  }
  x.checkExtent(where, name);
  return x;
}

/** Where a forward reads and writes. */
export interface Places {
  /** The input as the kernels take it, and as it is kept for backward. */
  x: Tensor;
  y: Tensor;
  /** Backward needs x, and it is the caller's own memory: y may not lie over it. */
  keepsInput: boolean;
}

/** `keep`: what is kept of the input for backward. */
export function place(
  where: string,
  given: Tensor,
  channelsLast: boolean,
  keep: 'reference' | 'copy' | null,
  out: unknown,
): Places {
  const x = channelsLast ? given : given.contiguous();
  const y = target(out, x, channelsLast, where);
  if (keep === 'reference' && out !== undefined && x.data.buffer === y.data.buffer && overlap(x, y)) {
    throw new RangeError(
      `${where}: out overlaps the input, which backward needs; work in place inside noGrad, or pass saveInput: 'copy'`,
    );
  }
  const borrowed = x === given;
  return {
    x: keep === 'copy' && borrowed ? copyAsItLies(x, channelsLast) : x,
    y,
    keepsInput: keep === 'reference' && borrowed,
  };
}

/** The gradient of an output as it is to lie, and where the gradient of the kept input x goes. */
export function placeBack(
  where: string,
  given: Tensor,
  x: Tensor,
  channelsLast: boolean,
  out: unknown,
): { dy: Tensor; dx: Tensor } {
  if (!sameShape(given.shape, x.shape)) {
    throw new RangeError(
      `${where}: grad_output has shape ${formatShape(given.shape)}, the latest forward's output has ${formatShape(x.shape)}`,
    );
  }
  x.checkExtent(where, 'the kept input');
  return { dy: layOut(given, channelsLast), dx: target(out, x, channelsLast, where) };
}

/** The output for x: what the caller gave, if it fits, or a new array. */
export function target(out: unknown, x: Tensor, channelsLast: boolean, where: string): Tensor {
  const { dtype, shape } = x;
  const size = elementsOf(shape);
  if (out === undefined) return viewOf(allocate(dtype, size), shape, channelsLast);
  if (out instanceof Tensor) {
    if (out.dtype !== dtype) throw new TypeError(`${where}: out is ${out.dtype}, the layer is ${dtype}`);
    const laid = channelsLast ? out.isChannelsLast : out.isContiguous;
    if (!sameShape(out.shape, shape) || !laid) {
      throw new RangeError(
        `${where}: out must have shape ${formatShape(shape)} in ${channelsLast ? 'channels-last' : 'contiguous'} memory ` +
          `as the input, but has shape ${formatShape(out.shape)} and strides ${formatShape(out.strides)}`,
      );
    }
    out.checkExtent(where, 'out');
    return out;
  }
  if (!ArrayBuffer.isView(out)) {
    throw new TypeError(`${where}: out must be a typed array or a Tensor, but got ${describe(out)}`);
  }
  if (lengthOf(out) !== size || new Tensor(out as TensorData, [lengthOf(out)], {}, `${where}: out`).dtype !== dtype) {
    throw new (lengthOf(out) !== size ? RangeError : TypeError)(
      `${where}: out must be ${dtype} with ${size} elements, but got ${describe(out)} with ${lengthOf(out)}`,
    );
  }
  return viewOf(out as TensorData, shape, channelsLast);
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function overlap(a: Tensor, b: Tensor): boolean {
  const bytes = (t: Tensor): [number, number] => {
    const { BYTES_PER_ELEMENT, byteOffset } = t.data;
    const from = byteOffset + t.offset * BYTES_PER_ELEMENT;
    return [from, from + t.size * BYTES_PER_ELEMENT];
  };
  const [aFrom, aTo] = bytes(a);
  const [bFrom, bTo] = bytes(b);
  return aFrom < bTo && bFrom < aTo;
}

/** The elements in the memory order asked for, without a copy where they lie so already. */
function layOut(x: Tensor, channelsLast: boolean): Tensor {
  if (!channelsLast) return x.contiguous();
  if (x.isChannelsLast) return x;
  const axes = x.shape.map((_, i) => i);
  const last = x.permute(0, ...axes.slice(2), 1).copy();
  return viewOf(last.data, x.shape, true);
}

function copyAsItLies(x: Tensor, channelsLast: boolean): Tensor {
  return viewOf(x.data.slice(x.offset, x.offset + x.size), x.shape, channelsLast);
}
