import type { Plan } from '../internal/call';
import { checkOptions } from '../internal/errors';
import { packTrailing, type MaskOptions, type Packing } from '../internal/mask';
import { checkNormalizedShape, layerNorm, readTrailing, type Reading } from '../internal/plan';
import type { Parameter, Tensor } from '../tensor';
import { makeParameter, Norm, python, readOption, type NormOptions } from './norm';

export interface LayerNormOptions extends NormOptions {
  /** Whether there are a weight and a bias per element; default true. */
  elementwiseAffine?: boolean | undefined;
  /** Whether there is a bias beside the weight; default true. */
  bias?: boolean | undefined;
}

/** What LayerNorm and RMSNorm share: the trailing dimensions are normalized, each element has its own weight. */
export abstract class TrailingNorm extends Norm {
  readonly normalizedShape: readonly number[];

  protected constructor(normalizedShape: number | readonly number[], dtype: unknown) {
    super(dtype);
    this.normalizedShape = checkNormalizedShape(normalizedShape, this.where);
  }

  protected override read(x: Tensor, where: string): Reading {
    return readTrailing(x, this.normalizedShape, where);
  }

  protected override pack(x: Reading, where: string, options: MaskOptions): Packing {
    return packTrailing(where, x, this.normalizedShape.length, options);
  }

  protected shapeRepr(): string {
    const shape = this.normalizedShape;
    return shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  }
}

/**
 * Normalizes each sample over its trailing dimensions.
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance over `normalizedShape`; weight and bias have
 * that shape.
 *
 * *Shape*: (..., *normalizedShape), and the same out.
 *
 * *Options*: `eps` (1e-5), `elementwiseAffine` (true), `bias` (true), `dtype` ('float32').
 *
 * *Train and eval*: the same.
 *
 * *Throws* RangeError where the trailing dimensions differ; TypeError for another dtype.
 *
 * *Matches* torch.nn.LayerNorm.
 *
 * *Reference*: Ba, Kiros & Hinton 2016, arXiv:1607.06450
 *
 * @example
 * const layer = new LayerNorm([64, 8, 8], { bias: false });
 */
export class LayerNorm extends TrailingNorm {
  readonly eps: number;
  readonly elementwiseAffine: boolean;
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;

  constructor(normalizedShape: number | readonly number[], options: LayerNormOptions = {}) {
    super(normalizedShape, options?.dtype ?? 'float32');
    const where = this.where;
    checkOptions(where, options, ['eps', 'elementwiseAffine', 'bias', 'dtype']);
    this.eps = readOption.number(where, 'eps', options.eps, 1e-5);
    this.elementwiseAffine = readOption.boolean(where, 'elementwiseAffine', options.elementwiseAffine, true);
    const bias = readOption.boolean(where, 'bias', options.bias, true);
    this.weight = makeParameter(this.dtype, this.normalizedShape, 1, this.elementwiseAffine);
    this.bias = makeParameter(this.dtype, this.normalizedShape, 0, this.elementwiseAffine && bias);
  }

  protected override plan(x: Reading): Plan {
    return layerNorm(x, this, this.eps);
  }

  /** Weight 1, bias 0. */
  resetParameters(): void {
    this.weight?.data.fill(1 as never);
    this.bias?.data.fill(0 as never);
  }

  protected override extraRepr(): string {
    const { eps, elementwiseAffine, bias } = this;
    return (
      `${this.shapeRepr()}, eps=${python(eps)}, elementwise_affine=${python(elementwiseAffine)}, ` +
      `bias=${python(bias !== null)}`
    );
  }
}
