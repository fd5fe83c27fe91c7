// BatchNorm and InstanceNorm that learn the number of channels from their first input. Each is its plain class with a
// prototype of its own in front, which holds all that is lazy; once initialized, the object loses that prototype, as
// torch switches `__class__`. So nothing of this is left in a layer that runs, and what was taken from it before (its
// parameters, its contexts) stays valid.

import { StateError } from '../internal/errors';
import { initialize, isUninitialized, uninitialize } from '../internal/uninitialized';
import { allocate, asTensor, Tensor, type TensorLike } from '../tensor';
import { BatchNorm1d, BatchNorm2d, BatchNorm3d } from './batch-norm';
import { InstanceNorm1d, InstanceNorm2d, InstanceNorm3d } from './instance-norm';
import type { NormForwardOptions } from './norm';
import { TrackedNorm, type TrackedNormOptions } from './tracked-norm';
import type { LoadScope } from '../state-dict';

const lazies: (abstract new (...args: never[]) => unknown)[] = [];

/** Whether a layer still waits for its first input. */
export function isLazy(layer: object): boolean {
  return lazies.some((Lazy) => layer instanceof Lazy);
}

/** The lazy form of a layer; `axis` says where an input of some rank has its channels. */
function lazy<T extends TrackedNorm, Options extends TrackedNormOptions>(
  Plain: new (numFeatures: number, options?: Options) => T,
  axis: (rank: number) => number,
): new (options?: Options) => T {
  // TypeScript asks this signature of what a class expression extends.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  const Base = Plain as unknown as new (...args: any[]) => TrackedNorm;

  abstract class Lazy extends Base {
    /** What has no shape yet: name, tensor, first value. */
    readonly #waiting: readonly (readonly [string, Tensor, 0 | 1])[];

    constructor(options: TrackedNormOptions = {}) {
      super(0, typeof options === 'object' && options ? withDefaults(options) : options);
      const all = [
        ['weight', this.weight, 1],
        ['bias', this.bias, 0],
        ['running_mean', this.runningMean, 0],
        ['running_var', this.runningVar, 1],
      ] as const;
      this.#waiting = all.filter((entry): entry is typeof entry & [string, Tensor, 0 | 1] => entry[1] !== null);
      this.#empty();
    }

    #empty(): void {
      Object.assign(this, { numFeatures: 0 });
      for (const [name, t] of this.#waiting) uninitialize(t, this.where, name);
    }
    #fill(channels: number): void {
      const made = this.#waiting.map(([, , value]) => allocate(this.dtype, channels).fill(value as never));
      this.#waiting.forEach(([, t], i) => initialize(t, new Tensor(made[i]!, [channels])));
      Object.assign(this, { numFeatures: channels });
    }
    #become(): void {
      Object.setPrototypeOf(this, Plain.prototype as object);
    }

    override forward(input: TensorLike, options?: NormForwardOptions): Tensor {
      const x = asTensor(input, `${this.where}.forward`, 'input', this.dtype);
      try {
        this.#fill(x.shape[axis(x.ndim)] ?? 0);
        const y = super.forward(x, options);
        this.#become();
        return y;
      } catch (error) {
        // An option's getter may have run a forward of its own.
        if (isLazy(this)) this.#empty();
        throw error;
      }
    }

    /** Rejects: whether the layer is lazy any more would be known too late. */
    override forwardAsync(): Promise<Tensor> {
      const what = 'has not been fully initialized; run a forward or load a state dict first';
      return Promise.reject(new StateError('ERR_UNINITIALIZED', `${this.where}.forwardAsync: the layer ${what}`));
    }

    protected override beforeLoad(scope: LoadScope): void {
      super.beforeLoad(scope);
      for (const [name, t] of this.#waiting) {
        const shape = isUninitialized(t) ? scope.shapeOf(name) : undefined;
        if (!shape) continue;
        this.#fill(shape[0] ?? 0);
        scope.afterwards(
          () => this.#become(),
          () => this.#empty(),
        );
        return;
      }
    }

    /** The count alone: there is nothing else yet. */
    override resetRunningStats(): void {
      if (this.numBatchesTracked !== null) this.numBatchesTracked = 0;
    }
    override resetParameters(): void {
      this.resetRunningStats();
    }
  }
  lazies.push(Lazy);
  return Lazy as unknown as new (options?: Options) => T;
}

const withDefaults = ({
  affine = true,
  trackRunningStats = true,
  ...rest
}: TrackedNormOptions): TrackedNormOptions => ({
  ...rest,
  affine,
  trackRunningStats,
});

const second = (): number => 1;
const before = (spatial: number) => (rank: number) => rank - spatial - 1;

/**
 * A `BatchNorm1d` that takes its number of channels from its first input, and is a `BatchNorm1d` from then on:
 * `instanceof` and `String` say so. A state dict that is loaded does the same.
 *
 * *Shape*: as `BatchNorm1d`. Until the first forward that succeeds `numFeatures` is 0, and weight, bias and running
 * statistics have no shape: looking at it is an error. They are the objects that will be trained, so `parameters()` may
 * be given to an optimizer before.
 *
 * *Options*: as `BatchNorm1d`, without `numFeatures`.
 *
 * *Train and eval*: as `BatchNorm1d`; a forward in evaluation initializes as well.
 *
 * *Throws* as `BatchNorm1d`; the layer is then as lazy as before. StateError (`code` 'ERR_UNINITIALIZED') on a look at
 * what is not initialized.
 *
 * *Matches* torch.nn.LazyBatchNorm1d. Differences: a forward that throws neither initializes nor converts; a state dict
 * sets `numFeatures` and converts at once; without affine and running statistics `numFeatures` is set too; it is
 * `instanceof` its plain class all the time.
 *
 * @example
 * const bn = new LazyBatchNorm1d();
 * bn.forward(tensor(new Float32Array(20 * 100), [20, 100]));
 * bn.numFeatures; // 100
 */
export class LazyBatchNorm1d extends lazy(BatchNorm1d, second) {}

/**
 * A `BatchNorm2d` that takes its number of channels from its first input. All else as `LazyBatchNorm1d`.
 *
 * *Matches* torch.nn.LazyBatchNorm2d.
 *
 * @example
 * const bn = new LazyBatchNorm2d({ momentum: null });
 */
export class LazyBatchNorm2d extends lazy(BatchNorm2d, second) {}

/**
 * A `BatchNorm3d` that takes its number of channels from its first input. All else as `LazyBatchNorm1d`.
 *
 * *Matches* torch.nn.LazyBatchNorm3d.
 *
 * @example
 * const bn = new LazyBatchNorm3d({ affine: false });
 */
export class LazyBatchNorm3d extends lazy(BatchNorm3d, second) {}

/**
 * An `InstanceNorm1d` that takes its number of channels from its first input. All else as `LazyBatchNorm1d`.
 *
 * *Options*: as `InstanceNorm1d`, but `affine` and `trackRunningStats` are true by default.
 *
 * *Matches* torch.nn.LazyInstanceNorm1d, in its defaults what torch does and not what its documentation says.
 * Difference: an unbatched input (C, L) has its channels in dimension 0, where torch looks in dimension 1.
 *
 * @example
 * const layer = new LazyInstanceNorm1d({ affine: false, trackRunningStats: false });
 */
export class LazyInstanceNorm1d extends lazy(InstanceNorm1d, before(1)) {}

/**
 * An `InstanceNorm2d` that takes its number of channels from its first input. All else as `LazyInstanceNorm1d`.
 *
 * *Matches* torch.nn.LazyInstanceNorm2d.
 *
 * @example
 * const layer = new LazyInstanceNorm2d();
 */
export class LazyInstanceNorm2d extends lazy(InstanceNorm2d, before(2)) {}

/**
 * An `InstanceNorm3d` that takes its number of channels from its first input. All else as `LazyInstanceNorm1d`.
 *
 * *Matches* torch.nn.LazyInstanceNorm3d.
 *
 * @example
 * const layer = new LazyInstanceNorm3d({ momentum: 0.5 });
 */
export class LazyInstanceNorm3d extends lazy(InstanceNorm3d, before(3)) {}
