// Ranks of a training loop that are killed or frozen at random moments: nobody hangs, everybody is told. SIMDNORM_KILLS says how
// many times, SIMDNORM_SEED which moments.

import { kill, randomKills } from '../support/kills';
import { onEveryEngine } from '../support/ranks';

const size = 4;
const seed = Number(process.env.SIMDNORM_SEED ?? Date.now() % 2 ** 31);
const kills = randomKills(Number(process.env.SIMDNORM_KILLS ?? 5), size, seed);

onEveryEngine(
  `a training loop, seed ${seed}`,
  (engine) => {
    const titled = kills.map((each) => {
      const { rank, after, asynchronous, signal } = each;
      const form = asynchronous ? 'does not block' : 'blocks';
      const what = engine.engine === 'threads' ? 'ends' : `gets ${signal}`;
      return [`rank ${rank} of a loop that ${form} ${what} after ${after} ms`, each] as const;
    });
    it.each(titled)('%s', async (_, each) => {
      const calls = await kill(engine, size, each);
      // Some fall before they have a group; the others in the middle of something.
      expect(calls).toBeGreaterThanOrEqual(each.after > 350 && engine.engine === 'threads' ? 1 : 0);
    });
  },
  ({ engine }) => engine !== 'mpi',
);
