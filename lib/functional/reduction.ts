// Reductions over any axes of any memory: x as it lies, or as one permuted copy, and the geometry of it.

import { momentsOf } from '../internal/call';
import { describe } from '../internal/errors';
import { reduction, statistics, type Geometry } from '../internal/geometry';
import { elementsOf, Tensor } from '../tensor';

export interface Reduction {
  /** Contiguous; the axes of the tensor given, in the order of `order`. */
  x: Tensor;
  order: readonly number[];
  geometry: Geometry;
  reduced: readonly boolean[];
}

/** Which axes of `rank` are meant; negative ones count from the end, undefined means all. */
export function checkAxes(axes: unknown, rank: number, where: string, name: string): boolean[] {
  const reduced = new Array<boolean>(rank).fill(axes === undefined);
  if (axes === undefined) return reduced;
  if (typeof axes !== 'number' && !Array.isArray(axes)) {
    throw new TypeError(`${where}: ${name} must be an integer or an array, but got ${describe(axes)}`);
  }
  for (const axis of [axes].flat() as unknown[]) {
    if (!Number.isInteger(axis)) throw new TypeError(`${where}: ${name} must hold integers, but got ${describe(axis)}`);
    const at = (axis as number) + ((axis as number) < 0 ? rank : 0);
    if (at < 0 || at >= rank) {
      throw new RangeError(
        `${where}: Dimension out of range (expected to be in range of [${-rank}, ${rank - 1}], but got ${String(axis)})`,
      );
    }
    if (reduced[at]) throw new RangeError(`${where}: dim ${at} appears multiple times in the list of dims`);
    reduced[at] = true;
  }
  return reduced;
}

export function reduce(given: Tensor, reduced: readonly boolean[]): Reduction {
  const axes = given.shape.map((_, i) => i);
  const through = (x: Tensor, order: readonly number[]): Reduction | null => {
    const laid = x.permute(...order);
    const geometry = reduction(
      laid.shape,
      order.map((axis) => reduced[axis]!),
    );
    return geometry && { x: laid.contiguous(), order, geometry, reduced };
  };
  const inMemory = [...axes].sort((a, b) => given.strides[b]! - given.strides[a]!);
  const asItLies = given.permute(...inMemory).isContiguous ? through(given, inMemory) : through(given, axes);
  return asItLies ?? through(given, [...axes.filter((i) => !reduced[i]), ...axes.filter((i) => reduced[i])])!;
}

/** A contiguous tensor of the axes `order`, as one of the axes in their own order. */
export function inOrder(x: Tensor, order: readonly number[]): Tensor {
  return x.permute(...order.map((_, axis) => order.indexOf(axis)));
}

/** One value for each statistic, as a tensor of the axes kept. */
export function keptTensor({ x, order, reduced }: Reduction, values: Float64Array, keepDims: boolean): Tensor {
  const sizes = x.shape.map((size, i) => (reduced[order[i]!] ? 1 : size));
  const all = inOrder(new Tensor(values, sizes), order).contiguous();
  return keepDims
    ? all
    : new Tensor(
        all.data,
        all.shape.filter((_, axis) => !reduced[axis]),
      );
}

/** Count, mean and M2 of each statistic, each in one double. */
export function momentsOver(where: string, { x, geometry }: Reduction): [number, Float64Array, Float64Array] {
  const parts = momentsOf(where, x, geometry);
  const n = statistics(geometry);
  const mean = new Float64Array(n);
  const m2 = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    mean[i] = parts[5 * i + 1]! + parts[5 * i + 2]!;
    m2[i] = parts[5 * i + 3]! + parts[5 * i + 4]!;
  }
  return [elementsOf(x.shape) / n, mean, m2];
}
