// The one table: how each norm reads a tensor as [batch][outer][groups][inner], where `run` consecutive elements share
// one of `channels`. One statistic for each (batch, group). Native code knows nothing else of a layer.

/** [batch, outer, groups, inner, run, channels] */
export type Geometry = readonly [number, number, number, number, number, number];

/** An input (N, C, ...S) by its sizes; `channelsLast` says that memory holds (N, ...S, C). */
export interface Layout {
  n: number;
  c: number;
  s: number;
  channelsLast: boolean;
}

const beside = ({ s, channelsLast }: Layout): boolean => channelsLast || s === 1;

export function batchNorm(x: Layout): Geometry {
  const { n, c, s } = x;
  return beside(x) ? [1, n * s, c, 1, 1, c] : [1, n, c, s, s, c];
}

export function instanceNorm(x: Layout): Geometry {
  const { n, c, s } = x;
  return beside(x) ? [n, s, c, 1, 1, c] : [n, 1, c, s, s, c];
}

export function groupNorm(x: Layout, groups: number): Geometry {
  const { n, c, s } = x;
  return beside(x) ? [n, s, groups, c / groups, 1, c] : [n, 1, groups, (c / groups) * s, s, c];
}

/** LayerNorm and RMSNorm over the last `size` elements. */
export function layerNorm(rows: number, size: number): Geometry {
  return [rows, 1, 1, size, 1, size];
}

/**
 * Any reduction: `sizes` as they lie in memory, those with `reduced` to be reduced over. Neighbours of a kind collapse,
 * to keep, reduce, keep, reduce; null where that is not enough. The statistics come in the order of the kept sizes.
 */
export function reduction(sizes: readonly number[], reduced: readonly boolean[]): Geometry | null {
  const parts = [1, 1, 1, 1];
  let at = 0;
  sizes.forEach((size, i) => {
    if (size === 1) return;
    if ((at % 2 === 1) !== reduced[i]) at++;
    if (at < 4) parts[at]! *= size;
  });
  if (at > 3) return null;
  const [batch, outer, groups, inner] = parts as [number, number, number, number];
  if (at === 0) return [1, 1, batch, 1, 1, batch];
  return at === 1 ? [batch, 1, 1, outer, outer, 1] : [batch, outer, groups, inner, inner, groups];
}

export const statistics = ([batch, , groups]: Geometry): number => batch * groups;
