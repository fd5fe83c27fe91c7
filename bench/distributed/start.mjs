// Groups of ranks on this machine, each for one measurement.

import { spawn, spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { createThreadGroup, threadEnded } from 'simdnorm/distributed';

const program = new URL('rank.mjs', import.meta.url);
// Of a group: what is longer hangs.
const LIMIT_MS = 300_000;

/** What rank 0 said, once all have ended. */
export async function startRanks(engine, size, plan) {
  const start = { threads: startThreads, gloo: startGloo, mpi: startMpi }[engine];
  if (!start) throw new RangeError(`--engines: no ${engine}; there are threads, gloo, mpi`);
  const { missing, outputs } = await start(size, plan);
  if (missing) return { missing };
  const line = outputs.flatMap((output) => output.split('\n')).find((each) => each.startsWith('{'));
  if (!line) throw new Error(`${engine}, ${size} ranks: no result`);
  return JSON.parse(line);
}

async function startThreads(size, plan) {
  const memory = createThreadGroup(size);
  const ranks = Array.from({ length: size }, async (_, rank) => {
    const init = { engine: 'threads', memory, rank };
    const worker = new Worker(program, { workerData: { init, plan }, stdout: true });
    setTimeout(() => worker.terminate(), LIMIT_MS).unref();
    worker.on('error', (error) => console.error(error));
    worker.on('exit', () => threadEnded(memory, rank));
    return text(worker.stdout);
  });
  return { outputs: await Promise.all(ranks) };
}

async function startGloo(size, plan) {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  const ranks = Array.from({ length: size }, (_, rank) => {
    const init = { engine: 'gloo', address: '127.0.0.1', port, rank, size };
    return run(process.execPath, [fileURLToPath(program), JSON.stringify({ init, plan })]);
  });
  return { outputs: await Promise.all(ranks) };
}

async function startMpi(size, plan) {
  const { stdout, error } = spawnSync('mpirun', ['--version'], { encoding: 'utf8' });
  if (error) return { missing: 'there is no mpirun' };
  // More ranks than cores, in containers too, are what Open MPI has to be asked for.
  const open = ['--oversubscribe', '--bind-to', 'none', ...(process.getuid() === 0 ? ['--allow-run-as-root'] : [])];
  const flags = stdout.includes('Open MPI') ? open : [];
  const words = [fileURLToPath(program), JSON.stringify({ init: { engine: 'mpi' }, plan })];
  return { outputs: [await run('mpirun', [...flags, '-n', `${size}`, process.execPath, ...words])] };
}

/** Its standard output. */
function run(command, words) {
  const stdio = ['ignore', 'pipe', 'inherit'];
  return text(spawn(command, words, { stdio, timeout: LIMIT_MS, killSignal: 'SIGKILL' }).stdout);
}
