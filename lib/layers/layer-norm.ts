import type { Plan } from '../internal/call';
import { packChannels, packTrailing, type MaskOptions, type Packing } from '../internal/mask';
import {
  channelNorm,
  checkAxis,
  checkNormalizedShape,
  layerNorm,
  readAxis,
  readTrailing,
  type Reading,
} from '../internal/plan';
import { elementsOf, type Parameter, type Tensor } from '../tensor';
import { makeParameter, Norm, python, readOption, type EpsOption, type NormOptions } from './norm';

export interface LayerNormOptions extends NormOptions, EpsOption {
  /** Whether there are a weight and a bias per element; default true. */
  elementwiseAffine?: boolean | undefined;
  /** Whether there is a bias beside the weight; default true. */
  bias?: boolean | undefined;
  /**
   * The one dimension that is normalized instead of the last ones, with a normalizedShape of one size: 1 for the channels
   * of (N, C, ...), as in ConvNeXt. Negative counts from the end.
   */
  axis?: number | undefined;
}

/** What LayerNorm and RMSNorm share: the trailing dimensions are normalized, each element has its own weight. */
export abstract class TrailingNorm extends Norm {
  readonly normalizedShape: readonly number[];

  protected constructor(normalizedShape: number | readonly number[], options: NormOptions, names: readonly string[]) {
    super(options, names);
    this.normalizedShape = checkNormalizedShape(normalizedShape, this.where);
  }

  protected override read(x: Tensor, where: string): Reading {
    return readTrailing(x, this.normalizedShape, where, true);
  }

  protected override pack({ shape }: Reading, where: string, options: MaskOptions): Packing {
    const dims = this.normalizedShape.length;
    const c = elementsOf(this.normalizedShape);
    const rows = { n: c === 0 ? 0 : elementsOf(shape) / c, c, s: 1, channelsLast: false, shape };
    return packTrailing(where, rows, dims, options);
  }

  protected shapeRepr(): string {
    const shape = this.normalizedShape;
    return shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  }
}

/**
 * Normalizes each sample over its trailing dimensions, or over one axis.
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance over `normalizedShape`; weight and bias have
 * that shape.
 *
 * *Shape*: (..., *normalizedShape), and the same out.
 *
 * *Options*: `eps` (1e-5), `elementwiseAffine` (true), `bias` (true), `axis` (the last dimensions; 1 is the
 * channels of (N, C, ...)), `relu` (false), `dtype` ('float32').
 *
 * *Train and eval*: the same.
 *
 * *Throws* RangeError where the trailing dimensions differ; TypeError for another dtype.
 *
 * *Matches* torch.nn.LayerNorm, which has neither `axis` nor `relu`. Channels-last memory is computed as it lies.
 *
 * *Reference*: Ba, Kiros & Hinton 2016, arXiv:1607.06450
 *
 * @example
 * const layer = new LayerNorm([64, 8, 8], { bias: false });
 */
export class LayerNorm extends TrailingNorm {
  readonly eps: number;
  readonly elementwiseAffine: boolean;
  /** The one dimension that is normalized, or null: the last ones. */
  readonly axis: number | null;
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;
  #settled: { eps: number; axis: number | null; shape: readonly number[] } | null = null;

  constructor(normalizedShape: number | readonly number[], options: LayerNormOptions = {}) {
    super(normalizedShape, options, ['eps', 'elementwiseAffine', 'bias', 'axis']);
    const where = this.where;
    this.axis = checkAxis(options.axis ?? null, this.normalizedShape, where);
    this.eps = readOption.number(where, 'eps', options.eps, 1e-5);
    this.elementwiseAffine = readOption.boolean(where, 'elementwiseAffine', options.elementwiseAffine, true);
    const bias = readOption.boolean(where, 'bias', options.bias, true);
    this.weight = makeParameter(this.dtype, this.normalizedShape, 1, this.elementwiseAffine);
    this.bias = makeParameter(this.dtype, this.normalizedShape, 0, this.elementwiseAffine && bias);
  }

  protected override read(x: Tensor, where: string): Reading {
    return this.axis === null ? super.read(x, where) : readAxis(x, this.normalizedShape[0]!, this.axis, where);
  }
  protected override plan(x: Reading): Plan {
    return this.axis === null ? layerNorm(x, this, this.eps) : channelNorm(x, this, this.eps);
  }
  protected override settled(): boolean {
    const { eps, axis, normalizedShape: shape } = this;
    const was = this.#settled;
    if (was && eps === was.eps && axis === was.axis && shape === was.shape) return true;
    this.#settled = { eps, axis, shape };
    return false;
  }
  protected override pack(x: Reading, where: string, options: MaskOptions): Packing {
    const { axis } = this;
    if (axis === null) return super.pack(x, where, options);
    if (axis !== 1 && axis !== 1 - x.shape.length) {
      throw new RangeError(`${where}: mask and lengths go with axis 1 or the last dimensions, but axis is ${axis}`);
    }
    return packChannels(where, x, 1, options, true);
  }

  /** Weight 1, bias 0. */
  resetParameters(): void {
    this.weight?.data.fill(1 as never);
    this.bias?.data.fill(0 as never);
  }

  protected override extraRepr(): string {
    const { eps, elementwiseAffine, bias, axis } = this;
    return (
      `${this.shapeRepr()}, eps=${python(eps)}, elementwise_affine=${python(elementwiseAffine)}, ` +
      `bias=${python(bias !== null)}${axis === null ? '' : `, axis=${axis}`}`
    );
  }
}
