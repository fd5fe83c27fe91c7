import { elementsOf, Tensor } from '../../tensor';
import { elementBytes, readNpyElements, withNpy, type NpyHeader } from '../../io/npy';
import type { DataBatch, DataFile, Open } from '.';
import { dataError } from './table';

const partBytes = 64 * 2 ** 20;
const batchBytes = 4 * 2 ** 20;

/** Parts and batches are of whole samples; where those do not lie one after the other, there is one of each. */
export const openNpy: Open = async (path, { axis }): Promise<DataFile> => {
  const header = await withNpy(path, async (_, own): Promise<NpyHeader> => own);
  const { shape, fortranOrder } = header;
  const features = axis === undefined || shape.length === 1 ? 1 : axis < 0 ? axis + shape.length : axis;
  if (shape.length === 0) throw dataError(path, 'it holds one number, and no samples');
  const [samples] = shape as [number];
  const each = elementsOf(shape.slice(1));
  const whole = fortranOrder || features === 0 || each === 0;
  const bytes = Math.max(1, each * elementBytes(header));
  const samplesOf = (most: number): number => (whole ? Math.max(1, samples) : Math.max(1, Math.floor(most / bytes)));
  const perPart = samplesOf(partBytes);
  const perBatch = samplesOf(batchBytes);

  const batchOf = async (from: number, count: number): Promise<DataBatch> => {
    const { data, dtype } = await withNpy(path, (file, own) =>
      readNpyElements(path, file, own, from * each, count * each),
    );
    const sizes = [count, ...shape.slice(1)];
    const reversed = sizes.map((_, i) => sizes.length - 1 - i);
    const x = fortranOrder
      ? new Tensor(data, [...sizes].reverse(), { dtype }).permute(reversed)
      : new Tensor(data, sizes, { dtype });
    return shape.length === 1
      ? { data: x.reshape(count, 1), axis: 1, names: null }
      : { data: x, axis: axis ?? 1, names: null };
  };
  async function* read(part: number): AsyncGenerator<DataBatch> {
    const end = Math.min(samples, (part + 1) * perPart);
    for (let from = part * perPart; from < end; from += perBatch)
      yield await batchOf(from, Math.min(perBatch, end - from));
    if (samples === 0) yield await batchOf(0, 0);
  }
  return { parts: Math.max(1, Math.ceil(samples / perPart)), read };
};
