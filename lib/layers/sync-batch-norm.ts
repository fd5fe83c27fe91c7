import { defaultGroup, ProcessGroup } from '../distributed/process-group';
import { deliver, directly, forwardOverRanksAsync } from '../internal/async';
import type { backward, forward, Plan, Saved } from '../internal/call';
import { describe, StateError } from '../internal/errors';
import type { PackedSaved } from '../internal/mask';
import type { Reading } from '../internal/plan';
import { backwardOverRanks, forwardOverRanks } from '../internal/ranks';
import { Module, type ModuleLike } from '../module';
import type { Tensor, TensorLike } from '../tensor';
import { BatchNorm, type BatchNormOptions } from './batch-norm';
import type { AsyncBackwardOptions } from './layer';
import { isLazy } from './lazy';

export interface SyncBatchNormOptions extends BatchNormOptions {
  /** The ranks that normalize together; default null: the group of `initProcessGroup`, if there is one when it is used. */
  processGroup?: ProcessGroup | null | undefined;
  /**
   * What messages call the layer, and what ranks know it by: two layers that agree in name and settings are taken for the
   * same. `convertSyncBatchNorm` gives its place in the network.
   */
  name?: string | undefined;
}

/**
 * BatchNorm of any rank whose statistics in training are of the inputs of all ranks of a process group together.
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance; `runningVar` takes the unbiased one.
 *
 * *Shape*: (N, C, ...), and the same out. Statistics of each of the C = `numFeatures` channels over the rest, on all ranks.
 * N and the rest may differ between ranks, and be 0: such a rank takes part all the same.
 *
 * *Options*: as `BatchNorm1d`, and `processGroup` (null) and `name` ('').
 *
 * *Train and eval*: in training `forward` and `backward` each wait for all ranks of the group, which must call the same
 * layers in the same order; running statistics are the same on all ranks. The gradients of weight and bias stay each rank's
 * own (`averageGradients` is for them). In evaluation, in a group of one, and where there is no group, it is a BatchNorm and
 * nothing is exchanged.
 *
 * *Blocks*: `forward` and `backward` stop this thread and its event loop until all ranks have come, for the group's timeout
 * at most (60 s by default). `forwardAsync` and `backwardAsync` wait beside it.
 *
 * *Throws* as `BatchNorm1d`, before anything is exchanged; RangeError for no channels, and for one value per channel on all
 * ranks together, whatever `singleValue` says; GroupError (see `ProcessGroup`) naming the ranks that did not come, have ended,
 * or came to another layer, number of channels, dtype, eps or momentum. (A rank in evaluation exchanges nothing, so the others
 * miss it.) The layer is then as it was.
 *
 * *Matches* torch.nn.SyncBatchNorm, which refuses CPUs. Differences: counts, means and M2 are exchanged, each as two doubles,
 * and not the root of the variance; one value in all is refused, where torch makes NaN of the running variance. float64 data
 * whose squares no double holds overflow, where a BatchNorm scales them.
 *
 * @example
 * const group = await initProcessGroup();
 * const bn = new SyncBatchNorm(64, { name: 'stem' });
 * const y = bn.forward(x); // on every rank
 */
export class SyncBatchNorm extends BatchNorm {
  protected override readonly ranks = null;
  readonly name: string;
  #processGroup: ProcessGroup | null = null;
  #group: ProcessGroup | null = null;
  /** Whether it has taken part in a group of `initProcessGroup`. */
  #hasJoined = false;

  constructor(numFeatures: number, options: SyncBatchNormOptions = {}) {
    super(numFeatures, options, ['processGroup', 'name']);
    const { processGroup = null, name = '' } = options;
    if (typeof name !== 'string') {
      throw new TypeError(`${this.where}: name must be a string, but got ${describe(name)}`);
    }
    this.name = name;
    this.processGroup = processGroup;
  }

  /** The ranks that normalize together, or null: those of `initProcessGroup`. May be set at any time, on all ranks. */
  get processGroup(): ProcessGroup | null {
    return this.#processGroup;
  }
  set processGroup(group: ProcessGroup | null) {
    if (group !== null && !((group as unknown) instanceof ProcessGroup)) {
      throw new TypeError(`${this.where}: processGroup must be a ProcessGroup or null, but got ${describe(group)}`);
    }
    this.#processGroup = group;
    this.#hasJoined = false;
  }

  /** The group that this call is one of, or null where it is nobody else's business. */
  #syncing(): ProcessGroup | null {
    const group = this.training ? (this.#processGroup ?? defaultGroup()) : null;
    return group && group.size > 1 ? group : null;
  }

  /** The same at a call, which is no rank's own business only because its group has ended. */
  #join(where: string): ProcessGroup | null {
    const group = this.#syncing();
    if (!group && this.training && !this.#processGroup && this.#hasJoined) {
      throw new StateError(
        'ERR_GROUP_CLOSED',
        `${where}: the group of initProcessGroup, with which this layer has normalized, is closed; make a new one, or set ` +
          'processGroup (null: to go on alone)',
      );
    }
    this.#hasJoined ||= group !== null && !this.#processGroup;
    return group;
  }

  protected override get alone(): boolean {
    return this.#syncing() === null;
  }
  protected override get judges(): boolean {
    return super.judges || !this.alone;
  }
  protected override settled(): boolean {
    const group = this.#syncing();
    const same = group === this.#group;
    this.#group = group;
    return super.settled() && same;
  }

  protected override read(x: Tensor, where: string): Reading {
    const reading = super.read(x, where);
    if (reading.c === 0) throw new RangeError(`${where}: SyncBatchNorm number of input channels should be non-zero`);
    return reading;
  }

  /** What the ranks must agree on, besides the layer's name. */
  #agreement({ eps, momentum }: Plan): string {
    const name = this.name && `"${this.name}", `;
    return `${name}${this.numFeatures} channels, ${this.dtype}, eps ${eps}, momentum ${momentum}`;
  }

  protected override compute(...all: Parameters<typeof forward>): ReturnType<typeof forward> {
    const [where, x, plan, keep, out, add = null] = all;
    const group = this.#join(where);
    if (!group) return super.compute(...all);
    const { own, proceed } = forwardOverRanks(where, x, plan, keep, out, add);
    const result = proceed(group.gather(own, where, this.#agreement(plan)));
    groups.set(result.saved.statistics, group);
    return result;
  }
  protected override async computeAsync(
    ...all: Parameters<BatchNorm['computeAsync']>
  ): ReturnType<BatchNorm['computeAsync']> {
    const [where, x, plan, keep, out] = all;
    const group = this.#join(where);
    if (!group) return super.computeAsync(...all);
    const result = await forwardOverRanksAsync(where, x, plan, keep, out, (own) =>
      group.gatherAsync(own, nameOf(where), this.#agreement(plan)),
    );
    groups.set(result.saved.statistics, group);
    return result;
  }

  protected override computeBack(...all: Parameters<typeof backward>): ReturnType<typeof backward> {
    const [where, saved, dy, dweight, dbias, out, gradAdd] = all;
    const group = groups.get(saved.statistics);
    if (!group) return super.computeBack(...all);
    const { own, proceed } = backwardOverRanks(where, saved, dy, out, gradAdd);
    return proceed(group.gather(own, where, this.#agreement(saved.plan)), dweight ?? null, dbias ?? null);
  }

  /**
   * `backward` that waits for the other ranks beside the event loop. The gradient is taken at the call; the input of the
   * forward must not be overwritten before the promise settles. Calls on one layer, forward and back, follow each other in the
   * order they were made.
   *
   * @throws (rejects with) what `backward` throws, with nothing changed; StateError (`code` 'ERR_NO_ASYNC') after a forward
   *   with a mask
   */
  backwardAsync(gradOutput: TensorLike, options: AsyncBackwardOptions = {}): Promise<Tensor> {
    return this.goBackAsync(gradOutput, options);
  }
  protected override async runBackAsync(
    saved: Saved | PackedSaved,
    dy: Tensor,
    { out }: AsyncBackwardOptions,
    where: string,
  ): Promise<Tensor> {
    if ('packing' in saved) {
      throw new StateError('ERR_NO_ASYNC', `${where}: a forward with a mask has no asynchronous form; use backward`);
    }
    const { x, plan } = saved;
    const direct = directly(out, x, plan.channelsLast, where);
    const group = groups.get(saved.statistics);
    if (!group) return this.runBack(saved, dy, { out }, where);
    // What they are is looked at now, and which they are when the others have come: they may be reset meanwhile.
    this.gradients(where);
    const { own, proceed } = backwardOverRanks(where, saved, dy, direct, undefined);
    const all = await group.gatherAsync(own, nameOf(where), this.#agreement(plan));
    const { weight, bias, take } = this.gradients(where);
    const dx = proceed(all, weight, bias);
    take();
    return deliver(dx, out, plan.channelsLast, where);
  }
}

/** By the statistics that a forward kept: the group that they are of. */
const groups = new WeakMap<Float64Array, ProcessGroup>();

/** What ranks that wait and ranks that do not both call it. */
const nameOf = (where: string): string => where.replace(/Async$/, '');

/**
 * Puts a `SyncBatchNorm` in the place of every BatchNorm of a network, with the same options, modes (`training`,
 * `frozen`) and count, and the very same weight, bias and running statistics. A SyncBatchNorm is replaced too, for the
 * group given. What messages call them is their place in the network.
 *
 * @param processGroup the ranks that normalize together; default null, as of `SyncBatchNorm`
 * @returns the network itself, changed; for a BatchNorm alone, the new layer
 * @throws StateError (`code` 'ERR_UNINITIALIZED') for a lazy BatchNorm that has not had an input yet; or what a
 *   `replaceChild` throws. The network is then as before.
 *
 * *Matches* torch.nn.SyncBatchNorm.convert_sync_batchnorm. Differences: a layer that stands in several places is
 * converted in each, to the same new layer; a lazy BatchNorm is refused, where torch makes a layer of no channels of it.
 *
 * @example
 * const net = convertSyncBatchNorm(new Sequential(new BatchNorm2d(64)));
 */
export function convertSyncBatchNorm(module: BatchNorm, processGroup?: ProcessGroup | null): SyncBatchNorm;
export function convertSyncBatchNorm<T extends Module>(module: T, processGroup?: ProcessGroup | null): T;
export function convertSyncBatchNorm(module: Module, processGroup: ProcessGroup | null = null): Module {
  if (!(module instanceof Module)) {
    throw new TypeError(`convertSyncBatchNorm: module must be a Module, but got ${describe(module)}`);
  }
  const made = new Map<ModuleLike, SyncBatchNorm>();
  for (const [name, part] of module.namedModules())
    if (part instanceof BatchNorm) made.set(part, converted(part, name, processGroup));

  const undo: (() => void)[] = [];
  try {
    for (const parent of module.modules()) {
      if (!(parent instanceof Module)) continue;
      for (const [name, part] of parent.namedChildren()) {
        const sync = made.get(part);
        if (!sync) continue;
        parent.replaceChild(name, sync);
        undo.push(() => parent.replaceChild(name, part));
      }
    }
  } catch (error) {
    for (const back of undo) back();
    throw error;
  }
  return made.get(module) ?? module;
}

function converted(layer: BatchNorm, name: string, processGroup: ProcessGroup | null): SyncBatchNorm {
  if (isLazy(layer)) {
    throw new StateError(
      'ERR_UNINITIALIZED',
      `convertSyncBatchNorm: ${layer.constructor.name}${name && ` at "${name}"`} has not been fully initialized; run a ` +
        'forward or load a state dict first',
    );
  }
  const { numFeatures, eps, momentum, affine, trackRunningStats, dtype, relu, nonFinite, singleValue } = layer;
  const { weight, bias, runningMean, runningVar, numBatchesTracked } = layer;
  const sync = new SyncBatchNorm(numFeatures, {
    eps,
    momentum,
    affine,
    trackRunningStats,
    dtype,
    relu,
    nonFinite,
    singleValue,
    processGroup,
    name,
  });
  sync.copyModes(layer);
  return Object.assign(sync, { weight, bias, runningMean, runningVar, numBatchesTracked });
}
