// What initProcessGroup takes and refuses, before any rank is met.

import { distributed } from '../support/ranks';

const { createThreadGroup, initProcessGroup } = distributed;
type Options = Parameters<typeof initProcessGroup>[0];

const launchers =
  /^(RANK|WORLD_SIZE|LOCAL_RANK|MASTER_\w+|OMPI_\w+|PMI_\w+|MPI_\w+|SLURM_\w+|JOB_\w+|SIMDNORM_(MPI_LIB|TOKEN|HOST))$/;
const before = process.env;
beforeEach(() => {
  process.env = Object.fromEntries(Object.entries(before).filter(([name]) => !launchers.test(name)));
});
afterEach(() => {
  process.env = before;
});

async function refusal(options: unknown): Promise<Error & { code?: string }> {
  try {
    (await initProcessGroup(options as Options)).close();
  } catch (error) {
    return error as Error;
  }
  throw new Error('it was taken');
}

const memory = createThreadGroup(1);

it('makes a group of one where nobody says that there are more', async () => {
  for (const options of [{}, { token: 'x', port: 1234, library: 'libmpi.so' }, { rank: 0, size: 1 }]) {
    const group = await initProcessGroup(options);
    expect([group.rank, group.size, group.engine]).toEqual([0, 1, 'single']);
    group.close();
  }
});

it('does not read what options say', async () => {
  Object.assign(process.env, { RANK: '0', MASTER_PORT: 'none' });
  (await initProcessGroup({ rank: 0, size: 1 })).close();
  (await initProcessGroup({ size: 1 })).close();
  expect(await refusal({})).toMatchObject({ code: 'ERR_ENVIRONMENT' });
  expect(await refusal({ rank: 0 })).toMatchObject({ code: 'ERR_ENVIRONMENT' });
  expect(await refusal({ rank: 0, size: 2 })).toMatchObject({ code: 'ERR_ENVIRONMENT' });
  const near = { rank: 1, size: 2, port: 1, timeout: 100 };
  expect((await refusal(near)).code).toMatch(/^ERR_(ENGINE_NOT_FOUND|PEER_TIMEOUT|RENDEZVOUS)$/);
});

it('takes threads by their memory', async () => {
  for (const options of [
    { memory, rank: 0 },
    { engine: 'threads', memory: createThreadGroup(1), rank: 0 },
  ] as const) {
    const group = await initProcessGroup(options);
    expect([group.rank, group.size, group.engine]).toEqual([0, 1, 'threads']);
    group.close();
  }
});

it.each<[string, unknown, string, RegExp]>([
  [
    'an unknown engine',
    { engine: 'nccl' },
    'RangeError',
    /engine must be one of 'auto', 'gloo', 'mpi', 'threads', but/,
  ],
  ['an engine that is no string', { engine: 1 }, 'TypeError', /engine must be one of .* but got 1$/],
  ['rank and size with mpi', { engine: 'mpi', rank: 0, size: 1 }, 'RangeError', /mpi does not take rank, size; /],
  ['memory with mpi', { engine: 'mpi', memory }, 'RangeError', /mpi does not take memory; /],
  ['memory with gloo', { engine: 'gloo', memory }, 'RangeError', /gloo does not take memory; /],
  ['a library with gloo', { engine: 'gloo', library: 'x' }, 'RangeError', /gloo does not take library; /],
  [
    'what gloo takes with threads',
    { memory, rank: 0, size: 1, address: 'a', port: 1, token: 't', host: 'h' },
    'RangeError',
    /threads does not take size, address, port, token, host; /,
  ],
  [
    'threads without memory',
    { engine: 'threads', rank: 0 },
    'TypeError',
    /threads need memory, from createThreadGroup/,
  ],
  ['threads without a rank', { memory }, 'TypeError', /rank must be an integer, but got undefined/],
  ['a rank as large as size', { rank: 2, size: 2 }, 'RangeError', /rank must be below size, 2, but got 2/],
  ['a rank below 0', { rank: -1, size: 2 }, 'RangeError', /rank must be an integer of at least 0/],
  ['no ranks', { rank: 0, size: 0 }, 'RangeError', /size must be an integer of at least 1/],
  ['port 0', { rank: 0, size: 2, port: 0 }, 'RangeError', /port must be an integer of at least 1/],
  ['port 65536', { rank: 0, size: 2, port: 65536 }, 'RangeError', /port must be at most 65535, but got 65536/],
  ['a port that is no number', { rank: 0, size: 2, port: '80' }, 'TypeError', /port must be an integer/],
  [
    'an address that is no string',
    { rank: 0, size: 2, address: 1 },
    'TypeError',
    /address must be a string, but got 1/,
  ],
  ['a host that is no string', { rank: 0, size: 2, host: null }, 'TypeError', /host must be a string, but got null/],
  ['a token that is no string', { rank: 0, size: 2, token: 1 }, 'TypeError', /token must be a string, but got 1/],
  ['a library that is no string', { engine: 'mpi', library: 1 }, 'TypeError', /library must be a string, but got 1/],
  ['an unknown option', { ranks: 1 }, 'TypeError', /unknown option "ranks"/],
  ['a timeout of 0', { timeout: 0 }, 'RangeError', /timeout must be/],
])('refuses %s', async (_, options, name, words) => {
  const error = await refusal(options);
  expect(error).toMatchObject({ name, message: expect.stringMatching(/^initProcessGroup: /) });
  expect(error.message).toMatch(words);
});

it('refuses a second group', async () => {
  const group = await initProcessGroup();
  expect(await refusal({})).toMatchObject({ code: 'ERR_BUSY' });
  group.close();
  (await initProcessGroup()).close();
});

it('says what to install where there is no MPI', async () => {
  process.env.SIMDNORM_MPI_LIB = 'libthere-is-none.so';
  for (const options of [{ engine: 'mpi' }, { engine: 'mpi', library: '/nowhere/libmpi.so' }]) {
    const { code, message } = await refusal(options);
    expect(code).toBe('ERR_ENGINE_NOT_FOUND');
    expect(message).toMatch(
      /^initProcessGroup: no MPI library\. Looked for .*(libthere-is-none\.so|\/nowhere\/libmpi\.so)/,
    );
    expect(message).toContain('apt-get install openmpi-bin');
  }
  Object.assign(process.env, { PMI_RANK: '0', PMI_SIZE: '2', MPI_LOCALRANKID: '0' });
  expect(await refusal({})).toMatchObject({ code: 'ERR_ENGINE_NOT_FOUND' });
});
