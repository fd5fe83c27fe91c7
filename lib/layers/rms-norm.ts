import type { Plan } from '../internal/call';
import { checkNumber } from '../internal/errors';
import { machineEpsilon, rmsNorm, type Reading } from '../internal/plan';
import type { Parameter } from '../tensor';
import { TrailingNorm } from './layer-norm';
import { makeParameter, python, readOption, type NormOptions } from './norm';

export interface RMSNormOptions extends NormOptions {
  /** Added to the mean square under the root; default null: the machine epsilon of the dtype. */
  eps?: number | null | undefined;
  /** Whether there is a weight per element; default true. */
  elementwiseAffine?: boolean | undefined;
}

/**
 * Scales each sample by the root mean square over its trailing dimensions.
 *
 * y = x / sqrt(mean(x^2) + eps) * weight, over `normalizedShape`; weight has that shape. There is no bias.
 *
 * *Shape*: (..., *normalizedShape), and the same out.
 *
 * *Options*: `eps` (null: 2^-23 for float32, 2^-52 for float64), `elementwiseAffine` (true), `relu` (false),
 * `dtype` ('float32').
 *
 * *Train and eval*: the same.
 *
 * *Throws* RangeError where the trailing dimensions differ; TypeError for another dtype.
 *
 * *Matches* torch.nn.RMSNorm. Difference: a float32 layer takes no float64 input, nor the other way.
 *
 * *Reference*: Zhang & Sennrich 2019, arXiv:1910.07467
 *
 * @example
 * const layer = new RMSNorm(4096, { eps: 1e-6 });
 */
export class RMSNorm extends TrailingNorm {
  readonly eps: number | null;
  readonly elementwiseAffine: boolean;
  readonly weight: Parameter | null;
  /** There is none. */
  readonly bias = null;
  #settled: { eps: number | null; shape: readonly number[] } | null = null;

  constructor(normalizedShape: number | readonly number[], options: RMSNormOptions = {}) {
    super(normalizedShape, options, ['eps', 'elementwiseAffine']);
    const where = this.where;
    const { eps = null } = options;
    this.eps = eps === null ? null : checkNumber(where, 'eps', eps);
    this.elementwiseAffine = readOption.boolean(where, 'elementwiseAffine', options.elementwiseAffine, true);
    this.weight = makeParameter(this.dtype, this.normalizedShape, 1, this.elementwiseAffine);
  }

  protected override plan(x: Reading): Plan {
    return rmsNorm(x, this.weight, this.eps ?? machineEpsilon(this.dtype));
  }

  protected override settled(): boolean {
    const { eps, normalizedShape: shape } = this;
    const was = this.#settled;
    if (was && eps === was.eps && shape === was.shape) return true;
    this.#settled = { eps, shape };
    return false;
  }

  /** Weight 1. */
  resetParameters(): void {
    this.weight?.data.fill(1 as never);
  }

  protected override extraRepr(): string {
    const { eps, elementwiseAffine } = this;
    return `${this.shapeRepr()}, eps=${python(eps)}, elementwise_affine=${python(elementwiseAffine)}`;
  }
}
