// How ranks come to be a group over Gloo, and how they do not: those that are missing, have another secret or another idea of
// the group; and strangers at the port.

import { connect } from 'node:net';
import { freePort, onEveryEngine, runRanks, valuesOf, type EngineHere, type Job } from '../support/ranks';

interface Told {
  sum?: number;
  name?: string;
  code?: string;
  message?: string;
  ranks?: number[];
  milliseconds: number;
}

const timeout = 1500;

async function join(engine: EngineHere, job: Partial<Job> & { size: number }): Promise<(Told | null)[]> {
  const results = await runRanks(engine, {
    cases: [{ scenario: ['failures', 'joining'], args: {} }],
    joins: false,
    timeout,
    ...job,
  });
  return results.map((own) => own && (valuesOf([own], 0)[0] as Told));
}

/** Bytes for a port, again and again while somebody listens there; how often they came through. */
async function pester(port: number, bytes: Buffer, end: boolean): Promise<number> {
  const began = performance.now();
  let reached = 0;
  const isOver = (): boolean => performance.now() > began + (reached > 5 ? 1000 : 9000);
  while (!isOver()) {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.on('connect', () => {
      reached++;
      if (bytes.length > 0) socket.write(bytes);
      if (end) socket.end();
    });
    setTimeout(() => socket.destroy(), 3000);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return reached;
}

const strangers: [string, Buffer, boolean][] = [
  ['nothing', Buffer.alloc(0), false],
  ['nothing, and leave', Buffer.alloc(0), true],
  ['HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n'), false],
  ['0xff, many of them', Buffer.alloc(100_000, 0xff), false],
];

onEveryEngine(
  'a group that comes together',
  (engine) => {
    it('of one, and of many', async () => {
      for (const size of [1, 6]) {
        for (const told of await join(engine, { size, timeout: 10_000 })) expect(told).toEqual({ sum: size });
      }
    });

    it('whoever comes first', async () => {
      for (const last of [0, 2]) {
        const byRank = [0, 1, 2].map((rank) => ({ after: rank === last ? 700 : 0 }));
        const cases = [{ scenario: ['failures', 'joining'] as [string, string], byRank }];
        for (const told of await join(engine, { size: 3, cases, timeout: 10_000 })) expect(told).toEqual({ sum: 3 });
      }
    });

    it('again and again at the same port', async () => {
      const cases = Array.from({ length: 8 }, () => ({
        scenario: ['failures', 'joining'] as [string, string],
        args: {},
      }));
      const results = await runRanks(engine, { size: 3, cases, joins: false, timeout: 10_000 });
      cases.forEach((_, i) => expect(valuesOf(results, i)).toEqual([{ sum: 3 }, { sum: 3 }, { sum: 3 }]));
    });

    it('with a secret, and by the name of the machine', async () => {
      const env = { SIMDNORM_TOKEN: 'ours', MASTER_ADDR: 'localhost' };
      for (const told of await join(engine, { size: 3, env, timeout: 10_000 })) expect(told).toEqual({ sum: 3 });
    });

    it.each(strangers)('while strangers send %s', async (_, bytes, end) => {
      const port = await freePort();
      const byRank = [0, 1, 2].map((rank) => ({ after: rank === 2 ? 800 : 0 }));
      let reached = 0;
      const told = await join(engine, {
        size: 3,
        port,
        timeout: 10_000,
        cases: [{ scenario: ['failures', 'joining'], byRank }],
        started: async () => {
          reached = await pester(port, bytes, end);
        },
      });
      expect(told).toEqual([{ sum: 3 }, { sum: 3 }, { sum: 3 }]);
      expect(reached).toBeGreaterThan(5);
    });
  },
  ({ engine }) => engine === 'gloo',
);

onEveryEngine(
  'a group that does not come together',
  (engine) => {
    const expectAll = (all: (Told | null)[], ranks: number[], expected: object, words: RegExp): void => {
      for (const rank of ranks) {
        expect(all[rank]).toMatchObject({ name: 'StateError', ...expected });
        expect(all[rank]!.message).toMatch(words);
        expect(all[rank]!.milliseconds).toBeLessThan(timeout + 1000);
      }
    };

    it('for want of a rank, which all others name', async () => {
      const all = await join(engine, { size: 4, absent: [2] });
      expectAll(all, [0, 1, 3], { code: 'ERR_PEER_TIMEOUT' }, /rank 2 did not come.* within 1\.5 s|rank 2\b/);
    });

    it('for want of rank 0', async () => {
      const all = await join(engine, { size: 3, absent: [0] });
      expectAll(
        all,
        [1, 2],
        { code: 'ERR_RENDEZVOUS' },
        /nobody answers as rank 0 of the group at 127\.0\.0\.1:\d+ within 1\.5 s.*ECONNREFUSED/,
      );
    });

    it('for another secret', async () => {
      const envOf = (rank: number): Record<string, string> => ({ SIMDNORM_TOKEN: rank === 1 ? 'theirs' : 'ours' });
      const all = await join(engine, { size: 3, envOf });
      expectAll(
        all,
        [1],
        { code: 'ERR_TOKEN' },
        /knows another token than this rank 1: SIMDNORM_TOKEN must be the same on all ranks/,
      );
      expectAll(
        all,
        [0, 2],
        { code: 'ERR_PEER_TIMEOUT' },
        /rank 1 of 3 did not come within 1\.5 s; a process at 127\.0\.0\.1 came with another token/,
      );
    });

    it('for another number of ranks', async () => {
      const envOf = (rank: number): Record<string, string> => (rank === 1 ? { WORLD_SIZE: '4' } : {});
      const all = await join(engine, { size: 3, envOf });
      // Who comes when rank 0 has given up finds nobody there.
      const words = /rank 1 is of a group of 4, but rank 0 of one of 3|nobody answers/;
      expectAll(all, [0, 1, 2], { code: 'ERR_RENDEZVOUS' }, words);
      expect(all[1]!.message).toMatch(/rank 1 is of a group of 4, but rank 0 of one of 3/);
    });

    it('for two ranks of the same number', async () => {
      const byRank = [0, 1, 2].map((rank) => ({
        after: rank === 2 ? 300 : 0,
        options: { rank: rank === 2 ? 1 : rank },
      }));
      const all = await join(engine, { size: 3, cases: [{ scenario: ['failures', 'joining'], byRank }] });
      expectAll(all, [0, 1, 2], { code: 'ERR_RENDEZVOUS' }, /two processes say that they are rank 1 of 3/);
    });

    it('without a secret, at an address that others reach', async () => {
      const all = await join(engine, { size: 2, env: { MASTER_ADDR: '10.255.255.1' } });
      expectAll(
        all,
        [0, 1],
        { code: 'ERR_TOKEN' },
        /10\.255\.255\.1:\d+ can be reached from other machines: set SIMDNORM_TOKEN/,
      );
      for (const told of all) expect(told!.milliseconds).toBeLessThan(500);
    });

    it('and then does', async () => {
      const first = [{}, {}, { after: timeout + 200, options: { timeout: 50 } }];
      const again = { after: 800, options: { timeout: 10_000 } };
      const scenario: [string, string] = ['failures', 'joining'];
      const cases = [{ scenario, byRank: first }, { scenario, args: again }]; // prettier-ignore
      const results = await runRanks(engine, { size: 3, cases, joins: false, timeout });
      for (const told of valuesOf(results, 0) as Told[]) expect(told.name).toBe('StateError');
      expect(valuesOf(results, 1)).toEqual([{ sum: 3 }, { sum: 3 }, { sum: 3 }]);
    });
  },
  ({ engine }) => engine === 'gloo',
);

onEveryEngine(
  'a rank of MPI that does not join',
  (engine) => {
    it('is an error of the others in time', async () => {
      const byRank = [0, 1, 2].map((rank) => ({ after: rank === 1 ? timeout + 1500 : 0 }));
      const results = await runRanks(engine, {
        size: 3,
        cases: [{ scenario: ['failures', 'joining'], byRank }],
        joins: false,
        timeout,
        lost: [1],
        recovers: true,
      });
      for (const rank of [0, 2]) {
        const [told] = valuesOf([results[rank]!], 0) as [Told];
        expect(told.name).toBe('StateError');
        expect(told.message).toMatch(/a rank did not come within|no answer from rank 1/);
        expect(told.milliseconds).toBeLessThan(timeout + 1000);
      }
    });
  },
  ({ engine }) => engine === 'mpi',
);
