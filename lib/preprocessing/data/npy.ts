import { elementsOf, Tensor } from '../../tensor';
import { elementBytes, readNpyElements, withNpy, type NpyHeader } from '../../io/npy';
import type { Open } from '.';
import { arrayData } from './array';

export const openNpy: Open = async (path, { axis }) => {
  const header = await withNpy(path, async (_, own): Promise<NpyHeader> => own);
  const { shape, fortranOrder } = header;
  const each = elementsOf(shape.slice(1));
  const load = async (from: number, count: number): Promise<Tensor> => {
    const { data, dtype } = await withNpy(path, (file, own) =>
      readNpyElements(path, file, own, from * each, count * each),
    );
    const sizes = [count, ...shape.slice(1)];
    if (!fortranOrder) return new Tensor(data, sizes, { dtype });
    const reversed = sizes.map((_, i) => sizes.length - 1 - i);
    return new Tensor(data, [...sizes].reverse(), { dtype }).permute(reversed);
  };
  return arrayData(path, { shape, bytesPerElement: elementBytes(header), axis, scattered: fortranOrder, load });
};
