// How the elements of a tensor lie: its shape and strides, and what follows from them, worked out once. Tensors alike
// share one, so that most comparisons are of two pointers. What is handed out is frozen, what is read in loops here is
// not: V8 reads each element of a frozen array by a call of some 5 ns.

export class Layout {
  readonly shape: readonly number[];
  /** In elements, not bytes. */
  readonly strides: readonly number[];
  /** Number of elements. */
  readonly size: number;
  /** The lowest and the highest element from the first on, where there are any. */
  readonly low: number;
  readonly high: number;
  readonly #sizes: readonly number[];
  readonly #steps: readonly number[];
  #dense: Layout | undefined;
  #denseLast: Layout | undefined;
  #contiguous: boolean | undefined;
  #channelsLast: boolean | undefined;

  /** Both arrays are the layout's own from now on. */
  constructor(sizes: number[], steps: number[]) {
    this.#sizes = sizes;
    this.#steps = steps;
    this.shape = Object.freeze(sizes.slice());
    this.strides = Object.freeze(steps.slice());
    this.size = product(sizes);
    let [low, high] = [0, 0];
    for (let i = 0; i < sizes.length; i++) {
      const reach = (sizes[i]! - 1) * steps[i]!;
      if (reach < 0) low += reach;
      else high += reach;
    }
    this.low = low;
    this.high = high;
  }

  /** Whether the elements lie in row-major order without gaps. */
  get isContiguous(): boolean {
    return (this.#contiguous ??= this.size === 0 || this.#walks(rowMajor(this.#sizes)));
  }
  /** Whether memory holds (N, ...S, C) under the shape (N, C, ...S), without gaps. */
  get isChannelsLast(): boolean {
    return (this.#channelsLast ??= this.#sizes.length > 2 && this.#walks(channelsLastSteps(this.#sizes)));
  }

  /** Whether other steps mean the same walk; that of a dimension of size 1 means nothing. */
  #walks(steps: readonly number[]): boolean {
    return this.#steps.every((step, i) => this.#sizes[i] === 1 || step === steps[i]);
  }

  hasShapeOf(other: Layout): boolean {
    return this === other || same(this.#sizes, other.#sizes);
  }
  equals(other: Layout): boolean {
    return this === other || (same(this.#sizes, other.#sizes) && same(this.#steps, other.#steps));
  }

  /** The same shape in row-major or channels-last order without gaps: this one if it is that. */
  dense(last: boolean): Layout {
    return last ? (this.#denseLast ??= this.#stepping(channelsLastSteps)) : (this.#dense ??= this.#stepping(rowMajor));
  }
  #stepping(stepsOf: (sizes: readonly number[]) => number[]): Layout {
    const steps = stepsOf(this.#sizes);
    return same(this.#steps, steps) ? this : new Layout(this.#sizes.slice(), steps);
  }
}

export function product(sizes: readonly number[]): number {
  let all = 1;
  for (let i = 0; i < sizes.length; i++) all *= sizes[i]!;
  return all;
}

function same(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export function rowMajor(shape: readonly number[]): number[] {
  const strides = shape.slice();
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= Math.max(shape[i]!, 1);
  }
  return strides;
}

/** Of (N, C, ...S) in the order (0, 2, 3, ..., 1). */
export function channelsLastSteps(shape: readonly number[]): number[] {
  const [n, c, ...spatial] = shape as [number, number, ...number[]];
  const [stepN, ...rest] = rowMajor([n, ...spatial, c]);
  return [stepN!, rest.pop()!, ...rest];
}
