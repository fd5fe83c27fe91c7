import type { RunningMoments } from '../preprocessing';

/** Columns as wide as what is in them; the first one to the left. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, i) => all.reduce((most, row) => Math.max(most, row[i]!.length), 0));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd();
  return all.map(line).join('\n');
}

const figure = (v: number): string => (Number.isInteger(v) && Math.abs(v) < 1e15 ? String(v) : v.toPrecision(6));

export const nameOf = ({ names }: RunningMoments, i: number): string => names?.[i] ?? String(i);

export function momentsTable(moments: RunningMoments): string {
  const std = moments.std();
  const { count, missing, mean, min, max } = moments;
  const rows = Array.from(count, (n, i) => [
    nameOf(moments, i),
    ...[n, missing[i]!, mean[i]!, std[i]!, min[i]!, max[i]!].map(figure),
  ]);
  return table(['feature', 'count', 'missing', 'mean', 'std', 'min', 'max'], rows);
}

/** What --json says: one object a feature; JSON has no NaN, and says null. */
export function momentsJson(moments: RunningMoments): object[] {
  const [std, variance] = [moments.std(), moments.variance()];
  const { count, missing, mean, min, max } = moments;
  return Array.from(count, (n, i) => ({
    feature: nameOf(moments, i),
    count: n,
    missing: missing[i],
    mean: mean[i],
    std: std[i],
    variance: variance[i],
    min: min[i],
    max: max[i],
  }));
}
