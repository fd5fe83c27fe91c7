// What BatchNorm and InstanceNorm share, torch's `_NormBase`: one weight and bias per channel, and running statistics.

import { Flag } from '../internal/addon';
import { updateRunning, valuesBehind, type Plan, type Saved } from '../internal/call';
import { checkBoolean, checkNumber, checkSize, StateError } from '../internal/errors';
import type { LoadScope, StateEntry } from '../state-dict';
import { allocate, Tensor, type Parameter } from '../tensor';
import { makeParameter, Norm, python, readOption, type EpsOption, type FloatDType, type NormOptions } from './norm';

export type NonFinite = 'propagate' | 'throw' | 'skip';

export interface TrackedNormOptions extends NormOptions, EpsOption {
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
   * and leaves the layer as it was (`out` has been written to by then); 'skip' leaves running statistics and counter as if there had been no such batch.
   */
  nonFinite?: NonFinite | undefined;
}

/** What a plan is made of: see Norm.settled. */
interface Settings {
  numFeatures: number;
  training: boolean;
  track: boolean;
  eps: number;
  momentum: number | null;
  mean: Tensor | null;
  variance: Tensor | null;
  nonFinite: NonFinite;
  collector: unknown;
}

export abstract class TrackedNorm extends Norm {
  readonly numFeatures: number;
  readonly affine: boolean;
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
  #eps!: number;
  #momentum!: number | null;
  #trackRunningStats!: boolean;

  #settled: Settings | null = null;
  #collector: ((parts: readonly Saved[]) => void) | null = null;

  protected override get judges(): boolean {
    return this.nonFinite !== 'propagate' || this.#collector !== null;
  }

  protected constructor(
    numFeatures: number,
    options: TrackedNormOptions,
    defaults: { affine: boolean; track: boolean; names?: readonly string[] },
  ) {
    const names = ['eps', 'momentum', 'affine', 'bias', 'trackRunningStats', 'nonFinite'];
    super(options, [...names, ...(defaults.names ?? [])]);
    const where = this.where;
    this.numFeatures = checkSize(where, 'numFeatures', numFeatures);
    this.eps = readOption.number(where, 'eps', options.eps, 1e-5);
    const { momentum = 0.1 } = options;
    this.momentum = momentum;
    this.affine = readOption.boolean(where, 'affine', options.affine, defaults.affine);
    const bias = readOption.boolean(where, 'bias', options.bias, true);
    this.trackRunningStats = readOption.boolean(where, 'trackRunningStats', options.trackRunningStats, defaults.track);
    this.nonFinite = readOption.oneOf(where, 'nonFinite', options.nonFinite, ['propagate', 'throw', 'skip']);
    const shape = [this.numFeatures];
    this.weight = makeParameter(this.dtype, shape, 1, this.affine);
    this.bias = makeParameter(this.dtype, shape, 0, this.affine && bias);
    this.runningMean = this.trackRunningStats ? new Tensor(allocate(this.dtype, this.numFeatures), shape) : null;
    this.runningVar = this.trackRunningStats
      ? new Tensor(allocate(this.dtype, this.numFeatures).fill(1 as never), shape)
      : null;
    this.numBatchesTracked = this.trackRunningStats ? 0 : null;
  }

  /** Added to the variance under the root. May be set at any time. */
  get eps(): number {
    return this.#eps;
  }
  set eps(value: number) {
    this.#eps = checkNumber(this.where, 'eps', value);
  }

  /** The share of each batch in the running statistics, or null. May be set at any time. */
  get momentum(): number | null {
    return this.#momentum;
  }
  set momentum(value: number | null) {
    this.#momentum = value === null ? null : checkNumber(this.where, 'momentum', value);
  }

  /**
   * Whether running statistics are kept. Set to false at any time, training leaves them as they are and does not count;
   * BatchNorm still evaluates by them, InstanceNorm by its input's own. Set to true on a layer made without them, it
   * makes none.
   */
  get trackRunningStats(): boolean {
    return this.#trackRunningStats;
  }
  set trackRunningStats(value: boolean) {
    this.#trackRunningStats = checkBoolean(this.where, 'trackRunningStats', value);
  }

  protected override ownState(): StateEntry[] {
    const { runningMean, runningVar, numBatchesTracked } = this;
    const entries = super.ownState();
    if (runningMean) entries.push(['running_mean', runningMean]);
    if (runningVar) entries.push(['running_var', runningVar]);
    if (numBatchesTracked !== null) {
      const get = (): number => checkSize(this.where, 'numBatchesTracked', this.numBatchesTracked);
      entries.push(['num_batches_tracked', { get, set: (count) => (this.numBatchesTracked = count) }]);
    }
    return entries;
  }
  /** 2: with num_batches_tracked. */
  protected override get stateVersion(): number {
    return 2;
  }
  protected override beforeLoad(scope: LoadScope): void {
    if ((scope.version ?? 1) < 2 && this.trackRunningStats) scope.mayLack('num_batches_tracked');
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

  protected override settled(): boolean {
    const { numFeatures, training, runningMean: mean, runningVar: variance, nonFinite } = this;
    const track = this.#trackRunningStats;
    const eps = this.#eps;
    const momentum = this.#momentum;
    const collector = this.#collector;
    const was = this.#settled;
    if (
      was &&
      numFeatures === was.numFeatures &&
      training === was.training &&
      track === was.track &&
      eps === was.eps &&
      momentum === was.momentum &&
      mean === was.mean &&
      variance === was.variance &&
      nonFinite === was.nonFinite &&
      collector === was.collector
    ) {
      return true;
    }
    this.#settled = { numFeatures, training, track, eps, momentum, mean, variance, nonFinite, collector };
    return false;
  }

  /** Leaves the running statistics out of a plan that would move them while they are not tracked. */
  protected tracked(plan: Plan): Plan {
    if (!this.trackRunningStats && !(plan.flags & Flag.useRunning)) plan.runningMean = plan.runningVar = null;
    return plan;
  }

  /**
   * Hands the statistics of training batches over instead of taking them into the running ones; null ends it.
   * @internal
   */
  collect(collector: ((parts: readonly Saved[]) => void) | null): void {
    this.#collector = collector;
  }
  /** @internal */
  get isCollecting(): boolean {
    return this.#collector !== null;
  }

  /** A batch has been taken in. */
  protected count(): void {}

  protected override commit(where: string, update: boolean, plan: Plan, deferred: readonly Saved[] | null): void {
    if (!this.training || plan.flags & Flag.useRunning) return;
    if (deferred) {
      const found = this.nonFinite === 'propagate' ? null : firstNonFinite(deferred, this.dtype);
      if (found && this.nonFinite === 'skip') return;
      if (found) {
        throw new StateError(
          'ERR_NON_FINITE',
          `${where}: the batch has a mean of ${found.mean} and a variance of ${found.variance} in channel ` +
            `${found.channel}; the layer is as it was (nonFinite: 'throw')`,
        );
      }
      if (this.#collector) {
        if (update) this.#collector(deferred);
        return;
      }
      updateRunning(where, deferred);
    }
    if (update && this.trackRunningStats) this.count();
  }

  /** Whether a parameter or running statistic is NaN or infinite. */
  hasNonFiniteState(): boolean {
    return [this.weight, this.bias, this.runningMean, this.runningVar].some(
      (t) => t !== null && !t.toArray().every(Number.isFinite),
    );
  }

  /** Refused here also where there are neither parameters nor buffers to differ in size, which torch lets pass. */
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
  for (const part of parts) {
    const { statistics, plan, x, count } = part;
    if ((count ?? x.size) === 0) continue;
    const groups = plan.geometry[2];
    const values = valuesBehind(part);
    const unbiased = values / (values - 1);
    for (let s = 0; 5 * s < statistics.length; s++) {
      const [center, rest, biased, , scale] = statistics.subarray(5 * s, 5 * s + 5) as unknown as number[];
      const mean = held((center! + rest!) / scale!);
      const variance = held((biased! * unbiased) / scale! / scale!);
      if (!Number.isFinite(mean) || !Number.isFinite(variance)) return { channel: s % groups, mean, variance };
    }
  }
  return null;
}
