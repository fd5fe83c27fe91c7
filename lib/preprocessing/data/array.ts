// Arrays in files, as parts and batches of whole samples.

import { elementsOf, type Tensor } from '../../tensor';
import type { DataBatch, DataFile } from '.';
import { dataError } from './table';

const partBytes = 64 * 2 ** 20;
const batchBytes = 4 * 2 ** 20;

export interface ArrayInFile {
  shape: readonly number[];
  bytesPerElement: number;
  axis: number | undefined;
  /** Whether samples do not lie one after the other. */
  scattered: boolean;
  /** Samples [from, from + count), of the array's shape behind them; all of them where they are scattered. */
  load(from: number, count: number): Promise<Tensor>;
}

/** Where samples are scattered, or the features are on their axis, there is one batch. */
export function arrayData(path: string, { shape, bytesPerElement, axis, scattered, load }: ArrayInFile): DataFile {
  if (shape.length === 0) throw dataError(path, 'it holds one number, and no samples');
  const [samples] = shape as [number];
  const features = axis === undefined || shape.length === 1 ? 1 : axis < 0 ? axis + shape.length : axis;
  const each = elementsOf(shape.slice(1));
  const whole = scattered || features === 0 || each === 0;
  const bytes = Math.max(1, each * bytesPerElement);
  const samplesOf = (most: number): number => (whole ? Math.max(1, samples) : Math.max(1, Math.floor(most / bytes)));
  const perPart = samplesOf(partBytes);
  const perBatch = samplesOf(batchBytes);

  const batchOf = async (from: number, count: number): Promise<DataBatch> => {
    const data = await load(from, count);
    // One dimension is one feature.
    return shape.length === 1
      ? { data: data.reshape(count, 1), axis: 1, names: null }
      : { data, axis: axis ?? 1, names: null };
  };
  async function* read(part: number): AsyncGenerator<DataBatch> {
    const end = Math.min(samples, (part + 1) * perPart);
    for (let from = part * perPart; from < end; from += perBatch)
      yield await batchOf(from, Math.min(perBatch, end - from));
    if (samples === 0) yield await batchOf(0, 0);
  }
  return { parts: Math.max(1, Math.ceil(samples / perPart)), read };
}
