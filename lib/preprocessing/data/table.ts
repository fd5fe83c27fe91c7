// Rows of numbers by columns, as tables have them.

import { StateError } from '../../internal/errors';
import { Tensor } from '../../tensor';
import type { DataBatch } from '.';

/** Rows of a batch at the most. */
export const batchRows = 8192;

export const dataError = (path: string, what: string): StateError => new StateError('ERR_DATA', `${path}: ${what}`);

/** Where the columns asked for are. */
export function chosenColumns(path: string, all: readonly string[], asked: readonly string[] | undefined): number[] {
  if (!asked) return all.map((_, i) => i);
  return asked.map((name, i) => {
    const at = all.indexOf(name);
    if (asked.indexOf(name) < i) throw dataError(path, `the column ${JSON.stringify(name)} is asked for twice`);
    if (at >= 0) return at;
    throw dataError(path, `there is no column ${JSON.stringify(name)}; there are ${all.join(', ')}`);
  });
}

/** (N, features) of float64. */
export const rows = (data: Float64Array, features: number, names: readonly string[] | null): DataBatch => ({
  data: new Tensor(data, [features === 0 ? 0 : data.length / features, features]),
  axis: 1,
  names,
});
