// What ranks are told when others are killed, frozen, late, or come to something else: by whom, in which layer and
// operation, and in time. Running statistics are then as before, and a new group can be made.

import { onEveryEngine, runRanks, valuesOf, type EngineHere } from '../support/ranks';

interface Told {
  name?: string;
  code?: string;
  message?: string;
  ranks?: number[];
  operation?: string;
  seconds?: number;
  milliseconds: number;
  ticks: number;
  isUnchanged: boolean;
  isClosed: boolean;
}

const timeout = 1000;
const culprit = 1;
const size = 3;
const survivors = [0, 2];

const operations = [
  'forward',
  'forwardAsync',
  'backward',
  'backwardAsync',
  'allReduce',
  'allReduceAsync',
  'allGather',
].concat(
  ['allGatherAsync', 'broadcast', 'broadcastAsync', 'barrier', 'barrierAsync', 'newGroup', 'newGroupAsync'],
  ['averageGradients', 'averageGradientsAsync'],
);
const isOfLayer = (operation: string): boolean => /ward/.test(operation);
/** What the wire knows of it. */
const collective = (operation: string): string =>
  isOfLayer(operation) ? 'allGather' : operation.startsWith('average') ? 'allReduce' : operation.replace('Async', '');

function expectTold(told: Told, rank: number, operation: string, codes: string[], within = timeout): void {
  const of = isOfLayer(operation) ? 'SyncBatchNorm.' : operation.startsWith('average') ? '' : 'ProcessGroup.';
  const where = `${of}${operation.replace('Async', '')}`;
  expect(told).toMatchObject({
    name: 'StateError',
    isUnchanged: true,
    isClosed: true,
    operation: collective(operation),
  });
  expect(codes).toContain(told.code);
  expect(told.message).toMatch(
    new RegExp(`^${where}: on rank ${rank} of ${size} \\((threads|gloo|mpi)\\): rank ${culprit} `),
  );
  expect(told.message).toMatch(/\d+\.\d\d s/);
  expect(told.message).toContain(collective(operation));
  if (isOfLayer(operation)) expect(told.message).toContain('"body.1.norm", 3 channels, float32');
  expect(told.ranks).toEqual([culprit]);
  expect(told.seconds! * 1000).toBeLessThanOrEqual(told.milliseconds);
  expect(told.milliseconds).toBeLessThan(within + 1000);
}

const isMpi = ({ engine }: EngineHere): boolean => engine === 'mpi';

onEveryEngine('a rank that is late', (engine) => {
  // A process that has lost many groups of MPI has no MPI to rely on any more.
  const tried = isMpi(engine) ? ['forward', 'backwardAsync', 'allReduce', 'newGroupAsync'] : operations;
  // The group begins within it too, and processes take long for that where the machine has other work.
  const soon = { threads: 400, gloo: 1000, mpi: 2000 }[engine.engine as 'threads' | 'gloo' | 'mpi'];
  let results: Awaited<ReturnType<typeof runRanks>>;
  beforeAll(async () => {
    const cases = tried.map((operation) => ({
      scenario: ['failures', 'late'] as [string, string],
      args: { operation, culprit, after: soon + 200, timeout: soon },
    }));
    results = await runRanks(engine, { size, cases, joins: false, timeout: soon, recovers: true });
  });
  it.each(tried.map((operation, i) => [operation, i] as const))('%s', (operation, i) => {
    const told = valuesOf(results, i) as Told[];
    for (const rank of survivors) {
      expectTold(told[rank]!, rank, operation, ['ERR_PEER_TIMEOUT'], soon);
      expect(told[rank]!.milliseconds).toBeGreaterThan(soon - 50);
      if (operation.endsWith('Async')) expect(told[rank]!.ticks).toBeGreaterThan(10);
    }
    // It finds the others gone, or that they do not come any more.
    const late = told[culprit]!;
    expect(late).toMatchObject({ name: 'StateError', isUnchanged: true, isClosed: true });
    expect(['ERR_PEER_LOST', 'ERR_PEER_TIMEOUT', 'ERR_GROUP_CLOSED']).toContain(late.code);
    expect(late.milliseconds).toBeLessThan(soon + 1000);
  });
});

const titles = [
  ['another layer', /rank 0 to its call 4, allGather .* in SyncBatchNorm\.forward, "body\.1\.norm".*; rank 1 to its call 4, .*"body\.4\.norm"/],
  ['another number of channels', /rank 0 to .* x 15 in .* 3 channels, .*; rank 1 to .* x 20 in .* 4 channels, /],
  ['another dtype', /rank 0 to .*float32.*; rank 1 to .*float64/],
  ['another eps', /rank 0 to .*eps 0\.00001.*; rank 1 to .*eps 0\.001/],
  ['another momentum', /rank 0 to .*momentum 0\.1; rank 1 to .*momentum 0\.2/],
  ['evaluation, and then the next call', /rank 0 to its call 4, allGather .* in SyncBatchNorm\.forward.*; rank 1 to its call 4, barrier/],
  ['backward', /rank 0 to .*SyncBatchNorm\.forward.*; rank 1 to .*SyncBatchNorm\.backward/],
  ['backward, asynchronously', /rank 0 to .*SyncBatchNorm\.forward,.*; rank 1 to .*SyncBatchNorm\.backward,/],
  ['a collective', /rank 0 to .*SyncBatchNorm\.forward.*; rank 1 to its call 4, allReduce of Float64Array x 5, sum/],
  ['another length', /rank 0 to .* x 5, sum; rank 1 to .* x 6, sum/],
  ['another type', /rank 0 to .* Float32Array x 5, sum; rank 1 to .* Float64Array x 5, sum/],
  ['another operation', /rank 0 to .* x 5, sum; rank 1 to .* x 5, max/],
  ['another root', /rank 0 to its call 4, broadcast of Float64Array x 5, of rank 0; rank 1 to .* of rank 1/],
  ['other ranks for a new group', /rank 0 to its call 4, newGroup, of \[0, 1\]; rank 1 to .* of \[0\]/],
] as const; // prettier-ignore

onEveryEngine('a rank that comes to something else', (engine) => {
  let results: Awaited<ReturnType<typeof runRanks>>;
  beforeAll(async () => {
    const cases = titles.map(([title]) => ({
      scenario: ['failures', 'mismatch'] as [string, string],
      args: { title, culprit },
    }));
    results = await runRanks(engine, { size, cases, joins: false });
  });
  it.each(titles.map(([title, words], i) => [title, words, i] as const))('%s', (title, words, i) => {
    const told = valuesOf(results, i) as Told[];
    told.forEach((each, rank) => {
      expect(each).toMatchObject({ name: 'StateError', code: 'ERR_MISMATCH', isUnchanged: true, isClosed: true });
      expect(each.message).toMatch(new RegExp(`: on rank ${rank} of 3 \\(.*\\): the ranks came to different calls: `));
      expect(each.message).toMatch(words);
      // At once, not when the time is over.
      expect(each.milliseconds).toBeLessThan(2000);
    });
  });
});

async function gone(engine: EngineHere, operation: string, how: 'die' | 'freeze', after: number): Promise<void> {
  const results = await runRanks(engine, {
    size,
    cases: [{ scenario: ['failures', 'gone'], args: { operation, how, culprit, after, goesOn: !isMpi(engine) } }],
    joins: false,
    timeout,
    lost: [culprit],
    recovers: how === 'die',
  });
  for (const rank of survivors) {
    const [told] = valuesOf([results[rank]!], 0) as [Told];
    // MPI has nothing to say about a process that has gone.
    const codes =
      how === 'die' && !isMpi(engine)
        ? ['ERR_PEER_LOST']
        : ['ERR_PEER_TIMEOUT', ...(how === 'die' ? ['ERR_PEER_LOST'] : [])];
    expectTold(told, rank, operation, codes);
    if (operation.endsWith('Async') && told.milliseconds > 200)
      expect(told.ticks).toBeGreaterThan(told.milliseconds / 50);
  }
}

const deaths = ['forward', 'backwardAsync', 'allReduce', 'newGroup'];
const isMpich = (engine: EngineHere): boolean => /MPICH/.test(engine.name);

onEveryEngine('a rank that is frozen', (engine) => {
  it.each(['forward', 'allReduceAsync'])('%s', (operation) => gone(engine, operation, 'freeze', 100));
});

onEveryEngine('a rank that is killed', (engine) => {
  if (!isMpich(engine)) {
    it.each(deaths)('%s, while the others wait', (operation) => gone(engine, operation, 'die', 200));
    it('before the others call', () => gone(engine, 'forwardAsync', 'die', 0));
  }
  if (!isMpi(engine)) return;
  it('ends the job, unless it was started to recover', async () => {
    const began = performance.now();
    const results = await runRanks(engine, {
      size,
      cases: [{ scenario: ['failures', 'gone'], args: { operation: 'forward', how: 'die', culprit, after: 200 } }],
      joins: false,
      timeout: 30_000,
      lost: [0, 1, 2],
      waits: true,
    });
    expect(results).toEqual([null, null, null]);
    expect(performance.now() - began).toBeLessThan(20_000);
  });
});

const threads = { name: 'threads', engine: 'threads' as const };

it('threads agree whether they have met, when one comes just in time or too late', async () => {
  const times = 300;
  const results = await runRanks(threads, {
    size,
    cases: [{ scenario: ['failures', 'close'], args: { culprit, times } }],
    memory: { groups: times + 1, slotBytes: 64 },
  });
  for (const tally of valuesOf(results, 0) as { met: number; failed: number; differ: number }[]) {
    expect(tally.differ).toBe(0);
    expect(tally.met + tally.failed).toBe(times);
  }
});

it('threads that have not been started are named by the first call', async () => {
  const results = await runRanks(threads, {
    size,
    cases: [{ scenario: ['failures', 'joining'], args: { options: { timeout } } }],
    joins: false,
    absent: [culprit],
  });
  for (const rank of survivors) {
    const [told] = valuesOf([results[rank]!], 0) as [Told];
    expect(told).toMatchObject({ code: 'ERR_PEER_TIMEOUT', ranks: [culprit] });
    expect(told.milliseconds).toBeLessThan(timeout + 1000);
  }
});
