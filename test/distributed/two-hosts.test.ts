// Two machines, as far as one can be two: network namespaces on a bridge. What ranks on both compute, and what they are told
// when the cable is pulled.

import { spawnSync } from 'node:child_process';
import { enginesHere, runRanks, valuesOf, type Job } from '../support/ranks';

// Of this run only, so that two do not meet; names of links have 15 characters at most.
const id = process.pid.toString(36);
const bridge = `sn-${id}`;
const host = (i: number): string => `sn-${id}-${i}`;
const link = (i: number): string => `sn${id}v${i}`;

function ip(...args: string[]): void {
  const { status, stderr, error } = spawnSync('ip', args, { encoding: 'utf8', timeout: 10_000 });
  if (error || status !== 0) throw new Error(`ip ${args.join(' ')}: ${error?.message ?? stderr}`);
}

/** The bridge is in a namespace of its own: nothing of this machine's network is touched. */
function up(): void {
  ip('netns', 'add', bridge);
  ip('-n', bridge, 'link', 'add', 'bridge', 'type', 'bridge');
  ip('-n', bridge, 'link', 'set', 'bridge', 'up');
  for (const i of [0, 1]) {
    ip('netns', 'add', host(i));
    ip('-n', host(i), 'link', 'set', 'lo', 'up');
    ip('-n', bridge, 'link', 'add', link(i), 'type', 'veth', 'peer', 'name', 'eth0', 'netns', host(i));
    ip('-n', bridge, 'link', 'set', link(i), 'master', 'bridge', 'up');
    ip('-n', host(i), 'addr', 'add', `10.77.0.${i + 1}/24`, 'dev', 'eth0');
    ip('-n', host(i), 'link', 'set', 'eth0', 'up');
  }
}
function down(): void {
  for (const name of [host(0), host(1), bridge]) spawnSync('ip', ['netns', 'del', name], { timeout: 10_000 });
}

function forbidden(): string | undefined {
  const gloo = enginesHere().find(({ engine }) => engine === 'gloo')!;
  if (gloo.absent !== undefined) return gloo.absent;
  try {
    up();
    return undefined;
  } catch (error) {
    return `no network namespaces here: ${(error as Error).message.trim()}`;
  } finally {
    down();
  }
}

const why = forbidden();
const on = why === undefined ? describe : describe.skip;
// .ci/run counts these, for machines where they are skipped.
on(`two hosts${why === undefined ? '' : ` (${why})`}`, () => {
  beforeAll(up);
  afterAll(down);

  const gloo = { name: 'gloo', engine: 'gloo' as const };
  const size = 4;
  const timeout = 2000;
  const job: Pick<Job, 'size' | 'wrap' | 'env'> = {
    size,
    wrap: (rank) => ['ip', 'netns', 'exec', host(rank % 2)],
    env: { MASTER_ADDR: '10.77.0.1', SIMDNORM_TOKEN: 'of both' },
  };
  const titles = Object.keys(require('./scenarios/collectives.cjs') as object);

  it('compute what one does', async () => {
    const cases = titles.map((title) => ({ scenario: ['collectives', title] as [string, string] }));
    const results = await runRanks(gloo, { ...job, cases });
    titles.forEach((_, i) => {
      const values = valuesOf(results, i);
      for (const value of values) expect(value).toEqual(values[0]);
    });
  });

  const pulled = async (asynchronous: boolean): Promise<void> => {
    const results = await runRanks(gloo, {
      ...job,
      cases: [{ scenario: ['training', 'loop'], args: { asynchronous } }],
      timeout,
      started: async (pidOf) => {
        for (let rank = 0; rank < size; rank++)
          while (!pidOf(rank)) await new Promise((resolve) => setTimeout(resolve, 5));
        await new Promise((resolve) => setTimeout(resolve, 1000));
        ip('-n', bridge, 'link', 'set', link(1), 'down');
      },
    }).finally(() => ip('-n', bridge, 'link', 'set', link(1), 'up'));
    for (const told of valuesOf(results, 0) as {
      code: string;
      ranks: number[];
      milliseconds: number;
      calls: number;
      isUnchanged: boolean;
    }[]) {
      expect(told).toMatchObject({
        code: expect.stringMatching(/^ERR_PEER_(TIMEOUT|LOST)$/) as string,
        isUnchanged: true,
      });
      expect(told.calls).toBeGreaterThan(0);
      expect(told.milliseconds).toBeLessThan(timeout + 1000);
      expect(told.ranks.length).toBeGreaterThan(0);
    }
  };
  it('tell all ranks in time when the cable is pulled', () => pulled(false));
  it('do so while the event loop goes on', () => pulled(true));
});
