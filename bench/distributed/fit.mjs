// The law that times of exchanges follow: a rank sends to each of the others, and takes from each, one after the other.
//
//   us = a + (ranks - 1) * share * (o + bytes * perByte)
//
// share: how many ranks a core has. On fewer cores than ranks all of them take turns, which is no property of an engine.

const shareOf = (ranks, cores) => Math.max(1, ranks / cores);

export const predicted = ({ a, o, perByte }, ranks, bytes, cores = Infinity) =>
  a + (ranks - 1) * shareOf(ranks, cores) * (o + bytes * perByte);

/**
 * Least squares of the relative error, none of the constants below 0.
 *
 * @param points {ranks, bytes, us}, `bytes` from one rank to one other
 * @returns {a, o, perByte} in us, and `off`: how many times too large or too small the law is for the worst point
 */
export function fitted(points, cores) {
  const rows = points.map(({ ranks, bytes, us }) => {
    const turns = (ranks - 1) * shareOf(ranks, cores);
    return [1 / us, turns / us, (turns * bytes) / us];
  });
  let best = null;
  // Three unknowns: a least-squares solution with none below 0 is the plain one of some of them, the others 0.
  for (let mask = 1; mask < 8; mask++) {
    const chosen = [0, 1, 2].filter((i) => mask & (1 << i));
    const solution = solve(
      chosen.map((i) => chosen.map((j) => rows.reduce((sum, row) => sum + row[i] * row[j], 0))),
      chosen.map((i) => rows.reduce((sum, row) => sum + row[i], 0)),
    );
    if (!solution.every((value) => value >= 0)) continue;
    const all = [0, 0, 0];
    chosen.forEach((i, k) => (all[i] = solution[k]));
    const error = rows.reduce((sum, row) => sum + (row.reduce((t, v, i) => t + v * all[i], 0) - 1) ** 2, 0);
    if (!best || error < best.error) best = { all, error };
  }
  const [a, o, perByte] = best.all;
  const ratios = points.map(({ ranks, bytes, us }) => predicted({ a, o, perByte }, ranks, bytes, cores) / us);
  return { a, o, perByte, off: Math.max(...ratios.map((ratio) => Math.max(ratio, 1 / ratio))) };
}

/** Of a symmetric positive definite matrix, by elimination. */
function solve(matrix, right) {
  const rows = matrix.map((row, i) => [...row, right[i]]);
  rows.forEach((pivot, i) => {
    rows.forEach((row, k) => {
      if (k === i) return;
      const factor = row[i] / pivot[i];
      row.forEach((_, j) => (row[j] -= factor * pivot[j]));
    });
  });
  return rows.map((row, i) => row.at(-1) / row[i]);
}
