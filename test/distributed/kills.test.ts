// Ranks of a training loop that are killed at random moments: nobody hangs, everybody is told. SIMDNORM_KILLS says how
// many times, SIMDNORM_SEED which moments.

import { kill, randomKills } from '../support/kills';
import { onEveryEngine } from '../support/ranks';

const size = 4;
const seed = Number(process.env.SIMDNORM_SEED ?? Date.now() % 2 ** 31);
const kills = randomKills(Number(process.env.SIMDNORM_KILLS ?? 5), size, seed);

onEveryEngine(
  `a training loop, seed ${seed}`,
  (engine) => {
    it.each(
      kills.map((each) => [each.rank, each.after, each.asynchronous ? 'does not block' : 'blocks', each] as const),
    )('rank %p is killed after %p ms, which %s', async (_, after, __, each) => {
      const calls = await kill(engine, size, each);
      // Some die before they have a group; the others in the middle of something.
      expect(calls).toBeGreaterThanOrEqual(after > 350 && engine.engine === 'threads' ? 1 : 0);
    });
  },
  ({ engine }) => engine !== 'mpi',
);
