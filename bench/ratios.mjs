// From times to ratios. A row is one cell in one mode, with a number of threads and a variant: { id, op, mode, threads,
// variant, times, ulp, unsupported }, and by `rated` { best, toBest, toLimit }, the last two by the product's name.

import { median } from './statistics.mjs';

/** A cell with a ratio above this is lost. */
export const LOST = 1.1;

const fastest = (names, times) => names.filter((name) => times[name]).sort((a, b) => times[a].us - times[b].us)[0];
const namesOf = (roles, wanted) => Object.keys(roles).filter((name) => roles[name] === wanted);

/** With the products' ratios to the best peer and to the limit. */
export function rated(row, roles) {
  const { times } = row;
  const to = (other) => {
    const those = other ? namesOf(roles, 'product').filter((name) => times[name]) : [];
    return Object.fromEntries(those.map((name) => [name, times[name].us / times[other].us]));
  };
  const best = fastest(namesOf(roles, 'peer'), times);
  return { ...row, best, toBest: to(best), toLimit: to(fastest(namesOf(roles, 'limit'), times)) };
}

/** Key by key, of objects that need not have them all. */
function medians(objects) {
  const values = {};
  for (const object of objects) {
    for (const [key, value] of Object.entries(object)) (values[key] ??= []).push(value);
  }
  return Object.fromEntries(Object.entries(values).map(([key, all]) => [key, median(all)]));
}

/** One row for each of the first run's: medians over the runs, of the ratios too; the errors are the first run's. */
export function overRuns(runs) {
  return runs[0].map((first, i) => {
    const rows = runs.map((run) => run[i]);
    const times = Object.fromEntries(
      Object.keys(first.times).map((name) => [name, medians(rows.map((row) => row.times[name] ?? {}))]),
    );
    const best = fastest([...new Set(rows.map((row) => row.best))], times);
    const [toBest, toLimit] = ['toBest', 'toLimit'].map((ratio) => medians(rows.map((row) => row[ratio])));
    return { ...first, times, best, toBest, toLimit };
  });
}
