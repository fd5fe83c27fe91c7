// y = max(x, 0), in plain TypeScript.

import { isGradEnabled, Module, tensor, type Tensor } from 'simdnorm';
import { floats } from './floats.mjs';

export class ReLU extends Module {
  #y: Float32Array | null = null;

  override forward(x: Tensor): Tensor {
    // A NaN stays one: a network that diverged should be seen to.
    const y = floats(x).map((value) => (value < 0 ? 0 : value));
    if (isGradEnabled()) this.#y = y;
    return tensor(y, x.shape);
  }

  override backward(dy: Tensor): Tensor {
    const y = this.#y;
    if (!y) throw new Error('ReLU.backward: there is no forward to go back through');
    this.#y = null;
    return tensor(
      floats(dy).map((value, i) => (y[i] === 0 ? 0 : value)),
      dy.shape,
    );
  }
}
