import type { Plan } from '../internal/call';
import { packChannels, type MaskOptions, type Packing } from '../internal/mask';
import { instanceNorm, readChannels, readUnbatched, type Reading } from '../internal/plan';
import type { Tensor } from '../tensor';
import type { LoadScope } from '../state-dict';
import { TrackedNorm, type TrackedNormOptions } from './tracked-norm';

export type InstanceNormOptions = TrackedNormOptions;

abstract class InstanceNorm extends TrackedNorm {
  protected abstract readonly rank: number;

  constructor(numFeatures: number, options: InstanceNormOptions = {}) {
    super(numFeatures, options, { affine: false, track: false });
  }

  #inputStatistics(): boolean {
    return this.training || !this.trackRunningStats;
  }

  protected override beforeLoad(scope: LoadScope): void {
    super.beforeLoad(scope);
    const running = ['running_mean', 'running_var'].filter((name) => scope.has(name));
    if (scope.version !== undefined || this.trackRunningStats || running.length === 0) return;
    const klass = this.constructor.name;
    scope.refuse(
      `Unexpected running stats buffer(s) ${running.map((name) => `"${scope.prefix}${name}"`).join(' and ')} for ` +
        `${klass} with track_running_stats=False. If state_dict is a checkpoint saved before 0.4.0, this may be ` +
        `expected because ${klass} does not track running stats by default since 0.4.0. Please remove these keys from ` +
        'state_dict. If the running stats are actually needed, instead set track_running_stats=True in ' +
        `${klass} to enable them. See the documentation of ${klass} for details.`,
    );
    for (const name of running) scope.ignore(name);
  }

  protected override read(x: Tensor, where: string): Reading {
    const rank = x.shape.length;
    if (rank !== this.rank && rank !== this.rank - 1) {
      throw new RangeError(`${where}: expected ${this.rank - 1}D or ${this.rank}D input (got ${rank}D input)`);
    }
    const dim = rank - this.rank + 1;
    const c = x.shape[dim];
    if (c !== this.numFeatures) {
      throw new RangeError(
        `${where}: expected input's size at dim=${dim} to match num_features (${this.numFeatures}), but got: ${c}.`,
      );
    }
    return dim === 0 ? readUnbatched(x) : readChannels(x);
  }

  protected override plan(x: Reading, where: string): Plan {
    const plan = instanceNorm(where, x, this, this.#inputStatistics(), this.momentum ?? 0, this.eps);
    // momentum null leaves the running statistics as they are.
    if (this.momentum === null && this.#inputStatistics()) plan.runningMean = plan.runningVar = null;
    return this.tracked(plan);
  }

  protected override pack(x: Reading, where: string, options: MaskOptions): Packing {
    return packChannels(where, x, x.shape.length === this.rank ? 1 : 0, options, !this.#inputStatistics());
  }
}

/**
 * Normalizes each channel of each sample over its length.
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance of each (sample, channel).
 *
 * *Shape*: (N, C, L), or (C, L) for one sample, and the same out.
 *
 * *Options*: `eps` (1e-5), `momentum` (0.1), `affine` (false), `bias` (true), `trackRunningStats` (false),
 * `nonFinite` ('propagate'), `relu` (false), `dtype` ('float32').
 *
 * *Train and eval*: the same, unless `trackRunningStats`: then the running statistics take in the mean over the samples
 * of their means and unbiased variances in training, and serve in evaluation.
 *
 * *Throws* RangeError for another rank or number of channels, and for one spatial element where it needs statistics;
 * TypeError for another dtype. The layer is then exactly as before.
 *
 * *Matches* torch.nn.InstanceNorm1d, with `momentum: null` leaving the running statistics as they are and
 * `numBatchesTracked` never counting. Differences: a wrong number of channels is an error without affine too, where
 * torch warns; an empty batch leaves the running statistics alone, where torch writes NaN; `trackRunningStats` set to
 * false on a live layer stops them, where torch moves them on, in evaluation too.
 *
 * *Reference*: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022
 *
 * @example
 * const layer = new InstanceNorm1d(100, { affine: true });
 */
export class InstanceNorm1d extends InstanceNorm {
  protected override readonly rank = 3;
}

/**
 * Normalizes each channel of each sample over both spatial dimensions: (N, C, H, W) or (C, H, W). All else as `InstanceNorm1d`.
 *
 * *Matches* torch.nn.InstanceNorm2d.
 *
 * @example
 * const layer = new InstanceNorm2d(64);
 */
export class InstanceNorm2d extends InstanceNorm {
  protected override readonly rank = 4;
}

/**
 * Normalizes each channel of each sample over all three spatial dimensions: (N, C, D, H, W) or (C, D, H, W). All else as
 * `InstanceNorm1d`.
 *
 * *Matches* torch.nn.InstanceNorm3d.
 *
 * @example
 * const layer = new InstanceNorm3d(16, { trackRunningStats: true });
 */
export class InstanceNorm3d extends InstanceNorm {
  protected override readonly rank = 5;
}
