// From the environment and options to a process group.

import { checkOptions, checkSize, describe, StateError } from '../internal/errors';
import type { Engine } from './engine';
import { meetingPlace, placeIn } from './environment';
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

let isUnderWay = false;

/**
 * Joins the other ranks, and makes the group that layers use by default, until it is closed. All ranks call it.
 *
 * Rank and size come from the variables of torchrun (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), Open MPI, PMI
 * (MPICH), SLURM or a Kubernetes indexed job (JOB_COMPLETION_INDEX, with WORLD_SIZE), whichever is there first. Under SLURM
 * and Kubernetes set MASTER_ADDR to where rank 0 runs.
 *
 * *Throws* (rejects with) StateError: `code` 'ERR_ENGINE_NOT_FOUND' where the engine is not installed, with what to install;
 * 'ERR_ENVIRONMENT' for variables that say nothing sensible; 'ERR_RENDEZVOUS', 'ERR_PEER_TIMEOUT' where ranks do not come,
 * which it names; 'ERR_TOKEN' where a secret is missing or wrong; 'ERR_BUSY' while there is a group. TypeError and RangeError
 * for wrong options.
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
    throw new TypeError(`${where}: engine must be one of '${engines.join("', '")}', but got ${describe(engine)}`);
  }
  checkTimeout(where, timeout);
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

async function open(engine: (typeof engines)[number], timeout: number, options: InitOptions): Promise<Engine> {
  const { memory, library } = options;
  if (engine === 'threads' || (engine === 'auto' && memory !== undefined)) {
    if (memory === undefined) throw new TypeError(`${where}: threads need memory, from createThreadGroup`);
    return new ThreadEngine(memory, checkSize(where, 'rank', options.rank), where);
  }
  if (engine === 'mpi') return openMpi(library, timeout);
  const place = placeIn(process.env);
  const explicit = options.rank !== undefined || options.size !== undefined;
  if (engine === 'auto' && !explicit && place.mpi) return openMpi(library, timeout);
  const size = checkSize(where, 'size', options.size ?? place.size, 1);
  const rank = checkSize(where, 'rank', options.rank ?? place.rank);
  if (rank >= size) throw new RangeError(`${where}: rank must be below size, ${size}, but got ${rank}`);
  if (engine === 'auto' && size === 1) return new SingleEngine();
  const meeting = meetingPlace(process.env);
  const { address = meeting.address, port = meeting.port } = options;
  const { token = process.env.SIMDNORM_TOKEN ?? '', host = process.env.SIMDNORM_HOST } = options;
  if (typeof address !== 'string')
    throw new TypeError(`${where}: address must be a string, but got ${describe(address)}`);
  if (typeof token !== 'string') throw new TypeError(`${where}: token must be a string, but got ${describe(token)}`);
  if (host !== undefined && typeof host !== 'string') {
    throw new TypeError(`${where}: host must be a string, but got ${describe(host)}`);
  }
  if (checkSize(where, 'port', port, 1) > 65535)
    throw new RangeError(`${where}: port must be at most 65535, but got ${port}`);
  return openGloo({ address, port, rank, size, token, timeoutMs: timeout, ...(host !== undefined && { host }) });
}
