// Stochastic gradient descent with momentum, as torch.optim.SGD: v = momentum v + grad, parameter -= lr v.

import type { Parameter } from 'simdnorm';
import { floats, gradOf } from './floats.mjs';

export class SGD {
  readonly #parts: { parameter: Parameter; velocity: Float32Array }[];

  constructor(
    parameters: Parameter[],
    readonly momentum: number,
  ) {
    this.#parts = parameters.map((parameter) => ({ parameter, velocity: new Float32Array(parameter.size) }));
  }

  step(lr: number): void {
    for (const { parameter, velocity } of this.#parts) {
      const [values, grad] = [floats(parameter), gradOf(parameter)];
      for (let i = 0; i < values.length; i++) {
        velocity[i] = this.momentum * velocity[i]! + grad[i]!;
        values[i]! -= lr * velocity[i]!;
      }
    }
  }
}
