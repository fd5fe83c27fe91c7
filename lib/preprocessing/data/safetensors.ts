import { readSafetensorsAsync } from '../../io/safetensors';
import type { Open } from '.';
import { dataError } from './table';

/** One tensor, of float64 where statistics have no way to read it. */
export const openSafetensors: Open = async (path, { axis, tensor }) => {
  const { tensors } = await readSafetensorsAsync(path);
  const names = [...tensors.keys()];
  if (tensor === undefined && names.length !== 1) {
    throw dataError(path, `which tensor? There are ${names.join(', ') || 'none'}`);
  }
  const data = tensors.get(tensor ?? names[0]!);
  if (!data) throw dataError(path, `there is no tensor ${JSON.stringify(tensor)}; there are ${names.join(', ')}`);
  const wide = data.dtype === 'int64' ? data.to('float64') : data;
  // One dimension is one feature.
  const batch = wide.ndim === 1 ? { data: wide.reshape(wide.size, 1), axis: 1 } : { data: wide, axis: axis ?? 1 };
  const read = () => [{ ...batch, names: null }];
  return { parts: 1, read };
};
