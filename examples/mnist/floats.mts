// Tensors as the flat arrays that loops work on.

import { tensor, type Parameter, type Tensor } from 'simdnorm';

/** The elements in row-major order. */
export function floats(t: Tensor): Float32Array {
  const { data, offset, size } = t.contiguous();
  return data.subarray(offset, offset + size) as Float32Array;
}

/** The gradient to add to: zeros where nothing was added since `zeroGrad`. */
export function gradOf(parameter: Parameter): Float32Array {
  parameter.grad ??= tensor(new Float32Array(parameter.size), parameter.shape);
  return floats(parameter.grad);
}
