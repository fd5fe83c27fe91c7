// What BatchNorm and InstanceNorm share, torch's `_NormBase`: one weight and bias per channel, and running statistics.

import { Flag } from '../internal/addon';
import { updateRunning, type Plan, type Saved } from '../internal/call';
import { checkOptions, checkNumber, checkSize, StateError } from '../internal/errors';
import { allocate, Tensor, type Parameter } from '../tensor';
import { makeParameter, Norm, python, readOption, type FloatDType, type NormOptions } from './norm';

export type NonFinite = 'propagate' | 'throw' | 'skip';

export interface TrackedNormOptions extends NormOptions {
  /**
   * The share of each batch in the running statistics: `running = momentum * batch + (1 - momentum) * running`.
   * Default 0.1. null: BatchNorm averages all batches alike, InstanceNorm leaves its statistics as they are.
   */
  momentum?: number | null | undefined;
  /** Whether there are a weight and a bias per channel. */
  affine?: boolean | undefined;
  /** Whether there is a bias beside the weight; default true, without meaning when `affine` is false. */
  bias?: boolean | undefined;
  /** Whether running statistics are kept, for evaluation mode. */
  trackRunningStats?: boolean | undefined;
  /**
   * What a batch does in training whose mean or variance is not finite in the layer's dtype: 'propagate' (default)
   * spoils the running statistics, as in torch; 'throw' is a StateError (`code` 'ERR_NON_FINITE') that names the channel
   * and leaves the layer as it was; 'skip' leaves running statistics and counter as if there had been no such batch.
   */
  nonFinite?: NonFinite | undefined;
}

export abstract class TrackedNorm extends Norm {
  readonly numFeatures: number;
  readonly eps: number;
  readonly momentum: number | null;
  readonly affine: boolean;
  readonly trackRunningStats: boolean;
  readonly nonFinite: NonFinite;
  /** Shape (numFeatures), ones at first; null without `affine`. */
  readonly weight: Parameter | null;
  /** Shape (numFeatures), zeros at first; null without `affine` or with `bias: false`. */
  readonly bias: Parameter | null;
  /** Shape (numFeatures), zeros at first; null without `trackRunningStats`. */
  readonly runningMean: Tensor | null;
  /** Shape (numFeatures), ones at first, of unbiased variances; null without `trackRunningStats`. */
  readonly runningVar: Tensor | null;
  /** Batches seen in training mode (BatchNorm only); null without `trackRunningStats`. */
  numBatchesTracked: number | null;

  protected override readonly judges: boolean;

  protected constructor(
    numFeatures: number,
    options: TrackedNormOptions,
    defaults: { affine: boolean; track: boolean; names?: readonly string[] },
  ) {
    super(options?.dtype ?? 'float32');
    const where = this.where;
    const names = ['eps', 'momentum', 'affine', 'bias', 'trackRunningStats', 'nonFinite', 'dtype'];
    checkOptions(where, options, [...names, ...(defaults.names ?? [])]);
    this.numFeatures = checkSize(where, 'numFeatures', numFeatures);
    this.eps = readOption.number(where, 'eps', options.eps, 1e-5);
    const { momentum = 0.1 } = options;
    this.momentum = momentum === null ? null : checkNumber(where, 'momentum', momentum);
    this.affine = readOption.boolean(where, 'affine', options.affine, defaults.affine);
    const bias = readOption.boolean(where, 'bias', options.bias, true);
    this.trackRunningStats = readOption.boolean(where, 'trackRunningStats', options.trackRunningStats, defaults.track);
    this.nonFinite = readOption.oneOf(where, 'nonFinite', options.nonFinite, ['propagate', 'throw', 'skip']);
    this.judges = this.nonFinite !== 'propagate';
    const shape = [this.numFeatures];
    this.weight = makeParameter(this.dtype, shape, 1, this.affine);
    this.bias = makeParameter(this.dtype, shape, 0, this.affine && bias);
    this.runningMean = this.trackRunningStats ? new Tensor(allocate(this.dtype, this.numFeatures), shape) : null;
    this.runningVar = this.trackRunningStats
      ? new Tensor(allocate(this.dtype, this.numFeatures).fill(1 as never), shape)
      : null;
    this.numBatchesTracked = this.trackRunningStats ? 0 : null;
  }

  /** Running mean 0, running variance 1, counter 0. */
  resetRunningStats(): void {
    this.runningMean?.data.fill(0 as never);
    this.runningVar?.data.fill(1 as never);
    if (this.numBatchesTracked !== null) this.numBatchesTracked = 0;
  }

  /** Weight 1, bias 0, and `resetRunningStats`. */
  resetParameters(): void {
    this.resetRunningStats();
    this.weight?.data.fill(1 as never);
    this.bias?.data.fill(0 as never);
  }

  /** A batch has been taken in. */
  protected count(): void {}

  protected override commit(where: string, update: boolean, plan: Plan, deferred: readonly Saved[] | null): void {
    if (!this.training || plan.flags & Flag.useRunning) return;
    if (deferred) {
      const found = this.judges ? firstNonFinite(deferred, this.dtype) : null;
      if (found && this.nonFinite === 'skip') return;
      if (found) {
        throw new StateError(
          'ERR_NON_FINITE',
          `${where}: the batch has a mean of ${found.mean} and a variance of ${found.variance} in channel ` +
            `${found.channel}; the layer is as it was (nonFinite: 'throw')`,
        );
      }
      updateRunning(where, deferred);
    }
    if (update) this.count();
  }

  /** Whether a parameter or running statistic is NaN or infinite. */
  hasNonFiniteState(): boolean {
    return [this.weight, this.bias, this.runningMean, this.runningVar].some(
      (t) => t !== null && !t.toArray().every(Number.isFinite),
    );
  }

  /** What torch lets pass where there are neither parameters nor buffers. */
  protected checkFeatures(c: number, where: string): void {
    if (c === this.numFeatures) return;
    throw new RangeError(`${where}: expected an input with ${this.numFeatures} channels, but got ${c}`);
  }

  protected override extraRepr(): string {
    const { numFeatures, eps, momentum, affine, bias, trackRunningStats } = this;
    return (
      `${numFeatures}, eps=${python(eps)}, momentum=${python(momentum)}, affine=${python(affine)}, ` +
      `bias=${python(bias !== null)}, track_running_stats=${python(trackRunningStats)}`
    );
  }
}

/** The first channel whose statistics the running ones could not take in. */
function firstNonFinite(
  parts: readonly Saved[],
  dtype: FloatDType,
): { channel: number; mean: number; variance: number } | null {
  const held = dtype === 'float32' ? Math.fround : Number;
  for (const { statistics, plan, x } of parts) {
    if (x.size === 0) continue;
    const [, outer, groups, inner] = plan.geometry;
    const unbiased = (outer * inner) / (outer * inner - 1);
    for (let s = 0; 5 * s < statistics.length; s++) {
      const [center, rest, biased, , scale] = statistics.subarray(5 * s, 5 * s + 5) as unknown as number[];
      const mean = held((center! + rest!) / scale!);
      const variance = held((biased! * unbiased) / scale! / scale!);
      if (!Number.isFinite(mean) || !Number.isFinite(variance)) return { channel: s % groups, mean, variance };
    }
  }
  return null;
}
