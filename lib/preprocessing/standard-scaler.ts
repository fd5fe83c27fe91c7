import { checkBoolean, checkOptions } from '../internal/errors';
import type { RunningMoments } from './running-moments';
import { Scaler, type AffineMap } from './scaler';

export interface StandardScalerOptions {
  /** Whether the mean is taken away; default true. */
  withMean?: boolean | undefined;
  /** Whether the standard deviation is divided by; default true. */
  withStd?: boolean | undefined;
  /** Which axis has the features, negative ones from the end; default 1. */
  axis?: number | undefined;
}

/**
 * Features of mean 0 and variance 1.
 *
 * y = (x - mean) / scale, with scale = sqrt(var), or 1 for a feature that is constant
 *
 * *Shape*: (N, features), or (N, features, ...S); the same out.
 *
 * *Fit* takes in a whole data set, *partialFit* and *merge* one in parts, with the same result whatever the parts are. NaN is
 * a missing value in fit, and stays in transform. An infinity is refused in fit.
 *
 * *Throws* RangeError for another number of features, an infinity in fit and negative weights; StateError (`code`
 * 'ERR_NOT_FITTED') for a transform before. What was fitted is then as before.
 *
 * *Matches* sklearn.preprocessing.StandardScaler, whose `mean_`, `var_`, `scale_`, `n_samples_seen_`, `n_features_in_` are `mean`,
 * `var`, `scale`, `nSamplesSeen`, `nFeaturesIn`. Differences: a feature is constant where its variance is 0, which is exact here
 * (there below a bound for rounding, which takes small variances around large means for none); scalers merge; transform does
 * not look for infinities.
 *
 * @example
 * const scaler = new StandardScaler();
 * for (const batch of batches) scaler.partialFit(batch);
 * scaler.transform(x, { out: x }); // in place
 */
export class StandardScaler extends Scaler {
  readonly withMean: boolean;
  readonly withStd: boolean;

  constructor(options: StandardScalerOptions = {}) {
    const where = 'StandardScaler';
    checkOptions(where, options, ['withMean', 'withStd', 'axis']);
    super(options.axis ?? 1, 2);
    this.withMean = checkBoolean(where, 'withMean', options.withMean ?? true);
    this.withStd = checkBoolean(where, 'withStd', options.withStd ?? true);
  }

  /** One that has seen what the moments have. */
  static fromMoments(moments: RunningMoments, options: StandardScalerOptions = {}): StandardScaler {
    return new StandardScaler(options).adopt(moments);
  }

  /** Of each feature, or null before fit. */
  get mean(): Float64Array | null {
    return this.seen && this.seen.mean;
  }
  /** The biased variance, or null before fit and without `withStd`. */
  get var(): Float64Array | null {
    return this.seen && this.withStd ? this.seen.variance() : null;
  }
  /** What is divided by, or null before fit and without `withStd`. */
  get scale(): Float64Array | null {
    return this.var && this.var.map((v) => (v === 0 ? 1 : Math.sqrt(v)));
  }

  protected override maps(): AffineMap[] | null {
    const { mean, scale } = this;
    return (
      mean &&
      Array.from(mean, (m, i) => ({ center: this.withMean ? m : 0, factor: scale ? 1 / scale[i]! : 1, offset: 0 }))
    );
  }
}
