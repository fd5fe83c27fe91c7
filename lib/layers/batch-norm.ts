import { checkSize, formatShape } from '../internal/errors';
import { batchNorm } from '../internal/geometry';
import { elementsOf } from '../tensor';
import type { Plan } from './norm';
import { TrackedNorm, type TrackedNormOptions } from './tracked-norm';

export type BatchNormOptions = TrackedNormOptions;

export abstract class BatchNorm extends TrackedNorm {
  /** null: any of at least 2. */
  protected abstract readonly ranks: readonly number[] | null;

  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super(numFeatures, options, { affine: true, track: true });
  }

  /** As torch decides: batch statistics in training, and in evaluation where there are no running ones. */
  #batchStatistics(): boolean {
    return this.training || !this.runningMean;
  }

  protected override checkShape(shape: readonly number[]): void {
    const where = `${this.where}.forward`;
    if (this.ranks ? !this.ranks.includes(shape.length) : shape.length < 2) {
      const expected = this.ranks?.map((rank) => `${rank}D`).join(' or ') ?? 'at least 2D';
      throw new RangeError(`${where}: expected ${expected} input (got ${shape.length}D input)`);
    }
    const [n, c, ...spatial] = shape as [number, number, ...number[]];
    const training = this.#batchStatistics();
    if (training && n * elementsOf(spatial) === 1) {
      throw new RangeError(
        `${where}: Expected more than 1 value per channel when training, got input size ${formatShape(shape)}`,
      );
    }
    if (training && this.eps <= 0) {
      throw new RangeError(`${where}: batch_norm eps must be positive during training, but got ${this.eps}`);
    }
    if (this.eps < 0) throw new RangeError(`${where}: batch_norm eps must be non-negative, but got ${this.eps}`);
    this.checkChannels(c);
  }

  protected override plan(shape: readonly number[], channelsLast: boolean): Plan {
    const [n, c, ...spatial] = shape as [number, number, ...number[]];
    const useRunning = !this.#batchStatistics();
    const update = this.training && this.trackRunningStats && this.runningMean !== null;
    const seen = checkSize(`${this.where}.forward`, 'numBatchesTracked', this.numBatchesTracked ?? 0) + 1;
    return {
      geometry: batchNorm({ n, c, s: elementsOf(spatial), channelsLast }),
      channelsLast,
      eps: this.eps,
      useRunning,
      runningMean: useRunning || update ? this.runningMean : null,
      runningVar: useRunning || update ? this.runningVar : null,
      momentum: this.momentum ?? 1 / seen,
    };
  }

  protected override commit(): void {
    if (this.training && this.trackRunningStats && this.numBatchesTracked !== null) this.numBatchesTracked++;
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
 * `trackRunningStats` (true), `dtype` ('float32').
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
