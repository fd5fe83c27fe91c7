// Groups over the MPI that the machine has: a library that is looked for when it is asked for, and a launcher (mpirun,
// srun) that has started all ranks.

import { addon } from '../internal/addon';
import { StateError } from '../internal/errors';
import { Outcome, type Engine } from './engine';
import { detailBytes, NativeEngine, wordsOf } from './native-engine';

/** Two ABIs: of Open MPI, and of MPICH with those that follow it (Intel MPI, MVAPICH, Cray). */
const names: { readonly [platform: string]: { openMpi: string[]; mpich: string[] } } = {
  linux: { openMpi: ['libmpi.so.40'], mpich: ['libmpi.so.12', 'libmpich.so.12'] },
  darwin: {
    openMpi: ['libmpi.40.dylib', '/opt/homebrew/lib/libmpi.40.dylib'],
    mpich: ['libmpi.12.dylib', '/opt/homebrew/lib/libmpi.12.dylib'],
  },
};

/** Of the ranks that a launcher started; undefined where none says so. */
function launched(): number | undefined {
  const { OMPI_COMM_WORLD_SIZE, PMI_SIZE } = process.env;
  const size = OMPI_COMM_WORLD_SIZE ?? PMI_SIZE;
  return size === undefined ? undefined : Number(size);
}

function candidates(): string[] {
  const here = names[process.platform] ?? names['linux']!;
  // A launcher knows its own library only: to the other, each rank is alone.
  const isHydra = process.env['PMI_SIZE'] !== undefined && process.env['OMPI_COMM_WORLD_SIZE'] === undefined;
  return isHydra ? [...here.mpich, ...here.openMpi] : [...here.openMpi, ...here.mpich];
}

function load(library: string | undefined): string {
  const asked = library ?? process.env['SIMDNORM_MPI_LIB'];
  const tried: string[] = [];
  for (const name of asked ? [asked] : candidates()) {
    const detail = new Uint8Array(detailBytes);
    if (addon.mpiLoad(name, detail) === 1) return name;
    const why = wordsOf(detail);
    tried.push(why.startsWith(name) ? why : `${name} (${why})`);
  }
  throw new StateError(
    'ERR_ENGINE_NOT_FOUND',
    `simdnorm: no MPI library. Looked for ${tried.join(', ')}. ` +
      'To install one: apt-get install openmpi-bin, or mpich (Debian, Ubuntu); brew install open-mpi (macOS). ' +
      'SIMDNORM_MPI_LIB names one that is elsewhere.',
  );
}

let isWatching = false;

/** MPI ends well only where every rank ends well; else its launcher shall end the others at once. */
function watchTheEnd(): void {
  if (isWatching) return;
  isWatching = true;
  process.once('exit', (code) => {
    if (code !== 0) addon.mpiAbandon();
  });
}

/** A group of all ranks of the launcher. All of them call it, within the timeout. */
export function openMpi(library?: string, timeoutMs = 300_000): Engine {
  const name = load(library);
  const made = new Float64Array(3);
  const detail = new Uint8Array(detailBytes);
  const outcome = addon.mpiOpen(timeoutMs, made, detail);
  const [handle, rank, size] = made as unknown as [number, number, number];
  if (outcome !== Outcome.ok) {
    const why = outcome === Outcome.timeout ? `after ${timeoutMs} ms: ${wordsOf(detail)}` : wordsOf(detail);
    throw new StateError('ERR_ENGINE_FAILED', `simdnorm: no group over MPI (${name}): ${why || 'out of memory'}`);
  }
  watchTheEnd();
  const engine = new NativeEngine('mpi', addon, handle, rank, size);
  const expected = launched();
  if (expected !== undefined && expected !== size) {
    engine.close();
    throw new StateError(
      'ERR_ENGINE_FAILED',
      `simdnorm: ${expected} ranks were launched, but ${name} knows of ${size}: it is not the MPI of this launcher. ` +
        'SIMDNORM_MPI_LIB names the right one.',
    );
  }
  return engine;
}
