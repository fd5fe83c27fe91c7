// Starts the ranks of a job on an engine, each under a hard limit, and brings their results. They run what is built.

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deserialize, serialize } from 'node:v8';

const root = join(__dirname, '..', '..');
const program = join(root, 'test', 'distributed', 'rank.cjs');

export const distributed = require('../../dist/distributed') as typeof import('../../lib/distributed');

/** A way to run ranks, and why it cannot be gone here, if it cannot. */
export interface EngineHere {
  /** For titles. */
  name: string;
  engine: 'threads' | 'gloo' | 'mpi';
  /** Of mpi: what starts `-n SIZE node ...`. */
  launcher?: string[];
  /** What keeps the other ranks of mpi alive when one is killed, or ends without a word to MPI. */
  recovery?: string[];
  absent?: string;
}

const openMpi = ['--allow-run-as-root', '--oversubscribe', '--bind-to', 'none'];
const recovery = ['--enable-recovery', '--continuous'];

function glooHere(): EngineHere {
  const script = `require('./dist/distributed').initProcessGroup({ engine: 'gloo', rank: 0, size: 1, timeout: 5000 })
    .then((group) => group.close(), (error) => { console.log(error.message); process.exit(error.code === 'ERR_ENGINE_NOT_FOUND' ? 3 : 1); });`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', script], { cwd: root, encoding: 'utf8' });
  const here: EngineHere = { name: 'gloo', engine: 'gloo' };
  if (status === 3) return { ...here, absent: stdout.trim() };
  if (status === 0) return here;
  throw new Error(`gloo is built, but does not work: ${stdout} ${stderr}`);
}

function mpiHere(name: string, says: RegExp, programs: string[], more: string[], recovers: string[]): EngineHere {
  const launcher = programs.find((file) => {
    const { stdout } = spawnSync(file, ['--version'], { encoding: 'utf8', timeout: 10_000 });
    return says.test(stdout ?? '');
  });
  const here: EngineHere = { name: `mpi (${name})`, engine: 'mpi' };
  return launcher
    ? { ...here, launcher: [launcher, ...more], recovery: recovers }
    : { ...here, absent: `no mpirun of ${name}` };
}

let engines: EngineHere[] | undefined;
export function enginesHere(): EngineHere[] {
  engines ??= [
    { name: 'threads', engine: 'threads' },
    glooHere(),
    mpiHere('Open MPI', /Open MPI/, ['mpirun.openmpi', 'mpirun'], openMpi, recovery),
    mpiHere('MPICH', /HYDRA/, ['mpirun.mpich', 'mpiexec.hydra', 'mpirun'], [], []),
  ];
  return engines;
}

/** `describe` for each engine; one that is not here is seen to be skipped, with the reason. */
export function onEveryEngine(name: string, body: (engine: EngineHere) => void, only = (_: EngineHere) => true): void {
  for (const engine of enginesHere().filter(only)) {
    if (engine.absent === undefined) describe(`${name} [${engine.name}]`, () => body(engine));
    else describe.skip(`${name} [${engine.name}: ${engine.absent}]`, () => body(engine));
  }
}

export interface Failure {
  name: string;
  message: string;
  code?: string;
  ranks?: number[];
  operation?: string;
  seconds?: number;
  /** Since the scenario began, or joining before it. */
  milliseconds: number;
  stack?: string;
}
export interface Result {
  value?: unknown;
  error?: Failure;
}
export interface Case {
  /** [file of test/distributed/scenarios, function]. */
  scenario: [string, string];
  /** For all ranks, or */
  args?: unknown;
  /** for each its own. */
  byRank?: readonly unknown[];
}
export interface Job {
  size: number;
  cases: readonly Case[];
  /** Of the group, in milliseconds; default 20,000. */
  timeout?: number;
  env?: Record<string, string>;
  numThreads?: number;
  /** Of threads: options of createThreadGroup. */
  memory?: { groups?: number; slotBytes?: number };
  /** Ranks that are not started. */
  absent?: readonly number[];
  /** Ranks that will not end by themselves, or leave no results: they are ended when the others have. */
  lost?: readonly number[];
  /** Waits until the processes have ended, not for results. */
  waits?: boolean;
  /** false: the scenarios join by themselves. */
  joins?: boolean;
  /** Of mpi: whether the others go on when a rank ends badly. */
  recovers?: boolean;
  /** What comes before `node` for a rank of gloo: another network, say. */
  wrap?: (rank: number) => string[];
  /** Milliseconds until every process is killed; default 60,000. */
  limit?: number;
  /** Of gloo: where rank 0 listens. */
  port?: number;
  /** More variables of one rank. */
  envOf?: (rank: number) => Record<string, string>;
  /** What happens meanwhile. */
  started?: (pidOf: (rank: number) => number | undefined) => void | Promise<void>;
}

/** Results by rank, then by case; null of a rank that left none. */
export async function runRanks(
  { engine, launcher, recovery = [] }: EngineHere,
  job: Job,
): Promise<(Result[] | null)[]> {
  const { size, absent = [], lost = [], env = {}, limit = 60_000 } = job;
  const { started, wrap, envOf, port, waits = false, ...said } = job;
  const folder = mkdtempSync(join(tmpdir(), 'ranks-'));
  writeFileSync(join(folder, 'job'), serialize({ timeout: 20_000, ...said, engine }));
  const ranks = Array.from({ length: size }, (_, rank) => rank).filter((rank) => !absent.includes(rank));
  const children: Child[] = [];
  const begin = (command: string[], more: Record<string, string> = {}): void => {
    const all = { ...process.env, SIMDNORM_NUM_THREADS: '2', ...env, ...more };
    children.push(new Child([...command, process.execPath, program, folder], all, limit));
  };
  const pid = (rank: number): number | undefined => {
    const file = join(folder, `pid-${rank}`);
    return existsSync(file) ? Number(readFileSync(file, 'utf8')) || undefined : undefined;
  };
  try {
    if (engine === 'threads') begin([]);
    else if (engine === 'mpi') begin([...launcher!, ...(job.recovers ? recovery : []), '-n', String(size)]);
    else {
      const at = String(port ?? (await freePort()));
      for (const rank of ranks) {
        const place = { RANK: String(rank), WORLD_SIZE: String(size), MASTER_ADDR: '127.0.0.1', MASTER_PORT: at };
        begin(wrap?.(rank) ?? [], { ...place, ...env, ...envOf?.(rank) });
      }
    }
    await started?.(pid);
    const results = (rank: number): string => join(folder, `results-${rank}`);
    const awaited = ranks.filter((rank) => !lost.includes(rank));
    const isDone = (): boolean => !waits && awaited.every((rank) => existsSync(results(rank)));
    const hasEnded = (): boolean => children.every((child) => child.ended);
    const begun = performance.now();
    while (!isDone() && !hasEnded() && performance.now() - begun < limit) await sleep(10);
    // The others end by themselves, but for those that cannot.
    const soon = performance.now() + 5000;
    while (lost.length === 0 && !hasEnded() && performance.now() < soon) await sleep(10);
    const said = children.map((child) => child.words).join('');
    if (!isDone() && lost.length === 0) throw new Error(`a rank left no results: ${said}`);
    if (lost.length === 0 && !hasEnded()) throw new Error(`a rank does not end: ${said}`);
    return Array.from({ length: size }, (_, rank) =>
      existsSync(results(rank)) ? (deserialize(readFileSync(results(rank))) as Result[]) : null,
    );
  } finally {
    for (const child of children) child.kill();
    for (const rank of ranks) {
      const its = pid(rank);
      if (engine === 'mpi' && its) end(its, folder);
    }
    await Promise.all(children.map((child) => child.exit));
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One value of each rank; throws where a rank has none. */
export function valuesOf(results: readonly (Result[] | null)[], index: number): unknown[] {
  return results.map((all, rank) => {
    const result = all?.[index];
    if (!result) throw new Error(`rank ${rank} left no result`);
    if (result.error) throw new Error(`rank ${rank}: ${result.error.stack ?? result.error.message}`);
    return result.value;
  });
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Kills what a launcher has started, if that is still there: its number may be somebody else's by now. */
function end(pid: number, folder: string): void {
  const { stdout } = spawnSync('ps', ['-o', 'args=', '-p', String(pid)], { encoding: 'utf8' });
  if (!stdout.includes(folder)) return;
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}

/** A process that is killed when its time is over. */
class Child {
  words = '';
  ended = false;
  readonly exit: Promise<void>;
  readonly #process: ChildProcess;

  constructor([file, ...args]: string[], env: NodeJS.ProcessEnv, limit: number) {
    const child = spawn(file!, args, { env, cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (words: string) => (this.words += words));
    }
    const timer = setTimeout(() => {
      this.words += `\nended after ${limit} ms`;
      this.kill();
    }, limit);
    this.exit = new Promise((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.ended = true;
        resolve();
      };
      child.on('exit', finish);
      child.on('error', (error) => {
        this.words += error.message;
        finish();
      });
    });
  }

  kill(): void {
    if (!this.ended) this.#process.kill('SIGKILL');
  }
}

/** One that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
