// What runs the kernels: the instruction set and the number of threads. Both are process-wide, and neither changes a
// result by a single bit.

import { addon, isaNames, useIsa, useThreads } from './internal/addon';

/**
 * The instruction sets. `SIMDNORM_ISA=avx2` chooses one before the first call.
 *
 * @example
 * isa.supported; // ['avx512', 'avx2', 'portable']
 * isa.use('portable');
 */
export const isa = {
  /** Those in this build, best first. */
  get all(): readonly string[] {
    return isaNames;
  },
  /** Those that this CPU and its operating system support, best first. */
  get supported(): readonly string[] {
    return isaNames.filter((_, i) => addon.isaSupported(i) === 1);
  },
  /** The one in use. */
  get active(): string {
    return isaNames[addon.isaActive()]!;
  },
  /**
   * Uses another one, in the whole process.
   * @throws RangeError where it is unknown or this CPU lacks it; the message lists what there is.
   */
  use(name: string): void {
    useIsa(name, 'isa.use');
  },
} as const;

/**
 * Sets how many threads one call may use, the calling one included: 1 to 256, in the whole process. The default is
 * `SIMDNORM_NUM_THREADS`, or else `os.availableParallelism()`. Calls on less than 128 KiB use the calling one alone; those
 * of several Workers take turns.
 * @throws TypeError for no number, RangeError for anything but an integer from 1 to 256
 */
export function setNumThreads(n: number): void {
  useThreads(n, 'setNumThreads');
}

/** How many threads one call may use. */
export function getNumThreads(): number {
  return addon.threads();
}
