import { parametersOf } from '../internal/call';
import { checkNumber, describe } from '../internal/errors';
import type { Tensor } from '../tensor';
import type { RunningMoments } from './running-moments';
import { Scaler, type AffineMap } from './scaler';

/**
 * Channels of images by a mean and a standard deviation of each: those of a model, or fitted.
 *
 * y = (x - mean) / std
 *
 * *Shape*: (C, H, W) or (..., C, H, W); the same out.
 *
 * *Fit*: means and biased standard deviations over all pixels; NaN is left out.
 *
 * *Throws* TypeError for images that are not floating point (see imagesToTensor for bytes); RangeError for a deviation of 0, and
 * for another number of channels.
 *
 * *Matches* torchvision.transforms.Normalize, whose `inplace` is `out: x` here.
 *
 * @example
 * const y = new Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).transform(x);
 */
export class Normalize extends Scaler {
  readonly #given: { mean: Float64Array; std: Float64Array } | null;

  /** Without arguments, to be fitted. */
  constructor(mean?: readonly number[] | Float64Array, std?: readonly number[] | Float64Array) {
    super(-3, 3);
    const where = 'Normalize';
    const list = (name: string, value: unknown): Float64Array => {
      if (!Array.isArray(value) && !ArrayBuffer.isView(value)) {
        throw new TypeError(`${where}: ${name} must be an array of numbers, but got ${describe(value)}`);
      }
      return Float64Array.from(value as number[], (v) => checkNumber(where, name, v));
    };
    if (mean === undefined && std === undefined) {
      this.#given = null;
      return;
    }
    this.#given = { mean: list('mean', mean), std: list('std', std) };
    const { length } = this.#given.mean;
    if (this.#given.std.length !== length) {
      throw new RangeError(`${where}: mean has ${length} values, std has ${this.#given.std.length}`);
    }
    checkStd(where, this.#given.std);
  }

  /** One that has seen what the moments have. */
  static fromMoments(moments: RunningMoments): Normalize {
    return new Normalize().adopt(moments);
  }

  /** As given, else as fitted; null before. */
  get mean(): Float64Array | null {
    return this.seen ? this.seen.mean : this.#given && this.#given.mean.slice();
  }
  get std(): Float64Array | null {
    return this.seen ? this.seen.std() : this.#given && this.#given.std.slice();
  }

  protected override maps(): AffineMap[] | null {
    const { mean, std } = this;
    if (!mean) return null;
    checkStd('Normalize.transform', std!);
    return Array.from(mean, (center, i) => ({ center, factor: 1 / std![i]!, offset: 0 }));
  }

  protected override floats(x: Tensor, where: string): Tensor {
    if (parametersOf(x.dtype)) return x;
    throw new TypeError(`${where}: input must be floating point, but is ${x.dtype}; imagesToTensor takes bytes`);
  }
}

function checkStd(where: string, std: Float64Array): void {
  const zero = std.indexOf(0);
  if (zero >= 0) throw new RangeError(`${where}: std evaluated to zero, leading to division by zero (channel ${zero})`);
}
