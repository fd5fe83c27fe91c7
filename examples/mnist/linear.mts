// y = x W + b, in plain TypeScript. What a layer of your own needs: forward, backward, and parameters in public fields.

import { isGradEnabled, Module, Parameter, tensor, type Tensor } from 'simdnorm';
import { floats, gradOf } from './floats.mjs';
import type { Random } from './random.mjs';

export class Linear extends Module {
  /** (in, out), not torch's (out, in): then every inner loop runs along memory, and an input that is 0 skips a whole row. */
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly #inputGrad: boolean;
  #x: Tensor | null = null;

  /**
   * Starts from the uniform distribution of He et al. 2015, arXiv:1502.01852, made for ReLU.
   *
   * @param inputGrad false for the first layer: nobody asks for the gradient of pixels, and it is most of the work.
   *   backward then returns NaN, which nobody takes for a gradient.
   */
  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    random: Random,
    { inputGrad = true } = {},
  ) {
    super();
    this.#inputGrad = inputGrad;
    const bound = Math.sqrt(6 / inFeatures);
    const start = Float32Array.from({ length: inFeatures * outFeatures }, () => (2 * random() - 1) * bound);
    this.weight = new Parameter(start, [inFeatures, outFeatures]);
    this.bias = new Parameter(new Float32Array(outFeatures), [outFeatures]);
  }

  override forward(input: Tensor): Tensor {
    const { inFeatures, outFeatures } = this;
    const [x, weight, bias] = [floats(input), floats(this.weight), floats(this.bias)];
    const rows = x.length / inFeatures;
    const y = new Float32Array(rows * outFeatures);
    for (let row = 0; row < rows; row++) {
      const to = row * outFeatures;
      y.set(bias, to);
      for (let i = 0; i < inFeatures; i++) {
        const factor = x[row * inFeatures + i]!;
        // Four of five pixels are 0, and half of what leaves a ReLU.
        if (factor === 0) continue;
        const from = i * outFeatures;
        for (let j = 0; j < outFeatures; j++) y[to + j]! += factor * weight[from + j]!;
      }
    }
    if (isGradEnabled()) this.#x = input;
    return tensor(y, [rows, outFeatures]);
  }

  override backward(gradOutput: Tensor): Tensor {
    if (!this.#x) throw new Error('Linear.backward: there is no forward to go back through');
    const { inFeatures, outFeatures } = this;
    const [x, dy, weight] = [floats(this.#x), floats(gradOutput), floats(this.weight)];
    const [dweight, dbias] = [gradOf(this.weight), gradOf(this.bias)];
    const rows = x.length / inFeatures;
    const dx = new Float32Array(x.length).fill(NaN);
    for (let row = 0; row < rows; row++) {
      const from = row * outFeatures;
      for (let j = 0; j < outFeatures; j++) dbias[j]! += dy[from + j]!;
      for (let i = 0; i < inFeatures; i++) {
        const at = i * outFeatures;
        if (this.#inputGrad) {
          let sum = 0;
          for (let j = 0; j < outFeatures; j++) sum += dy[from + j]! * weight[at + j]!;
          dx[row * inFeatures + i] = sum;
        }
        const factor = x[row * inFeatures + i]!;
        if (factor === 0) continue;
        for (let j = 0; j < outFeatures; j++) dweight[at + j]! += factor * dy[from + j]!;
      }
    }
    this.#x = null;
    return tensor(dx, [rows, inFeatures]);
  }
  protected override extraRepr(): string {
    return `${this.inFeatures}, ${this.outFeatures}`;
  }
}
