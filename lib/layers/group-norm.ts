import type { Plan } from '../internal/call';
import { checkSize } from '../internal/errors';
import { packChannels, type MaskOptions, type Packing } from '../internal/mask';
import { groupNorm, readGroups, type Reading } from '../internal/plan';
import type { Parameter, Tensor } from '../tensor';
import { makeParameter, Norm, python, readOption, type EpsOption, type NormOptions } from './norm';

export interface GroupNormOptions extends NormOptions, EpsOption {
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
 * *Options*: `eps` (1e-5), `affine` (true), `bias` (true), `relu` (false), `dtype` ('float32').
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
  #settled: { eps: number; numGroups: number; numChannels: number } | null = null;

  constructor(numGroups: number, numChannels: number, options: GroupNormOptions = {}) {
    super(options, ['eps', 'affine', 'bias']);
    const where = this.where;
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

  protected override read(x: Tensor, where: string): Reading {
    return readGroups(x, where);
  }

  protected override plan(x: Reading, where: string): Plan {
    const plan = groupNorm(where, x, this.numGroups, this, this.eps);
    if (x.c !== this.numChannels) {
      throw new RangeError(`${where}: expected an input with ${this.numChannels} channels, but got ${x.c}`);
    }
    return plan;
  }

  protected override settled(): boolean {
    const { eps, numGroups, numChannels } = this;
    const was = this.#settled;
    if (was && eps === was.eps && numGroups === was.numGroups && numChannels === was.numChannels) return true;
    this.#settled = { eps, numGroups, numChannels };
    return false;
  }

  protected override pack(x: Reading, where: string, options: MaskOptions): Packing {
    return packChannels(where, x, 1, options, false);
  }

  protected override extraRepr(): string {
    const { numGroups, numChannels, eps, affine, bias } = this;
    return `${numGroups}, ${numChannels}, eps=${python(eps)}, affine=${python(affine)}, bias=${python(bias !== null)}`;
  }
}
