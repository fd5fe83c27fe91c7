// What the scalers share: moments that are fitted, and an affine map of each feature made of them.

import { Flag } from '../internal/addon';
import { forward, parametersOf } from '../internal/call';
import { checkOptions, describe, formatShape, StateError } from '../internal/errors';
import { batchNorm, statistics } from '../internal/geometry';
import { planOf } from '../internal/plan';
import type { OutputPool } from '../output-pool';
import { asTensor, elementsOf, Tensor, type TensorData, type TensorLike } from '../tensor';
import { RunningMoments } from './running-moments';
import { readSamples, type BatchOptions } from './samples';

export interface FitOptions {
  /** How often each sample (N) or position (N, ...S) counts; default 1. */
  sampleWeight?: BatchOptions['weights'];
  /** Which samples or positions are data: nonzero or true; default all. */
  mask?: BatchOptions['mask'];
}
export interface TransformOptions {
  /** Where the result goes: the input itself for in place, another tensor or array of its dtype and size, or a pool. */
  out?: Tensor | TensorData | OutputPool | undefined;
}

/** y = (x - center) * factor + offset for one feature. */
export interface AffineMap {
  center: number;
  factor: number;
  offset: number;
}

export abstract class Scaler {
  /** Which axis has the features. */
  readonly axis: number;
  #moments: RunningMoments | null = null;

  /** @param least the fewest dimensions of data */
  protected constructor(
    axis: number,
    private readonly least: number,
  ) {
    if (!Number.isInteger(axis)) {
      throw new TypeError(`${this.constructor.name}: axis must be an integer, but got ${describe(axis)}`);
    }
    this.axis = axis;
  }

  /** What it has seen, or null. A copy. */
  get moments(): RunningMoments | null {
    return this.#moments && this.#moments.clone();
  }
  get nFeaturesIn(): number | null {
    return this.#moments && this.#moments.features;
  }
  /** How many values of each feature it has seen: one number where they are all as many. */
  get nSamplesSeen(): number | Float64Array | null {
    if (!this.#moments) return null;
    const { count } = this.#moments;
    return count.every((n) => n === count[0]) ? count[0]! : count;
  }

  /** Forgets what it has seen, then takes in x. */
  fit(x: TensorLike, options: FitOptions = {}): this {
    this.#moments = this.#momentsOf(x, options, null, 'fit');
    return this;
  }
  /** Takes in x beside what it has seen. */
  partialFit(x: TensorLike, options: FitOptions = {}): this {
    const own = this.#momentsOf(x, options, this.nFeaturesIn, 'partialFit');
    this.#moments = this.#moments ? this.#moments.merge(own) : own;
    return this;
  }
  /** Takes in what another scaler of this kind has seen, which stays as it is. */
  merge(other: this): this {
    const where = this.#where('merge');
    if (!(other instanceof Scaler) || other.constructor !== this.constructor) {
      throw new TypeError(`${where}: expected a ${this.constructor.name}, but got ${describe(other)}`);
    }
    const theirs = other.#moments;
    if (theirs) this.#moments = this.#moments ? this.#moments.merge(theirs) : theirs.clone();
    return this;
  }
  reset(): this {
    this.#moments = null;
    return this;
  }

  /** Each feature scaled; NaN stays. Integers give float64. */
  transform(x: TensorLike, options: TransformOptions = {}): Tensor {
    return this.finish(this.#apply(x, options, 'transform', (map) => map));
  }
  /** The way back. */
  inverseTransform(y: TensorLike, options: TransformOptions = {}): Tensor {
    const back = ({ center, factor, offset }: AffineMap): AffineMap => ({
      center: offset,
      factor: 1 / factor,
      offset: center,
    });
    return this.#apply(y, options, 'inverseTransform', back);
  }
  fitTransform(x: TensorLike, options: FitOptions & TransformOptions = {}): Tensor {
    const { out, ...fit } = options;
    return this.fit(x, fit).transform(x, { out });
  }

  /** Of all features, once there is something to make them of. */
  protected abstract maps(): AffineMap[] | null;
  /** What is done to outputs of `transform` besides. */
  protected finish(y: Tensor): Tensor {
    return y;
  }

  /**
   * Takes over moments.
   * @internal
   */
  adopt(moments: RunningMoments): this {
    if (!(moments instanceof RunningMoments)) {
      throw new TypeError(`${this.#where('fromMoments')}: expected a RunningMoments, but got ${describe(moments)}`);
    }
    this.#moments = moments.clone();
    return this;
  }
  /**
   * What was seen, to read: null before.
   * @internal
   */
  get seen(): RunningMoments | null {
    return this.#moments;
  }

  #where(method: string): string {
    return `${this.constructor.name}.${method}`;
  }

  #read(x: TensorLike, where: string): { x: Tensor; axis: number } {
    const given = asTensor(x, where, 'input', 'float64');
    const { ndim, shape } = given;
    const axis = this.axis < 0 ? this.axis + ndim : this.axis;
    if (ndim < this.least || !(axis >= 0 && axis < ndim)) {
      const least = Math.max(this.least, this.axis < 0 ? -this.axis : this.axis + 1);
      throw new RangeError(
        `${where}: input must have at least ${least} dimensions, but has shape ${formatShape(shape)}`,
      );
    }
    return { x: given, axis };
  }

  #momentsOf(x: TensorLike, options: FitOptions, features: number | null, method: string): RunningMoments {
    const where = this.#where(method);
    checkOptions(where, options, ['sampleWeight', 'mask']);
    const { x: given, axis } = this.#read(x, where);
    const samples = readSamples(given, features, { axis }, where);
    const { sampleWeight: weights, mask } = options;
    const moments = new RunningMoments(samples.features).update(given, { axis, weights, mask });
    const infinite = moments.mean.findIndex((mean, i) => moments.count[i]! > 0 && !Number.isFinite(mean));
    if (infinite < 0) return moments;
    throw new RangeError(`${where}: feature ${infinite} contains an infinity, or values too large for float64`);
  }

  #apply(given: TensorLike, options: TransformOptions, method: string, turn: (map: AffineMap) => AffineMap): Tensor {
    const where = this.#where(method);
    checkOptions(where, options, ['out']);
    const maps = this.maps();
    if (!maps) {
      throw new StateError(
        'ERR_NOT_FITTED',
        `${where}: this ${this.constructor.name} is not fitted yet; call fit first`,
      );
    }
    const { x: read, axis } = this.#read(given, where);
    const features = maps.length;
    if (read.shape[axis] !== features) {
      throw new RangeError(
        `${where}: expected ${features} features, but got ${read.shape[axis]} (shape ${formatShape(read.shape)}, axis ${axis})`,
      );
    }
    const x = this.floats(read, where);
    x.checkExtent(where, 'input');
    return affine(where, x, axis, maps.map(turn), options.out);
  }

  /** The input as floating point. */
  protected floats(x: Tensor, _where: string): Tensor {
    return parametersOf(x.dtype) ? x : x.to('float64');
  }
}

/** By the kernels that evaluate a BatchNorm: each map is a statistic of its feature. */
function affine(where: string, x: Tensor, axis: number, maps: readonly AffineMap[], out: unknown): Tensor {
  const { shape } = x;
  const channelsLast = axis === 1 && !x.isContiguous && x.isChannelsLast;
  const [n, s] = [elementsOf(shape.slice(0, axis)), elementsOf(shape.slice(axis + 1))];
  const geometry = batchNorm({ n, c: maps.length, s, channelsLast });
  const wide = x.dtype === 'float64';
  const offsets = maps.map(({ offset }) => offset);
  const bias = new Tensor(wide ? Float64Array.from(offsets) : Float32Array.from(offsets), [maps.length]);
  const given = new Float64Array(5 * statistics(geometry));
  maps.forEach(({ center, factor }, i) => {
    const mean = wide ? center : Math.fround(center);
    given.set([mean, center - mean, 1, factor, 1], 5 * i);
  });
  const plan = planOf({ channelsLast }, geometry, Flag.useSaved, 0, { weight: null, bias });
  return forward(where, x, plan, 'statistics', out, null, given).y;
}
