// One rank of a job, or with `threads` the process that all of them are Workers of. Its arguments: the job's folder, and
// the rank where the launcher does not say it in the environment. The folder has `job`; each rank leaves `pid-RANK` there
// when it begins and `results-RANK` when it has done. test/support/ranks.ts starts all this.

const assert = require('node:assert/strict');
const { existsSync, readFileSync, renameSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { deserialize, serialize } = require('node:v8');
const { isMainThread, parentPort, Worker, workerData } = require('node:worker_threads');

const [folder] = isMainThread ? process.argv.slice(2) : [workerData.folder];
const job = deserialize(readFileSync(join(folder, 'job')));

if (job.engine === 'threads' && isMainThread) host();
else rank();

/** Starts the threads, hands out memory to them, and tells the others when one has ended. */
function host() {
  const { createThreadGroup, threadEnded } = require('../../dist/distributed');
  const memories = new Map();
  for (let rank = 0; rank < job.size; rank++) {
    if (job.absent?.includes(rank)) continue;
    const worker = new Worker(__filename, { workerData: { folder, rank } });
    const joined = [];
    worker.on('message', ({ key, size, as }) => {
      if (!memories.has(key)) memories.set(key, createThreadGroup(size, job.memory));
      const memory = memories.get(key);
      joined.push({ memory, as });
      worker.postMessage(memory);
    });
    worker.on('error', (error) => console.error(`rank ${rank}: ${error.stack}`));
    worker.on('exit', () => {
      for (const { memory, as } of joined) threadEnded(memory, as);
    });
  }
}

async function rank() {
  const simdnorm = require('../../dist');
  const distributed = require('../../dist/distributed');
  const { rank, size } = isMainThread ? placeOf(process.env) : { rank: workerData.rank, size: job.size };
  writeFileSync(join(folder, `pid-${rank}`), String(process.pid));
  if (job.numThreads) simdnorm.setNumThreads(job.numThreads);

  /** Joins the others: all of the job, or as rank `rank` of `size`. Each `key` is another group of threads. */
  const joinGroup = async ({ key = 'all', ...options } = {}) => {
    const given = { timeout: job.timeout, ...options };
    // Its launcher says who is who, each time.
    if (job.engine === 'mpi') return distributed.initProcessGroup({ engine: 'mpi', timeout: given.timeout });
    if (job.engine === 'gloo') return distributed.initProcessGroup({ engine: 'gloo', ...given });
    const { size: wanted = size, rank: as = rank, ...rest } = given;
    parentPort.postMessage({ key, size: wanted, as });
    const memory = await new Promise((resolve) => parentPort.once('message', resolve));
    return distributed.initProcessGroup({ engine: 'threads', memory, rank: as, ...rest });
  };

  const context = {
    assert,
    engine: job.engine,
    simdnorm,
    distributed,
    rank,
    size,
    join: joinGroup,
    /** Ends this rank without a word to anybody. */
    die: () => (isMainThread ? process.kill(process.pid, 'SIGKILL') : process.exit()),
    /** Stops it, so that it keeps its connections but does nothing any more. */
    freeze: () =>
      isMainThread
        ? process.kill(process.pid, 'SIGSTOP')
        : Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 6000),
  };
  const results = [];
  for (const { scenario, args, byRank } of job.cases) {
    const [file, name] = scenario;
    const run = require(`./scenarios/${file}.cjs`)[name];
    const began = performance.now();
    try {
      if (job.joins !== false) context.group ??= await joinGroup();
      results.push({ value: await run({ ...context, args: byRank ? byRank[rank] : args }) });
    } catch (error) {
      const { name, message, code, ranks, operation, seconds, stack } = error;
      const milliseconds = performance.now() - began;
      results.push({ error: { name, message, code, ranks, operation, seconds, milliseconds, stack } });
    }
  }
  const file = join(folder, `results-${rank}`);
  writeFileSync(`${file}-`, serialize(results));
  renameSync(`${file}-`, file);
  context.group?.close();
  if (job.engine === 'mpi') await othersAreDone(size);
  // What a scenario has left waiting is not waited for.
  process.exit(0);
}

/** A launcher may end all ranks as soon as one ends that has lost a group. */
async function othersAreDone(size) {
  const awaited = Array.from({ length: size }, (_, rank) => rank).filter((rank) => !job.lost?.includes(rank));
  const until = performance.now() + 5000;
  while (!awaited.every((rank) => existsSync(join(folder, `results-${rank}`))) && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function placeOf({ RANK, WORLD_SIZE, OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE, PMI_RANK, PMI_SIZE }) {
  const rank = Number(RANK ?? OMPI_COMM_WORLD_RANK ?? PMI_RANK);
  return { rank, size: Number(WORLD_SIZE ?? OMPI_COMM_WORLD_SIZE ?? PMI_SIZE) };
}
