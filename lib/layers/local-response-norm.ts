import {
  checkRank,
  checkRule,
  checkWindowSize,
  localResponse,
  localResponseBack,
  readResponse,
  windowOf,
  type ChannelWindow,
  type Saved,
  type WindowRule,
} from '../internal/local-response';
import type { Tensor } from '../tensor';
import { Layer, type BackwardOptions, type ForwardOptions, type LayerOptions } from './layer';
import { python } from './norm';

export interface CrossMapLRN2dOptions extends LayerOptions {
  /** What the window's mean square is multiplied by; default 1e-4. */
  alpha?: number | undefined;
  /** The power of the divisor; default 0.75. */
  beta?: number | undefined;
  /** Added to the divisor before it is raised to the power; default 1. */
  k?: number | undefined;
}

export interface LocalResponseNormOptions extends CrossMapLRN2dOptions {
  /** Whose window `size` describes; default 'torch'. */
  window?: WindowRule | undefined;
}

/** What both classes share: a window over the channels, no parameters. */
abstract class WindowNorm extends Layer<Saved> {
  readonly size: number;
  readonly alpha: number;
  readonly beta: number;
  readonly k: number;
  /** There is none. */
  readonly weight = null;
  /** There is none. */
  readonly bias = null;
  readonly #window: ChannelWindow;

  protected constructor(
    size: number,
    options: CrossMapLRN2dOptions,
    names: readonly string[],
    rule: WindowRule | 'symmetric',
  ) {
    super(options, ['alpha', 'beta', 'k', ...names]);
    const response = readResponse(this.where, options);
    this.size = checkWindowSize(this.where, size, rule);
    this.alpha = response.alpha;
    this.beta = response.beta;
    this.k = response.k;
    this.#window = windowOf(this.size, response, rule);
  }

  protected abstract checkRank(rank: number, where: string): void;

  protected override run(
    x: Tensor,
    keep: 'reference' | 'copy' | null,
    { out }: ForwardOptions,
    where: string,
  ): { y: Tensor; saved: Saved | null } {
    this.checkRank(x.ndim, where);
    return localResponse(where, x, this.#window, keep, out);
  }

  protected override runBack(saved: Saved, dy: Tensor, { out }: BackwardOptions, where: string): Tensor {
    return localResponseBack(where, saved, dy, out);
  }
}

/**
 * Divides each value by a power of what its neighbours in the channels amount to.
 *
 * y[c] = x[c] / (k + alpha / size * sum of x[j]^2)^beta, over `size` channels j around c: from c - floor(size / 2) to c +
 * floor((size - 1) / 2), as far as there are such. The sum is divided by `size` at the borders too.
 *
 * *Shape*: (N, C, ...) with one or more dimensions behind the channels, and the same out.
 *
 * *Options*: `alpha` (1e-4), `beta` (0.75), `k` (1), `dtype` ('float32'), and `window` ('torch') for models from
 * elsewhere: with 'onnx' the channel that makes an even `size` is on the high side; with 'tensorflow' `size` is the depth
 * radius, from 0 on, for 2 * size + 1 channels, and the sum is not divided (TensorFlow's own defaults are size 5, alpha
 * 1, beta 0.5, k 1).
 *
 * *Train and eval*: the same.
 *
 * *Throws* RangeError for fewer than three dimensions, and for a size below 1; TypeError for another dtype.
 *
 * *Matches* torch.nn.LocalResponseNorm. Differences: the input must have the layer's dtype; a size below 1 is refused at
 * once; squares, sums and powers are double precision, so that float32 squares neither overflow nor vanish (float64
 * squares beyond 1e308 are infinite, and what is divided by them 0, as in torch).
 *
 * *Reference*: Krizhevsky, Sutskever & Hinton 2012, ImageNet classification with deep convolutional neural networks, 3.3
 *
 * @example
 * const layer = new LocalResponseNorm(5, { alpha: 1e-4, beta: 0.75, k: 2 });
 */
export class LocalResponseNorm extends WindowNorm {
  readonly window: WindowRule;

  constructor(size: number, options: LocalResponseNormOptions = {}) {
    const rule = checkRule(new.target.name, options?.window ?? 'torch');
    super(size, options, ['window'], rule);
    this.window = rule;
  }

  protected override checkRank(rank: number, where: string): void {
    checkRank(where, rank);
  }

  protected override extraRepr(): string {
    const { size, alpha, beta, k, window } = this;
    const rest = window === 'torch' ? '' : `, window='${window}'`;
    return `${size}, alpha=${python(alpha)}, beta=${python(beta)}, k=${python(k)}${rest}`;
  }
}

/**
 * Divides each value by a power of what its neighbours in the channels amount to: LocalResponseNorm as Torch7 had it.
 *
 * y[c] = x[c] / (k + alpha / size * sum of x[j]^2)^beta, over the channels j from c - r to c + r with r = floor((size - 1)
 * / 2), as far as there are such. So an even size has the window of the odd one below it, divided by `size` itself; for
 * odd sizes this is LocalResponseNorm.
 *
 * *Shape*: (N, C, H, W), and the same out.
 *
 * *Options*: `alpha` (1e-4), `beta` (0.75), `k` (1), `dtype` ('float32').
 *
 * *Train and eval*: the same.
 *
 * *Throws* RangeError for another rank, and for a size below 1; TypeError for another dtype.
 *
 * *Matches* the intent of torch.nn.CrossMapLRN2d. Differences: torch's running sum never loses the square of channel 0,
 * which so counts in every window from channel floor((size + 1) / 2) on, and its backward goes by another window than its
 * forward; here windows are as above, and backward is the gradient of forward. The input must have the layer's dtype.
 *
 * *Reference*: Krizhevsky, Sutskever & Hinton 2012, ImageNet classification with deep convolutional neural networks, 3.3
 *
 * @example
 * const layer = new CrossMapLRN2d(5);
 */
export class CrossMapLRN2d extends WindowNorm {
  constructor(size: number, options: CrossMapLRN2dOptions = {}) {
    super(size, options, [], 'symmetric');
  }

  protected override checkRank(rank: number, where: string): void {
    if (rank !== 4) throw new RangeError(`${where}: Expected input to be 4D, got ${rank}D instead.`);
  }

  protected override extraRepr(): string {
    const { size, alpha, beta, k } = this;
    return `${size}, alpha=${python(alpha)}, beta=${python(beta)}, k=${Number.isInteger(k) ? k : python(k)}`;
  }
}
