// BatchNorm whose statistics are of the inputs of several ranks: each brings the moments of its own, and on the way back
// its sums, and all make the same of them. Nothing here knows how they come together: `gather` gives the values of all
// ranks, one rank after the other.
//
// Both are merged as native merges the units of one input, in the same tree (Cascade in native/core/moments.h). So where
// each rank's input is 2^k whole units, all of it has the bits of one call on the whole batch: docs/distributed.md.

import { Flag, type Addon } from './addon';
import {
  backward,
  forward,
  momentsOf,
  place,
  placeBack,
  statisticsOfParts,
  target,
  type Keep,
  type Plan,
  type Saved,
} from './call';
import { formatShape } from './errors';
import { allocateOutput } from './memory';
import { Tensor } from '../tensor';

/** What is to be exchanged, and then what follows from what all ranks brought. */
export interface Exchange<T, More extends unknown[] = []> {
  own: Float64Array;
  proceed: (all: Float64Array, ...more: More) => T;
}

/**
 * `forward` of call.ts; the plan must defer its running statistics. What is to be refused is refused before the exchange,
 * but for a single value on all ranks together.
 */
export function forwardOverRanks(
  where: string,
  input: Tensor,
  plan: Plan,
  keep: Keep,
  out: unknown,
  add: Tensor | null,
): Exchange<{ y: Tensor; saved: Saved }, [enter?: Addon['forward']]> {
  const { x, y } = place(where, input, plan.channelsLast, keep === 'copy' ? 'statistics' : keep, out);
  const groups = plan.geometry[2];
  return {
    own: momentsOf(where, x, plan.geometry),
    proceed: (all, enter) => {
      const ranks = all.length / (5 * groups);
      let count = 0;
      for (let rank = 0; rank < ranks; rank++) count += all[rank * 5 * groups]!;
      if (count === 1) {
        throw new RangeError(
          `${where}: Expected more than 1 value per channel when training, got 1 on all ${ranks} ranks together, and ` +
            `input size ${formatShape(x.shape)} here`,
        );
      }
      const given = statisticsOfParts(where, x, all, ranks, groups, plan);
      const by = { ...plan, flags: plan.flags + Flag.useSaved };
      const { saved } = forward(where, x, by, keep ?? 'statistics', y, add, given, enter, count);
      return { y, saved: saved! };
    },
  };
}

/** `backward` of call.ts. Nothing but memory of its own is written before the exchange. */
export function backwardOverRanks(
  where: string,
  saved: Saved,
  gradOutput: Tensor,
  out: unknown,
  gradAdd: unknown,
): Exchange<Tensor, [dweight: Tensor | null, dbias: Tensor | null]> {
  const { plan, x } = saved;
  const { dy, dx } = placeBack(where, gradOutput, x, plan.channelsLast, out);
  if (gradAdd !== undefined) target(gradAdd, x, plan.channelsLast, where, 'gradAdd');
  const relu = (plan.flags & Flag.relu) !== 0;
  const own = new Float64Array(2 * plan.geometry[2]);
  // What the ReLU let through, or where gradAdd is wanted dy itself: dx may come to lie over that.
  const wanted = relu || gradAdd !== undefined;
  const coming = wanted
    ? new Tensor(allocateOutput(x.dtype, x.size, where), x.layout.dense(plan.channelsLast), { dtype: x.dtype })
    : dy;
  backward(where, saved, dy, null, null, null, wanted ? coming : undefined, own);
  return {
    own,
    proceed: (all, dweight, dbias) => {
      const ungated = { ...saved, plan: { ...plan, flags: plan.flags & ~Flag.relu }, add: null };
      const totals = new Float64Array(2 * own.length);
      totals.set(treeSum(all, own.length));
      totals.set(own, own.length);
      return backward(where, ungated, coming, dweight, dbias, dx, gradAdd, totals)!;
    },
  };
}

/** The sum of parts of `length` numbers, in the order of Cascade; written over the first. */
function treeSum(all: Float64Array, length: number): Float64Array {
  for (let step = length; step < all.length; step *= 2) {
    for (let to = 0; to + step < all.length; to += 2 * step) {
      for (let i = to; i < to + length; i++) all[i]! += all[i + step]!;
    }
  }
  return all.subarray(0, length);
}
