// From the environment and options to a process group.

import { checkOptions, checkSize, describe, StateError } from '../internal/errors';
import type { Engine } from './engine';
import { meetingAddress, meetingPort, placeIn } from './environment';
import { openGloo } from './gloo';
import { openMpi } from './mpi';
import { checkTimeout, defaultGroup, ProcessGroup, setDefaultGroup } from './process-group';
import { SingleEngine } from './single';
import { ThreadEngine } from './threads';

export interface InitOptions {
  /**
   * 'gloo': PyTorch's engine for CPUs, between processes and machines. 'mpi': what `mpirun` has started. 'threads': Workers
   * of this process. 'auto' (default): threads where there is `memory`, mpi under a launcher of MPI, gloo under torchrun,
   * SLURM or Kubernetes, and a group of one where nobody says that there are more.
   */
  engine?: 'auto' | 'gloo' | 'mpi' | 'threads' | undefined;
  /** Default: what the launcher says in the environment. Not of mpi, which knows it by itself. */
  rank?: number | undefined;
  size?: number | undefined;
  /** Milliseconds that this call, and then every collective, waits unless it is told otherwise; default 60,000. */
  timeout?: number | undefined;
  /** Of gloo: where rank 0 listens for the others; default MASTER_ADDR and MASTER_PORT, or 127.0.0.1 and 29500. */
  address?: string | undefined;
  port?: number | undefined;
  /**
   * Of gloo: the secret by which the ranks know each other, the same on all; default SIMDNORM_TOKEN. Needed unless `address`
   * is of this machine alone.
   */
  token?: string | undefined;
  /** Of gloo: this machine's address for the others; default SIMDNORM_HOST, or the one it reaches rank 0 from. */
  host?: string | undefined;
  /** Of threads: from createThreadGroup, the same for all. */
  memory?: SharedArrayBuffer | undefined;
  /** Of mpi: the library to load; default SIMDNORM_MPI_LIB, or Open MPI's or MPICH's where the system has it. */
  library?: string | undefined;
}

const where = 'initProcessGroup';
const names = ['engine', 'rank', 'size', 'timeout', 'address', 'port', 'token', 'host', 'memory', 'library'] as const;
const engines = ['auto', 'gloo', 'mpi', 'threads'] as const;
type Asked = (typeof engines)[number];
const taken: Record<Exclude<Asked, 'auto'>, readonly string[]> = {
  gloo: ['engine', 'timeout', 'rank', 'size', 'address', 'port', 'token', 'host'],
  mpi: ['engine', 'timeout', 'library'],
  threads: ['engine', 'timeout', 'memory', 'rank'],
};

let isUnderWay = false;

/**
 * Joins the other ranks, and makes the group that layers use by default, until it is closed. All ranks call it.
 *
 * Rank and size come from the variables of torchrun (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), Open MPI, PMI
 * (MPICH), SLURM's srun or a Kubernetes indexed job (JOB_COMPLETION_INDEX, with WORLD_SIZE), whichever is there first. Under
 * SLURM and Kubernetes set MASTER_ADDR to where rank 0 runs.
 *
 * *Throws* (rejects with) StateError: `code` 'ERR_ENGINE_NOT_FOUND' where the engine is not installed, with what to install;
 * 'ERR_ENVIRONMENT' for variables that say nothing sensible; 'ERR_RENDEZVOUS', 'ERR_PEER_TIMEOUT', 'ERR_PEER_LOST' where
 * ranks do not come, which it names as far as it can; 'ERR_TOKEN' where a secret is missing or wrong; 'ERR_ENGINE' for what the
 * engine has to say; 'ERR_BUSY' while there is a group. TypeError and RangeError for wrong options.
 *
 * *Matches* torch.distributed.init_process_group. Differences: it returns the group; nobody needs to say an engine; without a
 * launcher it makes a group of one, so that a program runs alone as well; the timeout is 1 minute, not 30.
 *
 * @example
 * const group = await initProcessGroup();
 * console.log(group.rank, group.size);
 */
export async function initProcessGroup(options: InitOptions = {}): Promise<ProcessGroup> {
  checkOptions(where, options, names);
  const { engine = 'auto', timeout = 60_000 } = options;
  if (!engines.includes(engine)) {
    throw new (typeof engine === 'string' ? RangeError : TypeError)(
      `${where}: engine must be one of '${engines.join("', '")}', but got ${describe(engine)}`,
    );
  }
  checkTimeout(where, timeout);
  for (const name of ['address', 'token', 'host', 'library'] as const) {
    const { [name]: value } = options;
    if (value === undefined || typeof value === 'string') continue;
    throw new TypeError(`${where}: ${name} must be a string, but got ${describe(value)}`);
  }
  if (isUnderWay || (defaultGroup() && !defaultGroup()!.isClosed)) {
    throw new StateError('ERR_BUSY', `${where}: there is a group already; close it first`);
  }
  isUnderWay = true;
  try {
    defaultGroup()?.close();
    const made = await open(engine, timeout, options);
    const group: ProcessGroup = new ProcessGroup(made, timeout, () => {
      if (defaultGroup() === group) setDefaultGroup(null);
    });
    setDefaultGroup(group);
    return group;
  } finally {
    isUnderWay = false;
  }
}

async function open(asked: Asked, timeout: number, options: InitOptions): Promise<Engine> {
  const { memory, library, rank: ownRank, size: ownSize } = options;
  const engine = asked === 'auto' && memory !== undefined ? 'threads' : asked;
  if (engine !== 'auto') refuseOthers(engine, options);
  if (engine === 'threads') {
    if (memory === undefined) throw new TypeError(`${where}: threads need memory, from createThreadGroup`);
    return new ThreadEngine(memory, checkSize(where, 'rank', ownRank), where);
  }
  if (engine === 'mpi') return openMpi(library, timeout);
  if (ownRank !== undefined) checkSize(where, 'rank', ownRank);
  if (ownSize !== undefined) checkSize(where, 'size', ownSize, 1);
  const known = { ...(ownRank !== undefined && { rank: ownRank }), ...(ownSize !== undefined && { size: ownSize }) };
  const { rank, size, mpi } = placeIn(process.env, known);
  if (engine === 'auto' && mpi && ownRank === undefined && ownSize === undefined) return openMpi(library, timeout);
  if (rank >= size) throw new RangeError(`${where}: rank must be below size, ${size}, but got ${rank}`);
  if (engine === 'auto' && size === 1) return new SingleEngine();
  const { address = meetingAddress(process.env), host = process.env.SIMDNORM_HOST ?? '' } = options;
  const { token = process.env.SIMDNORM_TOKEN ?? '' } = options;
  for (const [name, value] of Object.entries({ address, token, host })) {
    if (typeof value !== 'string')
      throw new TypeError(`${where}: ${name} must be a string, but got ${describe(value)}`);
  }
  const port = checkSize(where, 'port', options.port ?? meetingPort(process.env), 1);
  if (port > 65535) throw new RangeError(`${where}: port must be at most 65535, but got ${port}`);
  return openGloo({ address, port, rank, size, token, timeoutMs: timeout, ...(host !== '' && { host }) });
}

/** Under 'auto' a program may say what each engine needs. */
function refuseOthers(engine: Exclude<Asked, 'auto'>, options: InitOptions): void {
  const wrong = names.filter((name) => options[name] !== undefined && !taken[engine].includes(name));
  if (wrong.length === 0) return;
  throw new RangeError(
    `${where}: ${engine} does not take ${wrong.join(', ')}; its options are ${taken[engine].join(', ')}`,
  );
}
