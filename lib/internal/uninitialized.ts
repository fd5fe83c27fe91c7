// Tensors that exist before their shape does. A lazy layer hands them out at once, so that an optimizer made before the
// first forward holds the very objects that will be trained; until then every look at them is an error.

import { StateError } from './errors';
import type { Tensor } from '../tensor';

const fields = ['data', 'shape', 'strides', 'offset', 'layout'] as const;
const uninitialized = new WeakSet<Tensor>();

export function isUninitialized(t: Tensor): boolean {
  return uninitialized.has(t);
}

/** Takes a tensor's memory and shape away. */
export function uninitialize(t: Tensor, where: string, name: string): void {
  uninitialized.add(t);
  const get = (): never => {
    throw new StateError(
      'ERR_UNINITIALIZED',
      `${where}: Can't access the shape of an uninitialized parameter or buffer: ${name} is initialized by the first ` +
        'forward, or by loading a state dict',
    );
  };
  for (const field of fields) Object.defineProperty(t, field, { get, configurable: true, enumerable: true });
}

/** Gives a tensor the memory and shape of another. */
export function initialize(t: Tensor, made: Tensor): void {
  for (const field of fields) {
    Object.defineProperty(t, field, { value: made[field], configurable: true, enumerable: true, writable: true });
  }
  uninitialized.delete(t);
}
