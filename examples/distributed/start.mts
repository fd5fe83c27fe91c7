// Starts the ranks of one program on this machine. On several, docker-compose, SLURM, Kubernetes or mpirun do that:
// docs/distributed.md.

import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { Worker } from 'node:worker_threads';
import { createThreadGroup, threadEnded, type InitOptions } from 'simdnorm/distributed';

/** Runs `file` in `size` threads, whose `workerData` are options of initProcessGroup. */
export async function startThreads(file: URL, size: number): Promise<void> {
  const memory = createThreadGroup(size);
  const exits = Array.from({ length: size }, async (_, rank) => {
    const workerData: InitOptions = { engine: 'threads', memory, rank };
    const worker = new Worker(file, { workerData });
    worker.on('error', (error) => console.error(`rank ${rank}:`, error));
    const code = await exitOf(worker);
    // So that nobody waits for one that has failed.
    threadEnded(memory, rank);
    return code;
  });
  report(await Promise.all(exits));
}

/** Runs `file` in `size` processes, which find each other by the variables that torchrun sets. */
export async function startProcesses(file: URL, size: number): Promise<void> {
  const port = await freePort();
  const exits = Array.from({ length: size }, async (_, rank) => {
    const ranks = { RANK: `${rank}`, WORLD_SIZE: `${size}`, LOCAL_RANK: `${rank}` };
    const meeting = { MASTER_ADDR: '127.0.0.1', MASTER_PORT: `${port}` };
    return exitOf(fork(file, { env: { ...process.env, ...ranks, ...meeting } }));
  });
  report(await Promise.all(exits));
}

/** Its exit code; null where a signal ended it. */
function exitOf(rank: Worker | ChildProcess): Promise<number | null> {
  return new Promise((resolve) => (rank as ChildProcess).once('exit', resolve));
}

function report(codes: (number | null)[]): void {
  const failed = codes.flatMap((code, rank) => (code === 0 ? [] : [rank]));
  if (failed.length > 0) throw new Error(`failed: rank ${failed.join(', ')}`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
