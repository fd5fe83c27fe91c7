// Calls on another thread. JavaScript goes on meanwhile and may detach or resize any memory it can reach, so native
// works on SharedArrayBuffers, which cannot be detached, and on arrays made here, which nobody else has.

import { allocate, Tensor, viewOf } from '../tensor';
import { addon, check, Names, type Addon, type FloatArray } from './addon';
import { forward, target, type Plan, type Saved } from './call';
import { arrayKind, isShared } from './errors';
import { forwardOverRanks } from './ranks';
import { OutputPool } from '../output-pool';

/** x itself if its memory is shared, else a copy as it lies. */
export function withdrawn(x: Tensor): Tensor {
  if (isShared(x.data)) return x;
  if (x.isContiguous || !x.isChannelsLast) return x.copy();
  const own = allocate(x.dtype, x.size) as Float32Array;
  own.set(x.data.subarray(x.offset, x.offset + x.size) as Float32Array);
  return viewOf(own, x.shape, true, 0, x.dtype);
}

const copy = (a: FloatArray | null): FloatArray | null =>
  a && (arrayKind(a) === 'Float32Array' ? new Float32Array(a) : new Float64Array(a));

type Like = Parameters<typeof target>[1];

/** `out` if another thread may write there; undefined for memory of the call's own. */
export function directly(out: unknown, x: Like, channelsLast: boolean, where: string): unknown {
  // What is lent, a pool takes back should the call throw, and knows only of the call that is running.
  if (out instanceof OutputPool) {
    throw new TypeError(
      `${where}: out must be a typed array or a Tensor; an OutputPool lends to synchronous calls only`,
    );
  }
  if (out === undefined || isShared(out instanceof Tensor ? out.data : out)) return out;
  target(out, x, channelsLast, where);
  return undefined;
}

/** The end of a call that was given `directly(out)`: `out` has what is in y. */
export function deliver(y: Tensor, out: unknown, channelsLast: boolean, where: string): Tensor {
  if (out === undefined || isShared(y.data)) return y;
  const given = target(out, y, channelsLast, where); // again: it may have been detached
  given.data.set(y.data as Float32Array as never, given.offset);
  return given;
}

/** A way into the kernels on another thread, for one call, and how that call ends. */
function elsewhere(where: string): { enter: Addon['forward']; ended: () => Promise<void> } {
  let work: Promise<number> | undefined;
  return {
    enter: (block, from, to, weight, bias, statistics, mean, variance, add) => {
      let fault = 0;
      work = new Promise((resolve) => {
        const own = [copy(weight), copy(bias), statistics, copy(mean), copy(variance)] as const;
        fault = addon.forwardAsync(block, from, to, ...own, add, resolve);
      });
      return fault;
    },
    ended: async () => check((await work) ?? 0, where, Names.forward),
  };
}

/** `x`: withdrawn. The plan must defer its running statistics. An `out` that is not shared is written at the end. */
export async function forwardAsync(
  where: string,
  x: Tensor,
  plan: Plan,
  keep: 'reference' | 'statistics',
  out: unknown,
): Promise<{ y: Tensor; saved: Saved }> {
  const direct = directly(out, x, plan.channelsLast, where);
  const { enter, ended } = elsewhere(where);
  const { y, saved } = forward(where, x, plan, keep, direct, null, null, enter);
  await ended();
  return { y: deliver(y, out, plan.channelsLast, where), saved: saved! };
}

/** The same by the statistics of all ranks: see ranks.ts. The input's own are taken at once, on this thread. */
export async function forwardOverRanksAsync(
  where: string,
  x: Tensor,
  plan: Plan,
  keep: 'reference' | 'statistics',
  out: unknown,
  gather: (own: Float64Array) => Promise<Float64Array>,
): Promise<{ y: Tensor; saved: Saved }> {
  const direct = directly(out, x, plan.channelsLast, where);
  const { own, proceed } = forwardOverRanks(where, x, plan, keep, direct, null);
  const all = await gather(own);
  const { enter, ended } = elsewhere(where);
  const { y, saved } = proceed(all, enter);
  await ended();
  return { y: deliver(y, out, plan.channelsLast, where), saved };
}
