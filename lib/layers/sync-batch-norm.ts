import { describe, StateError } from '../internal/errors';
import type { Reading } from '../internal/plan';
import { Module, type ModuleLike } from '../module';
import type { Tensor } from '../tensor';
import { BatchNorm } from './batch-norm';
import { isLazy } from './lazy';

/**
 * BatchNorm of any rank, for processes that normalize together; a process by itself is a group of one.
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance; `runningVar` takes the unbiased one.
 *
 * *Shape*: (N, C, ...), and the same out. Statistics of each of the C = `numFeatures` channels over the rest.
 *
 * *Options*: as `BatchNorm1d`.
 *
 * *Train and eval*: as `BatchNorm1d`.
 *
 * *Throws* as `BatchNorm1d`; RangeError for no channels.
 *
 * *Matches* torch.nn.SyncBatchNorm where no process group is initialized: there are none here yet.
 *
 * @example
 * const bn = new SyncBatchNorm(64);
 */
export class SyncBatchNorm extends BatchNorm {
  protected override readonly ranks = null;

  protected override read(x: Tensor, where: string): Reading {
    const reading = super.read(x, where);
    if (reading.c === 0) throw new RangeError(`${where}: SyncBatchNorm number of input channels should be non-zero`);
    return reading;
  }
}

/**
 * Puts a `SyncBatchNorm` in the place of every BatchNorm of a network, with the same options, modes (`training`,
 * `frozen`) and count, and the very same weight, bias and running statistics.
 *
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
export function convertSyncBatchNorm(module: BatchNorm): SyncBatchNorm;
export function convertSyncBatchNorm<T extends Module>(module: T): T;
export function convertSyncBatchNorm(module: Module): Module {
  if (!(module instanceof Module)) {
    throw new TypeError(`convertSyncBatchNorm: module must be a Module, but got ${describe(module)}`);
  }
  const made = new Map<ModuleLike, SyncBatchNorm>();
  for (const [name, part] of module.namedModules())
    if (part instanceof BatchNorm) made.set(part, converted(part, name));

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

function converted(layer: BatchNorm, name: string): SyncBatchNorm {
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
  });
  sync.copyModes(layer);
  return Object.assign(sync, { weight, bias, runningMean, runningVar, numBatchesTracked });
}
