// Kills a rank of a training loop at a random moment, and looks at what the others are told.

import { runRanks, valuesOf, type EngineHere } from './ranks';

export interface Kill {
  rank: number;
  after: number;
  asynchronous: boolean;
  /** Frozen it keeps its connections, and is missed when the time is over. */
  signal: 'SIGKILL' | 'SIGSTOP';
}

/** Seeded, so that a moment that did harm can be had again. */
export function randomKills(count: number, size: number, seed: number): Kill[] {
  let state = seed >>> 0;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  return Array.from({ length: count }, (_, i) => ({
    rank: Math.floor(random() * size),
    after: Math.floor(random() * 400),
    asynchronous: i % 2 === 1,
    signal: i % 5 === 4 ? 'SIGSTOP' : 'SIGKILL',
  }));
}

const timeout = 3000;

/** Throws unless every survivor gets a proper error in time. Returns the number of calls that were made before. */
export async function kill(
  engine: EngineHere,
  size: number,
  { rank: victim, after, asynchronous, signal }: Kill,
): Promise<number> {
  const isThreads = engine.engine === 'threads';
  const results = await runRanks(engine, {
    size,
    cases: [
      {
        scenario: ['training', 'loop'],
        args: { asynchronous, ...(isThreads && { dies: { rank: victim, after } }) },
      },
    ],
    timeout,
    lost: [victim],
    limit: 30_000,
    ...(!isThreads && {
      started: async (pidOf) => {
        // From when all have begun, so that some die while they join.
        for (let rank = 0; rank < size; rank++)
          while (!pidOf(rank)) await new Promise((resolve) => setTimeout(resolve, 2));
        await new Promise((resolve) => setTimeout(resolve, after));
        process.kill(pidOf(victim)!, signal);
      },
    }),
  });
  let [calls, inTime, named] = [0, 0, 0];
  results.forEach((own, rank) => {
    if (rank === victim) return;
    if (!own) throw new Error(`rank ${rank} hangs or has ended without a word`);
    const [result] = own;
    const told = result!.error ?? (valuesOf([own], 0)[0] as Told);
    // While they join nothing has a group yet.
    const codes = ['ERR_PEER_LOST', 'ERR_PEER_TIMEOUT', ...(result!.error ? ['ERR_RENDEZVOUS'] : [])];
    if (told.name !== 'StateError' || !codes.includes(told.code!))
      throw new Error(`rank ${rank}: ${JSON.stringify(told)}`);
    const { milliseconds } = told;
    if (milliseconds > timeout + 1000) throw new Error(`rank ${rank} waited for ${milliseconds} ms: ${told.message}`);
    if (result!.error) return;
    inTime++;
    const { isUnchanged, ranks } = told as Told;
    if (!isUnchanged) throw new Error(`rank ${rank}: running statistics have changed`);
    if (ranks.includes(victim)) named++;
    calls = Math.max(calls, (told as Told).calls);
  });
  // One that the victim had still answered may find that others left, who knew before.
  if (inTime > 0 && named === 0) throw new Error(`nobody names rank ${victim}: ${JSON.stringify(results)}`);
  return calls;
}

interface Told {
  name: string;
  code: string;
  message: string;
  ranks: number[];
  milliseconds: number;
  calls: number;
  isUnchanged: boolean;
}
