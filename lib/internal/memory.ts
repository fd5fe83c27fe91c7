// Memory that a call fills: new arrays, and how a lent one goes back.

import { allocate, type DType, type TensorData } from '../tensor';
import { addon } from './addon';

// A page fault costs about 1.9 us for 4 KiB, which is seven times what RMSNorm needs to fill it; in huge pages the same
// new array costs two to three times the call instead. From this size on malloc maps every array anew and unmaps it when it is freed,
// so nothing that comes later is affected; below it glibc hands out touched memory again, and the advice gained nothing.
const hugeFrom = 32 * 2 ** 20;

/** An array that is filled as soon as it is made. */
export function allocateOutput(dtype: DType, length: number, where?: string): TensorData {
  const data = allocate(dtype, length, where);
  if (data.byteLength >= hugeFrom) addon.adviseHugePages(data.buffer as ArrayBuffer);
  return data;
}

/**
 * Takes the memory of a buffer away from it and from all its views, without a copy. null where that cannot be: it was
 * transferred to another thread, or marked as not to be transferred.
 */
export function detach(buffer: ArrayBuffer): ArrayBuffer | null {
  const { byteLength } = buffer;
  try {
    // Node 20 has no `transfer`, and copies what must not be transferred instead of refusing.
    const moved =
      typeof buffer.transfer === 'function' ? buffer.transfer() : structuredClone(buffer, { transfer: [buffer] });
    return byteLength > 0 && buffer.byteLength === 0 ? moved : null;
  } catch {
    return null;
  }
}
