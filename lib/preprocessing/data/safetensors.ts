import { readElements, readEntries } from '../../io/safetensors';
import { bytesOfDtype } from '../../io/safetensors-header';
import { elementsOf, type Tensor } from '../../tensor';
import type { Open } from '.';
import { arrayData } from './array';
import { dataError } from './table';

/** One tensor, of float64 where statistics have no way to read it. */
export const openSafetensors: Open = async (path, { axis, tensor }) => {
  const entries = await readEntries(path);
  const names = entries.map(({ name }) => name);
  if (tensor === undefined && names.length !== 1) {
    throw dataError(path, `which tensor? There are ${names.join(', ') || 'none'}`);
  }
  const entry = tensor === undefined ? entries[0]! : entries.find(({ name }) => name === tensor);
  if (!entry) throw dataError(path, `there is no tensor ${JSON.stringify(tensor)}; there are ${names.join(', ')}`);
  const { name, dtype, shape } = entry;
  const each = elementsOf(shape.slice(1));
  const load = async (from: number, count: number): Promise<Tensor> => {
    const elements = await readElements(path, name, from * each, count * each);
    return (dtype === 'int64' ? elements.to('float64') : elements).reshape([count, ...shape.slice(1)]);
  };
  return arrayData(path, { shape, bytesPerElement: bytesOfDtype[dtype], axis, scattered: false, load });
};
