// Data-set statistics that every rank has taken of its own part of the data.

import { describe } from '../internal/errors';
import { RunningMoments } from '../preprocessing/running-moments';
import { Scaler } from '../preprocessing/scaler';
import { ProcessGroup, type CollectiveOptions } from './process-group';

/**
 * A RunningMoments or a scaler has then seen what all ranks' have, merged in the order of ranks: the same bits on all of
 * them. All ranks call it, once, at the end: what was merged would count again. One that has seen nothing may take part.
 *
 * @returns what it was given
 * @throws GroupError as the group's calls do, also where ranks bring something of another class; RangeError where their
 *   features differ. What was seen is then as before.
 * @example
 * const scaler = new StandardScaler();
 * for (const batch of mine) scaler.partialFit(batch);
 * mergeOverRanks(scaler, group);
 */
export function mergeOverRanks<T extends RunningMoments | Scaler>(
  seen: T,
  group: ProcessGroup,
  options: CollectiveOptions = {},
): T {
  const { bytes, length, detail } = announce(seen, group, 'mergeOverRanks');
  const lengths = group.gather(length, where, detail, options);
  return take(seen, group.gather(padded(bytes, lengths), where, detail, options), group.size);
}
/** The same, while the event loop goes on. */
export async function mergeOverRanksAsync<T extends RunningMoments | Scaler>(
  seen: T,
  group: ProcessGroup,
  options: CollectiveOptions = {},
): Promise<T> {
  const { bytes, length, detail } = announce(seen, group, 'mergeOverRanksAsync');
  const lengths = await group.gatherAsync(length, where, detail, options);
  return take(seen, await group.gatherAsync(padded(bytes, lengths), where, detail, options), group.size);
}

const where = 'mergeOverRanks';

function announce(
  seen: RunningMoments | Scaler,
  group: unknown,
  caller: string,
): { bytes: Uint8Array; length: Float64Array; detail: string } {
  if (!(seen instanceof RunningMoments) && !(seen instanceof Scaler)) {
    throw new TypeError(`${caller}: expected a RunningMoments or a scaler, but got ${describe(seen)}`);
  }
  if (!(group instanceof ProcessGroup)) {
    throw new TypeError(`${caller}: group must be a ProcessGroup, but got ${describe(group)}`);
  }
  const bytes = Buffer.from(JSON.stringify(seen instanceof Scaler ? seen.seen : seen));
  return { bytes, length: Float64Array.of(bytes.length), detail: seen.constructor.name };
}

/** As long as the longest, in doubles; JSON may end with any number of spaces. */
function padded(bytes: Uint8Array, lengths: Float64Array): Float64Array {
  const all = new Float64Array(Math.ceil(Math.max(...lengths) / 8));
  new Uint8Array(all.buffer).fill(0x20).set(bytes);
  return all;
}

function take<T extends RunningMoments | Scaler>(seen: T, all: Float64Array, size: number): T {
  const each = all.byteLength / size;
  let merged: RunningMoments | null = null;
  for (let rank = 0; rank < size; rank++) {
    const part: unknown = JSON.parse(Buffer.from(all.buffer, rank * each, each).toString());
    if (part === null) continue;
    const moments = RunningMoments.fromJSON(part);
    merged = merged ? merged.merge(moments) : moments;
  }
  if (!merged) return seen;
  if (seen instanceof Scaler) seen.adopt(merged);
  else (seen as RunningMoments).reset().merge(merged);
  return seen;
}
