// The oracle of LocalResponseNorm and CrossMapLRN2d, which knows windows as lists of channels.

const { abs, pow } = Math;

export interface WindowQuestion {
  shape: number[];
  x: ArrayLike<number>;
  dy: ArrayLike<number>;
  /** The channels around c that are in its window, and what their squares are multiplied by. */
  window: (c: number) => [first: number, last: number];
  scale: number;
  beta: number;
  k: number;
}

/** y and dx, and the size of the terms of dx: what its error is measured against. */
export function oracle({
  shape,
  x,
  dy,
  window,
  scale,
  beta,
  k,
}: WindowQuestion): Record<'y' | 'dx' | 'terms', Float64Array> {
  const [n, channels, ...rest] = shape as [number, number, ...number[]];
  const inner = rest.reduce((a, b) => a * b, 1);
  const [y, dx, terms] = [x, x, x].map(({ length }) => new Float64Array(length)) as [
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const members = Array.from({ length: channels }, (_, c) => {
    const [first, last] = window(c);
    return Array.from({ length: channels }, (_, j) => j).filter((j) => j >= first && j <= last);
  });
  const of = members.map((_, c) => members.flatMap((list, j) => (list.includes(c) ? [j] : [])));
  for (let at = 0; at < n * inner; at++) {
    const index = (c: number): number => (((at / inner) | 0) * channels + c) * inner + (at % inner);
    const s = members.map((list) => k + scale * list.reduce((sum, j) => sum + x[index(j)]! ** 2, 0));
    for (let c = 0; c < channels; c++) {
      const e = index(c);
      y[e] = x[e]! / pow(s[c]!, beta);
      const direct = dy[e]! / pow(s[c]!, beta);
      dx[e] = direct;
      terms[e] = abs(direct);
      if (beta === 0) continue;
      for (const j of of[c]!) {
        const term = (2 * scale * beta * x[e]! * dy[index(j)]! * x[index(j)]!) / pow(s[j]!, beta + 1);
        dx[e]! -= term;
        terms[e]! += abs(term);
      }
    }
  }
  return { y, dx, terms };
}
