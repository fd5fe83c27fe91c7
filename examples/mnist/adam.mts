// Adam (Kingma & Ba 2015, arXiv:1412.6980), as torch.optim.Adam: steps of about lr whatever the size of the gradients.

import type { Parameter } from 'simdnorm';
import { floats, gradOf } from './floats.mjs';

export class Adam {
  readonly #parts: { parameter: Parameter; first: Float32Array; second: Float32Array }[];
  #steps = 0;

  /** @param betas how much of the running means of grad and grad^2 is old */
  constructor(
    parameters: Parameter[],
    readonly betas: readonly [number, number] = [0.9, 0.999],
    readonly eps = 1e-8,
  ) {
    this.#parts = parameters.map((parameter) => ({
      parameter,
      first: new Float32Array(parameter.size),
      second: new Float32Array(parameter.size),
    }));
  }

  step(lr: number): void {
    const [beta1, beta2] = this.betas;
    this.#steps++;
    // The means started from 0: without this they would be too small at first.
    const [whole1, whole2] = [1 - beta1 ** this.#steps, 1 - beta2 ** this.#steps];
    for (const { parameter, first, second } of this.#parts) {
      const [values, grad] = [floats(parameter), gradOf(parameter)];
      for (let i = 0; i < values.length; i++) {
        const g = grad[i]!;
        first[i] = beta1 * first[i]! + (1 - beta1) * g;
        second[i] = beta2 * second[i]! + (1 - beta2) * g * g;
        values[i]! -= (lr * (first[i]! / whole1)) / (Math.sqrt(second[i]! / whole2) + this.eps);
      }
    }
  }
}
