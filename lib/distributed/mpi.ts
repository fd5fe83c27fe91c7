// Groups over the MPI that the machine has: a library that is looked for when it is asked for, and a launcher (mpirun,
// srun) that has started all ranks.

import { addon } from '../internal/addon';
import { StateError } from '../internal/errors';
import { Outcome, type Engine } from './engine';
import { placeOfMpi } from './environment';
import { detailBytes, NativeEngine, wordsOf } from './native-engine';
import { GroupError } from './process-group';

const where = 'initProcessGroup';

/** Two ABIs: of Open MPI, and of MPICH with those that follow it (Intel MPI, MVAPICH, Cray). */
const names: { readonly [platform: string]: { openMpi: string[]; mpich: string[] } } = {
  linux: { openMpi: ['libmpi.so.40'], mpich: ['libmpi.so.12', 'libmpich.so.12'] },
  darwin: {
    openMpi: ['libmpi.40.dylib', '/opt/homebrew/lib/libmpi.40.dylib'],
    mpich: ['libmpi.12.dylib', '/opt/homebrew/lib/libmpi.12.dylib'],
  },
};

function candidates(launcher: string | null): string[] {
  const here = names[process.platform] ?? names['linux']!;
  // A launcher knows its own library only: to the other, each rank is alone.
  return launcher === 'PMI' ? [...here.mpich, ...here.openMpi] : [...here.openMpi, ...here.mpich];
}

function load(library: string | undefined, launcher: string | null): string {
  if (typeof addon.mpiLoad !== 'function') {
    throw new StateError(
      'ERR_ENGINE_NOT_FOUND',
      `${where}: MPI needs the native addon, and this process runs on its WebAssembly build; the engines 'gloo' and ` +
        `'threads' do without`,
    );
  }
  const asked = library ?? process.env['SIMDNORM_MPI_LIB'];
  const tried: string[] = [];
  for (const name of asked ? [asked] : candidates(launcher)) {
    const detail = new Uint8Array(detailBytes);
    if (addon.mpiLoad(name, detail) === 1) return name;
    const why = wordsOf(detail);
    tried.push(why.startsWith(name) ? why : `${name} (${why})`);
  }
  throw new StateError(
    'ERR_ENGINE_NOT_FOUND',
    `${where}: no MPI library. Looked for ${tried.join(', ')}. ` +
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
export async function openMpi(library: string | undefined, timeoutMs: number): Promise<Engine> {
  const place = placeOfMpi(process.env);
  const name = load(library, place.launcher);
  const made = new Float64Array(3);
  const missing = new Uint8Array(place.size);
  const detail = new Uint8Array(detailBytes);
  const began = performance.now();
  let isBusy = false;
  const outcome = await new Promise<number>((settle) => {
    const refused = addon.mpiOpen(timeoutMs, made, missing, detail, settle);
    isBusy = refused === Outcome.closed;
    if (refused !== Outcome.ok) settle(refused);
  });
  if (isBusy) {
    throw new StateError(
      'ERR_BUSY',
      `${where}: another thread of this process has a group over MPI, where each process is one rank; close it first`,
    );
  }
  if (outcome !== Outcome.ok) throw failed(name, outcome, missing, wordsOf(detail), performance.now() - began);
  const [handle, rank, size] = made as unknown as [number, number, number];
  watchTheEnd();
  const engine = new NativeEngine('mpi', addon, handle, rank, size);
  if (place.size > size) {
    engine.close();
    throw new StateError(
      'ERR_ENGINE',
      `${where}: ${place.launcher} has started ${place.size} ranks, but ${name} knows of ${size}: it is not the MPI of this ` +
        'launcher. SIMDNORM_MPI_LIB names the right one.',
    );
  }
  return engine;
}

function failed(name: string, outcome: number, missing: Uint8Array, detail: string, milliseconds: number): StateError {
  const ranks = [...missing.keys()].filter((rank) => missing[rank]);
  const who = ranks.length === 0 ? 'a rank' : `rank${ranks.length > 1 ? 's' : ''} ${ranks.join(', ')}`;
  const seconds = milliseconds / 1000;
  const because = detail && ` (${detail})`;
  const error = (code: string, what: string): GroupError =>
    new GroupError(code, `${where}: over MPI (${name}) ${what}${because}`, ranks, where, seconds);
  if (outcome === Outcome.timeout)
    return error('ERR_PEER_TIMEOUT', `${who} did not come within ${seconds.toFixed(2)} s`);
  if (outcome === Outcome.lost) return error('ERR_PEER_LOST', `${who} is gone, after ${seconds.toFixed(2)} s`);
  return new StateError('ERR_ENGINE', `${where}: no group over MPI (${name})${because}`);
}
