// A forward on another thread. JavaScript goes on meanwhile and may detach or resize any memory it can reach, so native
// works on SharedArrayBuffers, which cannot be detached, and on arrays made here, which nobody else has.

import { allocate, Tensor, viewOf } from '../tensor';
import { addon, check, Names, type Addon, type FloatArray } from './addon';
import { forward, target, type Plan, type Saved } from './call';
import { arrayKind, isShared } from './errors';

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

/** `x`: withdrawn. The plan must defer its running statistics. An `out` that is not shared is written at the end. */
export async function forwardAsync(
  where: string,
  x: Tensor,
  plan: Plan,
  keep: 'reference' | 'statistics',
  out: unknown,
): Promise<{ y: Tensor; saved: Saved }> {
  const direct = out === undefined || isShared(out instanceof Tensor ? out.data : out);
  if (!direct) target(out, x, plan.channelsLast, where);
  let work: Promise<number> | undefined;
  const enter: Addon['forward'] = (block, from, to, weight, bias, statistics, mean, variance, add) => {
    let fault = 0;
    work = new Promise((resolve) => {
      const own = [copy(weight), copy(bias), statistics, copy(mean), copy(variance)] as const;
      fault = addon.forwardAsync(block, from, to, ...own, add, resolve);
    });
    return fault;
  };
  const { y, saved } = forward(where, x, plan, keep, direct ? out : undefined, null, null, enter);
  check((await work) ?? 0, where, Names.forward);
  if (direct) return { y, saved: saved! };
  const given = target(out, x, plan.channelsLast, where); // again: it may have been detached
  given.data.set(y.data as Float32Array as never, given.offset);
  return { y: given, saved: saved! };
}
