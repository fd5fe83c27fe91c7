import type { Plan } from '../internal/call';
import { checkSize } from '../internal/errors';
import { packChannels, type MaskOptions, type Packing } from '../internal/mask';
import { batchNorm, readChannels, type Reading } from '../internal/plan';
import type { Tensor } from '../tensor';
import { readOption } from './norm';
import { TrackedNorm, type TrackedNormOptions } from './tracked-norm';

export interface BatchNormOptions extends TrackedNormOptions {
  /**
   * What one value per channel does in training: 'throw' (default), as in torch, or 'runningStats': it is normalized by
   * the running statistics, which do not move. Without running statistics it throws.
   */
  singleValue?: 'throw' | 'runningStats' | undefined;
}

export abstract class BatchNorm extends TrackedNorm {
  /** null: any of at least 2. */
  protected abstract readonly ranks: readonly number[] | null;
  readonly singleValue: 'throw' | 'runningStats';
  #singleValue: string | null = null;

  /** `names`: the options that a subclass knows besides. */
  constructor(numFeatures: number, options: BatchNormOptions = {}, names: readonly string[] = []) {
    super(numFeatures, options, { affine: true, track: true, names: ['singleValue', ...names] });
    this.singleValue = readOption.oneOf(this.where, 'singleValue', options.singleValue, ['throw', 'runningStats']);
  }

  /** Whether a batch's statistics are of this input alone. */
  protected get alone(): boolean {
    return true;
  }

  /** As torch decides: batch statistics in training, and in evaluation where there are no running ones. */
  #batchStatistics(x: Reading): boolean {
    const single = x.n * x.s === 1 && !this.isCollecting && this.alone;
    if (this.singleValue === 'runningStats' && single && this.runningMean) return false;
    return this.training || (!this.runningMean && !this.runningVar);
  }

  protected override read(x: Tensor, where: string): Reading {
    const rank = x.shape.length;
    if (this.ranks ? !this.ranks.includes(rank) : rank < 2) {
      const expected = this.ranks?.map((r) => `${r}D`).join(' or ') ?? 'at least 2D';
      throw new RangeError(`${where}: expected ${expected} input (got ${rank}D input)`);
    }
    return readChannels(x);
  }

  protected override plan(x: Reading, where: string): Plan {
    const seen = checkSize(where, 'numBatchesTracked', this.numBatchesTracked ?? 0) + 1;
    const momentum = this.momentum ?? 1 / seen;
    const plan = batchNorm(where, x, this, this.#batchStatistics(x), momentum, this.eps, this.alone);
    this.checkFeatures(x.c, where);
    return this.tracked(plan);
  }

  /** A momentum of null is another one for each batch; and a count that is none is to be refused. */
  protected override settled(): boolean {
    const { singleValue, momentum, numBatchesTracked: seen } = this;
    const same = singleValue === this.#singleValue;
    this.#singleValue = singleValue;
    const counted = seen === null || (Number.isSafeInteger(seen) && seen >= 0);
    return super.settled() && same && counted && momentum !== null;
  }

  protected override pack(x: Reading, where: string, options: MaskOptions): Packing {
    return packChannels(where, x, 1, options, true);
  }

  protected override count(): void {
    if (this.numBatchesTracked !== null) this.numBatchesTracked++;
  }
}

/**
 * Normalizes each channel over the batch (and length).
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance; `runningVar` takes the unbiased one.
 *
 * *Shape*: (N, C) or (N, C, L), and the same out. Statistics of each of the C = `numFeatures` channels over the rest.
 *
 * *Options*: `eps` (1e-5), `momentum` (0.1, or null for the average of all batches), `affine` (true), `bias` (true),
 * `trackRunningStats` (true), `nonFinite` ('propagate'), `singleValue` ('throw'), `relu` (false), `dtype` ('float32').
 *
 * *Train and eval*: in training by the batch's own statistics, which move the running ones; in evaluation by the
 * running ones, or by the batch's where `trackRunningStats` is false.
 *
 * *Throws* RangeError for another rank or number of channels, for one value per channel in training, and for eps that
 * is not positive in training; TypeError for another dtype. The layer is then exactly as before.
 *
 * *Matches* torch.nn.BatchNorm1d. Differences: a forward that throws does not count as a batch; an input with another
 * number of channels is refused without affine and running statistics too; the mean is kept to twice the precision.
 *
 * *Reference*: Ioffe & Szegedy 2015, arXiv:1502.03167
 *
 * @example
 * const bn = new BatchNorm1d(100);
 * const y = bn.forward(tensor(new Float32Array(20 * 100), [20, 100]));
 */
export class BatchNorm1d extends BatchNorm {
  protected override readonly ranks = [2, 3];
}

/**
 * Normalizes each channel over the batch and both spatial dimensions: (N, C, H, W). All else as `BatchNorm1d`.
 *
 * An input permuted from (N, H, W, C) is computed as it lies, and so is the output.
 *
 * *Matches* torch.nn.BatchNorm2d.
 *
 * @example
 * const bn = new BatchNorm2d(64, { momentum: null });
 */
export class BatchNorm2d extends BatchNorm {
  protected override readonly ranks = [4];
}

/**
 * Normalizes each channel over the batch and all three spatial dimensions: (N, C, D, H, W). All else as `BatchNorm1d`.
 *
 * *Matches* torch.nn.BatchNorm3d.
 *
 * @example
 * const bn = new BatchNorm3d(16, { affine: false });
 */
export class BatchNorm3d extends BatchNorm {
  protected override readonly ranks = [5];
}
