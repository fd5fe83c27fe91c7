// Who a process is, as launchers say it; and what the functions that begin a group refuse.

import { StateError, SyncBatchNorm, Tensor } from '../../lib';
import {
  createThreadGroup,
  defaultGroup,
  initProcessGroup,
  threadEnded,
  type InitOptions,
} from '../../lib/distributed';
import { meetingPlace, placeIn } from '../../lib/distributed/environment';
import { rejection } from '../support/streams';

const torchrun = { RANK: '2', WORLD_SIZE: '4', LOCAL_RANK: '1' };
const openMpi = { OMPI_COMM_WORLD_RANK: '2', OMPI_COMM_WORLD_SIZE: '4', OMPI_COMM_WORLD_LOCAL_RANK: '1' };
const pmi = { PMI_RANK: '2', PMI_SIZE: '4', MPI_LOCALRANKID: '1' };
const slurm = { SLURM_PROCID: '2', SLURM_NTASKS: '4', SLURM_LOCALID: '1' };
const kubernetes = { JOB_COMPLETION_INDEX: '2', WORLD_SIZE: '4' };

describe('placeIn', () => {
  it.each([
    ['torchrun', torchrun, 1, false],
    ['Open MPI', openMpi, 1, true],
    ['PMI', pmi, 1, true],
    ['SLURM', slurm, 1, false],
    ['Kubernetes', kubernetes, null, false],
  ] as const)('reads what %s sets', (launcher, env, localRank, mpi) => {
    expect(placeIn(env)).toEqual({ launcher, rank: 2, size: 4, localRank, mpi });
    const alone = Object.fromEntries(Object.entries(env).filter(([name]) => !/LOCAL/.test(name)));
    expect(placeIn(alone)).toEqual({ launcher, rank: 2, size: 4, localRank: null, mpi });
  });

  it('goes by the first that is there', () => {
    expect(placeIn({ ...slurm, ...openMpi, ...pmi, RANK: '0', WORLD_SIZE: '9' })).toMatchObject({
      launcher: 'torchrun',
      size: 9,
    });
    expect(placeIn({ ...slurm, ...openMpi })).toMatchObject({ launcher: 'Open MPI' });
    expect(placeIn({ ...slurm, ...kubernetes })).toMatchObject({ launcher: 'SLURM' });
  });

  it('is one of one where nobody says anything, or nothing', () => {
    const alone = { launcher: null, rank: 0, size: 1, localRank: null, mpi: false };
    expect(placeIn({})).toEqual(alone);
    expect(placeIn({ RANK: '', PMI_RANK: '', WORLD_SIZE: '4' })).toEqual(alone);
    expect(placeIn({ ...slurm, RANK: '' })).toMatchObject({ launcher: 'SLURM' });
  });

  it.each([
    [{ RANK: '0' }, "(torchrun's variables) RANK is set, but WORLD_SIZE is not set"],
    [{ RANK: '0', WORLD_SIZE: '' }, 'RANK is set, but WORLD_SIZE is ""'],
    [{ RANK: 'zero', WORLD_SIZE: '2' }, 'RANK is set, but RANK is "zero"'],
    [{ RANK: '-1', WORLD_SIZE: '2' }, 'RANK is "-1"'],
    [{ RANK: '1.5', WORLD_SIZE: '2' }, 'RANK is "1.5"'],
    [{ RANK: ' 1', WORLD_SIZE: '2' }, 'RANK is " 1"'],
    [{ RANK: '0x1', WORLD_SIZE: '2' }, 'RANK is "0x1"'],
    [{ RANK: '9999999999', WORLD_SIZE: '2' }, 'RANK is "9999999999"'],
    [{ RANK: '2', WORLD_SIZE: '2' }, 'RANK is 2, which must be below WORLD_SIZE, 2'],
    [{ RANK: '0', WORLD_SIZE: '0' }, 'RANK is 0, which must be below WORLD_SIZE, 0'],
    [{ ...torchrun, LOCAL_RANK: 'x' }, 'RANK is set, but LOCAL_RANK is "x"'],
    [{ ...openMpi, OMPI_COMM_WORLD_SIZE: '1' }, "(Open MPI's variables) OMPI_COMM_WORLD_RANK is 2"],
    [{ PMI_RANK: '1' }, "(PMI's variables) PMI_RANK is set, but PMI_SIZE is not set"],
    [{ SLURM_PROCID: '1', SLURM_NTASKS: 'all' }, 'SLURM_PROCID is set, but SLURM_NTASKS is "all"'],
    [{ JOB_COMPLETION_INDEX: '1' }, 'JOB_COMPLETION_INDEX is set, but WORLD_SIZE is not set'],
  ])('refuses %j', (env, words) => {
    const place = (): unknown => placeIn(env);
    expect(place).toThrow(StateError);
    expect(place).toThrow(
      expect.objectContaining({ code: 'ERR_ENVIRONMENT', message: expect.stringContaining(words) as string }),
    );
    expect(place).toThrow(/^initProcessGroup: in the environment \(.*'s variables\) /);
  });
});

describe('meetingPlace', () => {
  it('has defaults', () => {
    expect(meetingPlace({})).toEqual({ address: '127.0.0.1', port: 29500 });
    expect(meetingPlace({ MASTER_ADDR: 'node0', MASTER_PORT: '1' })).toEqual({ address: 'node0', port: 1 });
    expect(meetingPlace({ MASTER_PORT: '65535' })).toEqual({ address: '127.0.0.1', port: 65535 });
  });
  it.each(['0', '65536', '99999', '123456', '-1', '80.5', 'http', '', ' 80', '0x50'])('refuses the port %j', (port) => {
    const place = (): unknown => meetingPlace({ MASTER_PORT: port });
    expect(place).toThrow(expect.objectContaining({ code: 'ERR_ENVIRONMENT' }));
    expect(place).toThrow(`MASTER_PORT must be a port from 1 to 65535, but is ${JSON.stringify(port)}`);
  });
});

describe('initProcessGroup', () => {
  const names = [...Object.keys({ ...torchrun, ...openMpi, ...pmi, ...slurm, ...kubernetes })].concat([
    'MASTER_ADDR',
    'MASTER_PORT',
    'SIMDNORM_TOKEN',
    'SIMDNORM_HOST',
  ]);
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

  it('tells what the environment says that is wrong', async () => {
    process.env.RANK = '1';
    expect(await rejection(initProcessGroup())).toMatchObject({ code: 'ERR_ENVIRONMENT' });
    process.env.WORLD_SIZE = '2';
    process.env.MASTER_PORT = 'x';
    expect(await rejection(initProcessGroup())).toMatchObject({ code: 'ERR_ENVIRONMENT' });
    expect(defaultGroup()).toBeNull();
  });

  const memory = createThreadGroup(2);
  it.each<[unknown, typeof TypeError | typeof RangeError, RegExp]>([
    [1, TypeError, /^initProcessGroup: options must be an object, but got 1/],
    [{ world: 2 }, TypeError, /unknown option "world"; known options are engine, rank, size/],
    [{ time_out: 2 }, TypeError, /did you mean "timeout"/],
    [
      { engine: 'nccl' },
      TypeError,
      /engine must be one of 'auto', 'gloo', 'mpi', 'threads', but got the string "nccl"/,
    ],
    [{ engine: 1 }, TypeError, /engine must be one of/],
    [{ timeout: 0 }, RangeError, /timeout must be a number of milliseconds above 0, but got 0/],
    [{ timeout: '1' }, TypeError, /timeout must be a number, but got the string "1"/],
    [{ timeout: 2 ** 31 }, RangeError, /timeout must be a number of milliseconds/],
    [{ engine: 'threads' }, TypeError, /threads need memory, from createThreadGroup/],
    [
      { engine: 'threads', memory: {}, rank: 0 },
      TypeError,
      /memory must come from createThreadGroup, but got an object/,
    ],
    [{ memory: new SharedArrayBuffer(64), rank: 0 }, TypeError, /memory must come from createThreadGroup/],
    [{ memory }, TypeError, /rank must be an integer, but got undefined/],
    [{ memory, rank: 2 }, RangeError, /rank must be below 2, but got 2/],
    [{ memory, rank: -1 }, RangeError, /rank must be an integer of at least 0, but got -1/],
    [{ rank: 1 }, RangeError, /rank must be below size, 1, but got 1/],
    [{ rank: 0.5, size: 2 }, RangeError, /rank must be an integer/],
    [{ size: 0 }, RangeError, /size must be an integer of at least 1, but got 0/],
    [{ rank: 0, size: 2, address: 1 }, TypeError, /address must be a string, but got 1/],
    [{ rank: 0, size: 2, token: 1 }, TypeError, /token must be a string, but got 1/],
    [{ rank: 0, size: 2, port: 'x' }, TypeError, /port must be an integer/],
    [{ rank: 0, size: 2, port: 0 }, RangeError, /port must be an integer of at least 1, but got 0/],
    [{ rank: 0, size: 2, port: 65536 }, RangeError, /port must be at most 65535, but got 65536/],
    [{ rank: 0, size: 2, host: 1 }, TypeError, /host must be a string, but got 1/],
  ])('refuses %p', async (options, Kind, words) => {
    const error = await rejection(initProcessGroup(options as InitOptions));
    expect(error).toBeInstanceOf(Kind);
    expect(error.message).toMatch(words);
    expect(defaultGroup()).toBeNull();
  });

  it('says what to install where MPI is not', async () => {
    const error = await rejection(initProcessGroup({ engine: 'mpi', library: 'libno-mpi-of-this-name.so.9' }));
    expect(error).toMatchObject({ name: 'StateError', code: 'ERR_ENGINE_NOT_FOUND' });
    expect(error.message).toMatch(/libno-mpi-of-this-name\.so\.9.*apt-get install openmpi-bin/);
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
