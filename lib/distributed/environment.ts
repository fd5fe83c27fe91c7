// Who this process is among the ranks, as the program that started it tells by its environment.

import { StateError } from '../internal/errors';

type Environment = Record<string, string | undefined>;

/** How some launcher says it. */
interface Launcher {
  name: string;
  rank: string;
  size: string;
  localRank?: string;
  /** Where others set the rank as well: only this launcher, when it has started this very process, sets a number here. */
  sign?: string;
  /** Whether it starts programs of MPI. */
  mpi: 'always' | 'maybe' | 'never';
}

/** The first whose rank is set counts. */
const launchers: readonly Launcher[] = [
  { name: 'torchrun', rank: 'RANK', size: 'WORLD_SIZE', localRank: 'LOCAL_RANK', mpi: 'never' },
  {
    name: 'Open MPI',
    rank: 'OMPI_COMM_WORLD_RANK',
    size: 'OMPI_COMM_WORLD_SIZE',
    localRank: 'OMPI_COMM_WORLD_LOCAL_RANK',
    mpi: 'always',
  },
  // mpirun of MPICH and Intel MPI. In a job of SLURM it starts its servants with srun, whose variables are theirs then.
  {
    name: 'PMI',
    rank: 'PMI_RANK',
    size: 'PMI_SIZE',
    localRank: 'MPI_LOCALRANKID',
    sign: 'MPI_LOCALRANKID',
    mpi: 'always',
  },
  // srun, which may speak PMI to programs of MPI. A job's script is a rank 0 as well, but not in a step with a number: nobody
  // has started ranks 1 and up.
  {
    name: 'SLURM',
    rank: 'SLURM_PROCID',
    size: 'SLURM_NTASKS',
    localRank: 'SLURM_LOCALID',
    sign: 'SLURM_STEP_ID',
    mpi: 'maybe',
  },
  { name: 'PMI', rank: 'PMI_RANK', size: 'PMI_SIZE', mpi: 'always' },
  // Its number of pods is in no variable; WORLD_SIZE is the name that manifests give it.
  { name: 'Kubernetes', rank: 'JOB_COMPLETION_INDEX', size: 'WORLD_SIZE', mpi: 'never' },
];

export interface Place {
  /** Who says so; null where nobody does: this process is by itself. */
  launcher: string | null;
  rank: number;
  size: number;
  localRank: number | null;
  /** It was started as a program of MPI, as far as one can see. */
  mpi: boolean;
}

// Special steps have numbers close to 2^32.
const isNumber = (value: string | undefined): boolean => value !== undefined && /^\d{1,9}$/.test(value);

/**
 * What is `known` is not looked for.
 * @throws StateError (`code` 'ERR_ENVIRONMENT') for variables that are no numbers, or do not go together
 */
export function placeIn(env: Environment, known: { rank?: number; size?: number } = {}, among = launchers): Place {
  const launcher =
    known.rank === undefined || known.size === undefined
      ? among.find(({ rank, sign }) => env[rank] !== undefined && env[rank] !== '' && (!sign || isNumber(env[sign])))
      : undefined;
  const { WORLD_SIZE } = env;
  if (!launcher && known.rank === undefined && WORLD_SIZE && WORLD_SIZE !== '1') {
    throw refusal(`WORLD_SIZE is ${JSON.stringify(WORLD_SIZE)}, but RANK is not set`, 'torchrun');
  }
  if (!launcher) return { launcher: null, rank: known.rank ?? 0, size: known.size ?? 1, localRank: null, mpi: false };
  const { name, mpi } = launcher;
  const rank = known.rank ?? numberIn(env, launcher.rank, launcher);
  const size = known.size ?? numberIn(env, launcher.size, launcher);
  if (rank >= size && known.rank === undefined && known.size === undefined) {
    throw refusal(`${launcher.rank} is ${rank}, which must be below ${launcher.size}, ${size}`, name);
  }
  const { localRank } = launcher;
  const local = localRank && env[localRank] ? numberIn(env, localRank, launcher) : null;
  return { launcher: name, rank, size, localRank: local, mpi: mpi === 'always' };
}

/** As a launcher says that has started, or may have, a program of MPI. */
export function placeOfMpi(env: Environment): Place {
  return placeIn(
    env,
    {},
    launchers.filter(({ mpi }) => mpi !== 'never'),
  );
}

function numberIn(env: Environment, name: string, launcher: Launcher): number {
  const value = env[name];
  if (isNumber(value)) return Number(value);
  const came = value === undefined ? 'is not set' : `is ${JSON.stringify(value)}`;
  throw refusal(
    name === launcher.rank ? `${name} ${came}` : `${launcher.rank} is set, but ${name} ${came}`,
    launcher.name,
  );
}

const refusal = (what: string, name: string): StateError =>
  new StateError('ERR_ENVIRONMENT', `initProcessGroup: in the environment (${name}'s variables) ${what}`);

/** MASTER_ADDR. SLURM names its nodes in a list of its own, which is not read. */
export function meetingAddress({ MASTER_ADDR: address }: Environment): string {
  return address || '127.0.0.1';
}

/** MASTER_PORT. */
export function meetingPort({ MASTER_PORT: port }: Environment): number {
  if (!port) return 29500;
  if (/^\d{1,5}$/.test(port) && Number(port) > 0 && Number(port) < 65536) return Number(port);
  throw new StateError(
    'ERR_ENVIRONMENT',
    `initProcessGroup: MASTER_PORT must be a port from 1 to 65535, but is ${JSON.stringify(port)}`,
  );
}
