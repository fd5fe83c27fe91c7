// A group of one, and the memory of threads.

import { SyncBatchNorm, Tensor } from '../../lib';
import { createThreadGroup, defaultGroup, initProcessGroup, threadEnded } from '../../lib/distributed';
import { rejection } from '../support/streams';

describe('initProcessGroup', () => {
  const names = ['RANK', 'OMPI_COMM_WORLD_RANK', 'PMI_RANK', 'SLURM_PROCID', 'JOB_COMPLETION_INDEX', 'WORLD_SIZE'];
  const before = { ...process.env };
  beforeEach(() => {
    for (const name of names) delete process.env[name];
  });
  afterAll(() => {
    process.env = before;
  });

  it('makes a group of one where nobody says that there are more', async () => {
    const group = await initProcessGroup();
    expect(defaultGroup()).toBe(group);
    expect([group.rank, group.size, group.engine, group.timeout, group.isClosed]).toEqual([
      0,
      1,
      'single',
      60_000,
      false,
    ]);
    expect(String(group)).toBe('ProcessGroup(rank 0 of 1, single)');
    const x = Float64Array.of(1, 2);
    expect(group.allReduce(x, { op: 'avg' })).toBe(x);
    expect(await group.allReduceAsync(BigInt64Array.of(3n), { op: 'prod' })).toEqual(BigInt64Array.of(3n));
    expect(group.allGather(x)).toEqual([x]);
    expect(await group.allGatherAsync(new Int8Array(0))).toEqual([new Int8Array(0)]);
    expect(group.broadcast(x)).toEqual(Float64Array.of(1, 2));
    group.barrier();
    await group.barrierAsync();
    const inner = group.newGroup([0])!;
    expect([inner.rank, inner.size]).toEqual([0, 1]);
    inner.close();
    expect(() => group.newGroup([1])).toThrow(/ranks\[0\] must be a rank below 1/);

    const bn = new SyncBatchNorm(2);
    expect(() => bn.forward(new Tensor(new Float32Array(2), [1, 2]))).toThrow(/Expected more than 1 value per channel/);

    expect((await rejection(initProcessGroup())).code).toBe('ERR_BUSY');
    group.close();
    expect(defaultGroup()).toBeNull();
    expect(() => group.barrier()).toThrow(expect.objectContaining({ code: 'ERR_GROUP_CLOSED' }));
    const again = await initProcessGroup({ timeout: 5, size: 1 });
    expect(again.timeout).toBe(5);
    again.close();
  });

  it('does one thing at a time', async () => {
    const memory = createThreadGroup(1);
    const [first, second] = await Promise.allSettled([initProcessGroup({ memory, rank: 0 }), initProcessGroup()]);
    expect(first.status).toBe('fulfilled');
    expect((second as PromiseRejectedResult).reason).toMatchObject({ code: 'ERR_BUSY' });
    const group = (first as PromiseFulfilledResult<Awaited<ReturnType<typeof initProcessGroup>>>).value;
    expect(group.engine).toBe('threads');
    expect(group.allReduce(Int32Array.of(5))).toEqual(Int32Array.of(5));
    group.close();
    const used = await rejection(initProcessGroup({ memory, rank: 0 }));
    expect(used).toMatchObject({ code: 'ERR_RENDEZVOUS' });
    expect(used.message).toBe('initProcessGroup: rank 0 of this memory is or was in use; make a new one');
  });
});

describe('createThreadGroup and threadEnded', () => {
  it.each<[unknown[], typeof TypeError | typeof RangeError, RegExp]>([
    [['2'], TypeError, /^createThreadGroup: size must be an integer, but got the string "2"/],
    [[0], RangeError, /size must be an integer of at least 1, but got 0/],
    [[2, { group: 1 }], TypeError, /unknown option "group"/],
    [[2, { groups: 0 }], RangeError, /groups must be an integer of at least 1/],
    [[2, { slotBytes: 7 }], RangeError, /slotBytes must be an integer of at least 8, but got 7/],
  ])('refuses %p', (all, Kind, words) => {
    const make = (): unknown => (createThreadGroup as (...all: unknown[]) => unknown)(...all);
    expect(make).toThrow(Kind);
    expect(make).toThrow(words);
  });

  it('refuses other memory, and ranks that are not there', () => {
    expect(() => threadEnded(new SharedArrayBuffer(99), 0)).toThrow(
      /^threadEnded: memory must come from createThreadGroup/,
    );
    expect(() => threadEnded(createThreadGroup(2), 2)).toThrow(/^threadEnded: rank must be below 2, but got 2/);
  });

  it('has room for as many groups as it was asked for', async () => {
    const group = await initProcessGroup({ memory: createThreadGroup(1, { groups: 3, slotBytes: 8 }), rank: 0 });
    group.newGroup([0]);
    const second = group.newGroup([0])!;
    expect(second.allReduce(new Float64Array(50).fill(2))).toEqual(new Float64Array(50).fill(2));
    const third = (): unknown => group.newGroup([0]);
    expect(third).toThrow(RangeError);
    expect(third).toThrow(/^ProcessGroup\.newGroup: the memory has room for 3 groups/);
    group.close();
  });
});
