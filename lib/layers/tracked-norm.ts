// What BatchNorm and InstanceNorm share, torch's `_NormBase`: one weight and bias per channel, and running statistics.

import { checkOptions, checkNumber, checkSize } from '../internal/errors';
import { allocate, Tensor, type Parameter } from '../tensor';
import { makeParameter, Norm, python, readOption, type NormOptions } from './norm';

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
}

export abstract class TrackedNorm extends Norm {
  readonly numFeatures: number;
  readonly eps: number;
  readonly momentum: number | null;
  readonly affine: boolean;
  readonly trackRunningStats: boolean;
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

  protected constructor(
    numFeatures: number,
    options: TrackedNormOptions,
    defaults: { affine: boolean; track: boolean },
  ) {
    super(options?.dtype ?? 'float32');
    const where = this.where;
    checkOptions(where, options, ['eps', 'momentum', 'affine', 'bias', 'trackRunningStats', 'dtype']);
    this.numFeatures = checkSize(where, 'numFeatures', numFeatures);
    this.eps = readOption.number(where, 'eps', options.eps, 1e-5);
    const { momentum = 0.1 } = options;
    this.momentum = momentum === null ? null : checkNumber(where, 'momentum', momentum);
    this.affine = readOption.boolean(where, 'affine', options.affine, defaults.affine);
    const bias = readOption.boolean(where, 'bias', options.bias, true);
    this.trackRunningStats = readOption.boolean(where, 'trackRunningStats', options.trackRunningStats, defaults.track);
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
