// Who this process is among the ranks, as the program that started it tells by its environment.

import { StateError } from '../internal/errors';

type Environment = Record<string, string | undefined>;

/** How some launcher says it. */
interface Launcher {
  name: string;
  rank: string;
  size: string;
  localRank?: string;
  /** It starts MPI programs. */
  mpi: boolean;
}

/** The first whose rank is set counts. */
const launchers: readonly Launcher[] = [
  { name: 'torchrun', rank: 'RANK', size: 'WORLD_SIZE', localRank: 'LOCAL_RANK', mpi: false },
  {
    name: 'Open MPI',
    rank: 'OMPI_COMM_WORLD_RANK',
    size: 'OMPI_COMM_WORLD_SIZE',
    localRank: 'OMPI_COMM_WORLD_LOCAL_RANK',
    mpi: true,
  },
  { name: 'PMI', rank: 'PMI_RANK', size: 'PMI_SIZE', localRank: 'MPI_LOCALRANKID', mpi: true },
  { name: 'SLURM', rank: 'SLURM_PROCID', size: 'SLURM_NTASKS', localRank: 'SLURM_LOCALID', mpi: false },
  // Its number of pods is in no variable; WORLD_SIZE is the name that manifests give it.
  { name: 'Kubernetes', rank: 'JOB_COMPLETION_INDEX', size: 'WORLD_SIZE', mpi: false },
];

export interface Place {
  /** Who says so; null where nobody does: this process is by itself. */
  launcher: string | null;
  rank: number;
  size: number;
  localRank: number | null;
  mpi: boolean;
}

/** @throws StateError (`code` 'ERR_ENVIRONMENT') for variables that are no numbers, or do not go together */
export function placeIn(env: Environment): Place {
  const launcher = launchers.find(({ rank }) => env[rank] !== undefined && env[rank] !== '');
  if (!launcher) return { launcher: null, rank: 0, size: 1, localRank: null, mpi: false };
  const { name, mpi } = launcher;
  const rank = numberIn(env, launcher.rank, launcher);
  const size = numberIn(env, launcher.size, launcher);
  if (rank >= size) {
    throw refusal(`${launcher.rank} is ${rank}, which must be below ${launcher.size}, ${size}`, name);
  }
  const { localRank } = launcher;
  const local = localRank && env[localRank] ? numberIn(env, localRank, launcher) : null;
  return { launcher: name, rank, size, localRank: local, mpi };
}

function numberIn(env: Environment, name: string, launcher: Launcher): number {
  const value = env[name];
  if (value !== undefined && /^\d{1,9}$/.test(value)) return Number(value);
  const came = value === undefined ? 'is not set' : `is ${JSON.stringify(value)}`;
  throw refusal(`${launcher.rank} is set, but ${name} ${came}`, launcher.name);
}

const refusal = (what: string, name: string): StateError =>
  new StateError('ERR_ENVIRONMENT', `initProcessGroup: in the environment (${name}'s variables) ${what}`);

/** Where ranks meet: MASTER_ADDR and MASTER_PORT. SLURM names its nodes in a list of its own, which is not read. */
export function meetingPlace(env: Environment): { address: string; port: number } {
  const { MASTER_ADDR: address = '127.0.0.1', MASTER_PORT: port = '29500' } = env;
  if (/^\d{1,5}$/.test(port) && Number(port) > 0 && Number(port) < 65536) return { address, port: Number(port) };
  throw new StateError(
    'ERR_ENVIRONMENT',
    `initProcessGroup: MASTER_PORT must be a port from 1 to 65535, but is ${JSON.stringify(port)}`,
  );
}
