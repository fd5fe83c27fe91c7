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

export const statistics = ([batch, , groups]: Geometry): number => batch * groups;
