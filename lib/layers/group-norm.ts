import { checkOptions, checkSize, formatShape } from '../internal/errors';
import { groupNorm } from '../internal/geometry';
import { elementsOf, type Parameter } from '../tensor';
import { makeParameter, Norm, python, readOption, type NormOptions, type Plan } from './norm';

export interface GroupNormOptions extends NormOptions {
  /** Whether there are a weight and a bias per channel; default true. */
  affine?: boolean | undefined;
  /** Whether there is a bias beside the weight; default true. */
  bias?: boolean | undefined;
}

/**
 * Normalizes groups of neighbouring channels of each sample.
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance of each (sample, group); weight and bias
 * are per channel.
 *
 * *Shape*: (N, C, ...), and the same out; C = `numChannels`, in `numGroups` runs of C / numGroups channels.
 *
 * *Options*: `eps` (1e-5), `affine` (true), `bias` (true), `dtype` ('float32').
 *
 * *Train and eval*: the same.
 *
 * *Throws* RangeError where the channels cannot be divided, for another number of channels, and for a single value in
 * all; TypeError for another dtype.
 *
 * *Matches* torch.nn.GroupNorm. Difference: an input with another number of channels is refused without affine too.
 *
 * *Reference*: Wu & He 2018, arXiv:1803.08494
 *
 * @example
 * const layer = new GroupNorm(3, 6);
 */
export class GroupNorm extends Norm {
  readonly numGroups: number;
  readonly numChannels: number;
  readonly eps: number;
  readonly affine: boolean;
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;

  protected override readonly acceptsChannelsLast = true;
  protected override readonly flags = 0;

  constructor(numGroups: number, numChannels: number, options: GroupNormOptions = {}) {
    super(options?.dtype ?? 'float32');
    const where = this.where;
    checkOptions(where, options, ['eps', 'affine', 'bias', 'dtype']);
    this.numGroups = checkSize(where, 'numGroups', numGroups, 1);
    this.numChannels = checkSize(where, 'numChannels', numChannels);
    if (numChannels % numGroups !== 0) {
      throw new RangeError(
        `${where}: num_channels must be divisible by num_groups, but got ${numChannels} and ${numGroups}`,
      );
    }
    this.eps = readOption.number(where, 'eps', options.eps, 1e-5);
    this.affine = readOption.boolean(where, 'affine', options.affine, true);
    const bias = readOption.boolean(where, 'bias', options.bias, true);
    this.weight = makeParameter(this.dtype, [numChannels], 1, this.affine);
    this.bias = makeParameter(this.dtype, [numChannels], 0, this.affine && bias);
  }

  /** Weight 1, bias 0. */
  resetParameters(): void {
    this.weight?.data.fill(1 as never);
    this.bias?.data.fill(0 as never);
  }

  protected override checkShape(shape: readonly number[]): void {
    const where = `${this.where}.forward`;
    if (shape.length < 2) {
      throw new RangeError(`${where}: Expected at least 2 dimensions for input tensor but received ${shape.length}`);
    }
    const c = shape[1]!;
    if (c % this.numGroups !== 0) {
      throw new RangeError(
        `${where}: Expected number of channels in input to be divisible by num_groups, but got input of shape ` +
          `${formatShape(shape)} and num_groups=${this.numGroups}`,
      );
    }
    if (c !== this.numChannels) {
      throw new RangeError(
        `${where}: Expected weight to be a vector of size equal to the number of channels in input, but got weight of ` +
          `shape [${this.numChannels}] and input of shape ${formatShape(shape)}`,
      );
    }
    if (elementsOf(shape) / this.numGroups === 1) {
      throw new RangeError(
        `${where}: Expected more than 1 value per channel when training, got input size ${formatShape(shape)}`,
      );
    }
  }

  protected override plan(shape: readonly number[], channelsLast: boolean): Plan {
    const [n, c, ...spatial] = shape as [number, number, ...number[]];
    return {
      geometry: groupNorm({ n, c, s: elementsOf(spatial), channelsLast }, this.numGroups),
      channelsLast,
      eps: this.eps,
      useRunning: false,
      runningMean: null,
      runningVar: null,
      momentum: 0,
    };
  }

  protected override extraRepr(): string {
    const { numGroups, numChannels, eps, affine, bias } = this;
    return `${numGroups}, ${numChannels}, eps=${python(eps)}, affine=${python(affine)}, bias=${python(bias !== null)}`;
  }
}
