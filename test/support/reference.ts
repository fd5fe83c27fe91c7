// The oracle: slow, obvious, in double, two passes, sums that carry their rounding along (Neumaier 1974). It shares nothing with what it judges but the meaning of a
// geometry, and nobody is to make it faster.

export interface Question {
  geometry: readonly [number, number, number, number, number, number];
  x: ArrayLike<number>;
  weight?: ArrayLike<number> | null;
  bias?: ArrayLike<number> | null;
  eps: number;
  about: 'mean' | 'zero';
  /** Normalize by these, per channel, instead of by x's own statistics. */
  running?: { mean: ArrayLike<number>; var: ArrayLike<number> };
}

export interface Answer {
  y: Float64Array;
  mean: Float64Array;
  var: Float64Array;
  rstd: Float64Array;
  dx: Float64Array;
  dweight: Float64Array;
  dbias: Float64Array;
  /** Sums of magnitudes behind dweight and dbias: what their errors are measured against. */
  dweightTerms: Float64Array;
  dbiasTerms: Float64Array;
}

function exactSum(terms: number[]): number {
  let [sum, lost] = [0, 0];
  for (const term of terms) {
    const next = sum + term;
    lost += Math.abs(sum) >= Math.abs(term) ? sum - next + term : term - next + sum;
    sum = next;
  }
  return Number.isFinite(sum) ? sum + lost : sum;
}

/** y, statistics and, for a dy, gradients (zeros without one). */
export function reference(q: Question, dy?: ArrayLike<number>): Answer {
  const [batch, outer, groups, inner, run, channels] = q.geometry;
  const n = outer * inner;
  const [y, dx] = [new Float64Array(q.x.length), new Float64Array(q.x.length)];
  const [mean, variance, rstd] = [0, 0, 0].map(() => new Float64Array(batch * groups)) as [
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const perChannel = (): Float64Array => new Float64Array(channels);
  const [dweight, dbias, dweightTerms, dbiasTerms] = [perChannel(), perChannel(), perChannel(), perChannel()];
  for (let s = 0; s < batch * groups; s++) {
    const members: number[] = [];
    for (let o = 0; o < outer; o++) {
      const first = ((Math.floor(s / groups) * outer + o) * groups + (s % groups)) * inner;
      for (let i = 0; i < inner; i++) members.push(first + i);
    }
    const average = (term: (e: number) => number): number => exactSum(members.map(term)) / n;
    const center = q.running ? q.running.mean[s % groups]! : average((e) => q.x[e]!);
    mean[s] = q.about === 'zero' ? 0 : center;
    variance[s] = q.running ? q.running.var[s % groups]! : average((e) => (q.x[e]! - mean[s]!) ** 2);
    rstd[s] = 1 / Math.sqrt(variance[s]! + q.eps);

    const channel = (e: number): number => Math.floor(e / run) % channels;
    const xHat = (e: number): number => (q.x[e]! - mean[s]!) * rstd[s]!;
    const h = (e: number): number => dy![e]! * (q.weight?.[channel(e)] ?? 1);
    for (const e of members) y[e] = xHat(e) * (q.weight?.[channel(e)] ?? 1) + (q.bias?.[channel(e)] ?? 0);
    if (!dy) continue;
    const hMean = q.running || q.about === 'zero' ? 0 : average(h);
    const hxMean = q.running ? 0 : average((e) => h(e) * xHat(e));
    for (const e of members) {
      dx[e] = rstd[s]! * (h(e) - hMean - xHat(e) * hxMean);
      dweight[channel(e)]! += dy[e]! * xHat(e);
      dbias[channel(e)]! += dy[e]!;
      dweightTerms[channel(e)]! += Math.abs(dy[e]!) * (1 + Math.abs(xHat(e)));
      dbiasTerms[channel(e)]! += Math.abs(dy[e]!);
    }
  }
  return { y, mean, var: variance, rstd, dx, dweight, dbias, dweightTerms, dbiasTerms };
}
