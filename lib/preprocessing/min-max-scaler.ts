import { checkBoolean, checkNumber, checkOptions, describe } from '../internal/errors';
import type { Tensor } from '../tensor';
import type { RunningMoments } from './running-moments';
import { Scaler, type AffineMap } from './scaler';

export interface MinMaxScalerOptions {
  /** Where the least and the greatest value go; default [0, 1]. */
  featureRange?: readonly [number, number] | undefined;
  /** Whether transform holds what it has not seen within the range too; default false. */
  clip?: boolean | undefined;
  /** Which axis has the features, negative ones from the end; default 1. */
  axis?: number | undefined;
}

/**
 * Features between two numbers.
 *
 * y = (x - dataMin) * scale + low, with scale = (high - low) / dataRange, or high - low for a feature that is constant
 *
 * *Shape*, *fit*, *throws*: as StandardScaler.
 *
 * *Matches* sklearn.preprocessing.MinMaxScaler, whose `data_min_`, `data_max_`, `data_range_`, `scale_`, `min_` and
 * `n_samples_seen_` are `dataMin`, `dataMax`, `dataRange`, `scale`, `min` and `nSamplesSeen`. Differences: y is not x * scale + min,
 * whose digits cancel far from 0; scalers merge.
 *
 * @example
 * const y = new MinMaxScaler({ featureRange: [-1, 1] }).fitTransform(x);
 */
export class MinMaxScaler extends Scaler {
  readonly featureRange: readonly [number, number];
  readonly clip: boolean;

  constructor(options: MinMaxScalerOptions = {}) {
    const where = 'MinMaxScaler';
    checkOptions(where, options, ['featureRange', 'clip', 'axis']);
    super(options.axis ?? 1, 2);
    const range: unknown = options.featureRange ?? [0, 1];
    if (!Array.isArray(range) || range.length !== 2) {
      throw new TypeError(`${where}: featureRange must be two numbers, but got ${describe(range)}`);
    }
    const [low, high] = range.map((v) => checkNumber(where, 'featureRange', v)) as [number, number];
    if (low >= high) {
      throw new RangeError(`${where}: featureRange must have its minimum below its maximum, but got ${low}, ${high}`);
    }
    this.featureRange = [low, high];
    this.clip = checkBoolean(where, 'clip', options.clip ?? false);
  }

  /** One that has seen what the moments have. */
  static fromMoments(moments: RunningMoments, options: MinMaxScalerOptions = {}): MinMaxScaler {
    return new MinMaxScaler(options).adopt(moments);
  }

  /** Of each feature, as all below; null before fit. */
  get dataMin(): Float64Array | null {
    return this.seen && this.seen.min;
  }
  get dataMax(): Float64Array | null {
    return this.seen && this.seen.max;
  }
  get dataRange(): Float64Array | null {
    const { dataMin, dataMax } = this;
    return dataMin && dataMin.map((min, i) => dataMax![i]! - min);
  }
  get scale(): Float64Array | null {
    const [low, high] = this.featureRange;
    return this.dataRange && this.dataRange.map((range) => (high - low) / (range === 0 ? 1 : range));
  }
  /** What is added to x * scale. */
  get min(): Float64Array | null {
    const { dataMin, scale, featureRange } = this;
    return dataMin && dataMin.map((min, i) => featureRange[0] - min * scale![i]!);
  }

  protected override maps(): AffineMap[] | null {
    const { dataMin, scale, featureRange } = this;
    return dataMin && Array.from(dataMin, (center, i) => ({ center, factor: scale![i]!, offset: featureRange[0] }));
  }

  protected override finish(y: Tensor): Tensor {
    if (!this.clip) return y;
    const [low, high] = this.featureRange;
    // 16-bit floats by way of numbers.
    const numbers = y.dtype === 'float32' || y.dtype === 'float64' ? y : y.to('float32');
    const data = numbers.data as Float32Array;
    const end = numbers.offset + numbers.size;
    for (let i = numbers.offset; i < end; i++) data[i] = Math.min(Math.max(data[i]!, low), high);
    if (numbers !== y) (y.data as Uint16Array).set(numbers.to(y.dtype).data as Uint16Array, y.offset);
    return y;
  }
}
