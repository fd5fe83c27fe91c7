// Data-set statistics that every rank has taken of its own part of the data.

import { describe } from '../internal/errors';
import { RunningMoments } from '../preprocessing/running-moments';
import { Scaler } from '../preprocessing/scaler';
import { ProcessGroup, type CollectiveOptions } from './process-group';

/**
 * A RunningMoments or a scaler has then seen what all ranks' have, merged in the order of ranks: the same bits on all of
 * them. All ranks call it. One that has seen nothing may take part.
 *
 * @returns what it was given
 * @throws GroupError as the group's calls do; RangeError where the ranks' features differ. What was seen is then as before.
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
  const own = bytesOf(seen, group, 'mergeOverRanks');
  const most = group.allReduce(Float64Array.of(own.length), { op: 'max', ...options })[0]!;
  return take(seen, group.allGather(padded(own, most), options));
}
/** The same, while the event loop goes on. */
export async function mergeOverRanksAsync<T extends RunningMoments | Scaler>(
  seen: T,
  group: ProcessGroup,
  options: CollectiveOptions = {},
): Promise<T> {
  const own = bytesOf(seen, group, 'mergeOverRanksAsync');
  const [most] = await group.allReduceAsync(Float64Array.of(own.length), { op: 'max', ...options });
  return take(seen, await group.allGatherAsync(padded(own, most!), options));
}

function bytesOf(seen: RunningMoments | Scaler, group: unknown, where: string): Uint8Array {
  if (!(seen instanceof RunningMoments) && !(seen instanceof Scaler)) {
    throw new TypeError(`${where}: expected a RunningMoments or a scaler, but got ${describe(seen)}`);
  }
  if (!(group instanceof ProcessGroup)) {
    throw new TypeError(`${where}: group must be a ProcessGroup, but got ${describe(group)}`);
  }
  return Buffer.from(JSON.stringify(seen instanceof Scaler ? seen.seen : seen));
}

/** JSON may end with any number of spaces. */
function padded(bytes: Uint8Array, length: number): Uint8Array {
  const all = new Uint8Array(length).fill(0x20);
  all.set(bytes);
  return all;
}

function take<T extends RunningMoments | Scaler>(seen: T, all: readonly Uint8Array[]): T {
  const parts = all.map((bytes): unknown => JSON.parse(Buffer.from(bytes).toString()));
  let merged: RunningMoments | null = null;
  for (const part of parts) {
    if (part === null) continue;
    const moments = RunningMoments.fromJSON(part);
    merged = merged ? merged.merge(moments) : moments;
  }
  if (!merged) return seen;
  if (seen instanceof Scaler) seen.adopt(merged);
  else (seen as RunningMoments).reset().merge(merged);
  return seen;
}
