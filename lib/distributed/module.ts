// What data-parallel training does with a network, as torch's DistributedDataParallel: all ranks begin with the same state,
// and step by the average of their gradients.

import { checkOptions, describe } from '../internal/errors';
import { Module } from '../module';
import { allocate, Tensor, type DType, type Parameter } from '../tensor';
import { ProcessGroup, type BroadcastOptions, type CollectiveOptions, type GroupArray } from './process-group';

/**
 * The gradients of all parameters become their average over the ranks. Call it between backward and the optimizer's step,
 * on all ranks. A parameter without a gradient counts as zeros, and gets one; frozen ones (`requiresGrad` false) are left
 * alone. All take one call of `allReduce` for each dtype.
 *
 * With batches of unequal size, or a loss that is a sum, scale the loss by what the whole batch needs: ranks count alike.
 *
 * *Matches* what torch.nn.parallel.DistributedDataParallel does in backward.
 *
 * @throws GroupError as the group's calls do; the gradients are then as before
 * @example
 * net.backward(dy);
 * averageGradients(net, group);
 * optimizer.step();
 */
export function averageGradients(module: Module, group: ProcessGroup, options: CollectiveOptions = {}): void {
  const parts = gradientsOf(module, group, options, 'averageGradients');
  const averages = parts.map(({ data }) => group.reduce(data, 'averageGradients', { op: 'avg', ...options }));
  parts.forEach(({ finish }, i) => finish(averages[i]!));
}
/** The same, while the event loop goes on. */
export async function averageGradientsAsync(
  module: Module,
  group: ProcessGroup,
  options: CollectiveOptions = {},
): Promise<void> {
  const parts = gradientsOf(module, group, options, 'averageGradientsAsync');
  const averages: GroupArray[] = [];
  for (const { data } of parts) {
    averages.push(await group.reduceAsync(data, 'averageGradients', { op: 'avg', ...options }));
  }
  parts.forEach(({ finish }, i) => finish(averages[i]!));
}

/**
 * Parameters, running statistics and counters become those of rank `root` (0): what ranks that made their networks by
 * themselves begin with.
 *
 * *Matches* what torch.nn.parallel.DistributedDataParallel does when it is made.
 *
 * @throws GroupError as the group's calls do
 */
export function broadcastState(module: Module, group: ProcessGroup, options: BroadcastOptions = {}): void {
  const { parts, load } = stateOf(module, group, options, 'broadcastState');
  for (const { data, finish } of parts) finish(group.send(data, 'broadcastState', options));
  load();
}
/** The same, while the event loop goes on. */
export async function broadcastStateAsync(
  module: Module,
  group: ProcessGroup,
  options: BroadcastOptions = {},
): Promise<void> {
  const { parts, load } = stateOf(module, group, options, 'broadcastStateAsync');
  for (const { data, finish } of parts) finish(await group.sendAsync(data, 'broadcastState', options));
  load();
}

/** Tensors of one dtype, one after the other; `finish` takes what they become. */
interface Part {
  data: GroupArray;
  finish: (data: GroupArray) => void;
}

function gradientsOf(module: Module, group: ProcessGroup, options: CollectiveOptions, where: string): Part[] {
  check(module, group, where);
  checkOptions(where, options, ['timeout']);
  const parameters = module.parameters().filter(({ requiresGrad }) => requiresGrad);
  return byDtype(parameters).map(([dtype, all]): Part => {
    const data = allocate(dtype, sizeOf(all)) as Float64Array;
    eachAt(all, ({ grad }, at) => grad && data.set(elementsOf(grad), at));
    const finish = (averaged: GroupArray): void =>
      eachAt(all, (parameter, at) => {
        const own = (averaged as Float64Array).slice(at, at + parameter.size);
        const { grad } = parameter;
        if (grad?.isContiguous) (grad.data as Float64Array).set(own, grad.offset);
        else parameter.grad = new Tensor(own, parameter.shape);
      });
    return { data, finish };
  });
}

function stateOf(
  module: Module,
  group: ProcessGroup,
  options: BroadcastOptions,
  where: string,
): { parts: Part[]; load: () => void } {
  check(module, group, where);
  checkOptions(where, options, ['root', 'timeout']);
  const state = new Map<string, Tensor>();
  const names = new Map([...module.stateDict()].map(([name, t]) => [t, name] as const));
  const parts = byDtype([...names.keys()]).map(([dtype, all]): Part => {
    const data = allocate(dtype, sizeOf(all));
    eachAt(all, (t, at) => (data as Float64Array).set(elementsOf(t), at));
    const finish = (sent: GroupArray): void =>
      eachAt(all, (t, at) => {
        const own = (sent as Float64Array).slice(at, at + t.size);
        state.set(names.get(t)!, new Tensor(own, t.shape, { dtype: t.dtype }));
      });
    return { data: data as GroupArray, finish };
  });
  return { parts, load: () => void module.loadStateDict(state) };
}

function check(module: unknown, group: unknown, where: string): void {
  if (!(module instanceof Module))
    throw new TypeError(`${where}: module must be a Module, but got ${describe(module)}`);
  if (group instanceof ProcessGroup) return;
  throw new TypeError(`${where}: group must be a ProcessGroup, but got ${describe(group)}`);
}

function byDtype<T extends Tensor | Parameter>(tensors: readonly T[]): [DType, T[]][] {
  const all = new Map<DType, T[]>();
  for (const t of tensors) {
    const own = all.get(t.dtype);
    if (own) own.push(t);
    else all.set(t.dtype, [t]);
  }
  return [...all];
}

const sizeOf = (tensors: readonly Tensor[]): number => tensors.reduce((sum, { size }) => sum + size, 0);

function eachAt<T extends Tensor>(tensors: readonly T[], f: (t: T, at: number) => void): void {
  let at = 0;
  for (const t of tensors) {
    f(t, at);
    at += t.size;
  }
}

function elementsOf(t: Tensor): Float64Array {
  const { data, offset, size } = t.contiguous();
  return data.subarray(offset, offset + size) as Float64Array;
}
