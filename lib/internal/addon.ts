// The only file that knows there is a binary: what it exports, what its answers mean. load.ts finds it.

import { describe, StateError } from './errors';
import { load, settings } from './load';
import type { GroupFunctions } from '../distributed/native-engine';

export { Block, Flag, ImageBlock, TallyBlock, WindowBlock } from './blocks';

/** Of parameters and statistics. */
export type FloatArray = Float32Array | Float64Array;
/** Of data: 16-bit floats come as their bits, and Flag.bfloat16 tells which they are. */
export type DataArray = FloatArray | Uint16Array;

/** Of data that statistics are taken of. */
export type TallyArray = DataArray | Uint8Array | Int8Array | Int16Array | Int32Array;

/** Every function returns 0, or a fault that `check` turns into an error; those of groups an outcome. */
export interface Addon extends GroupFunctions {
  forward(
    block: Float64Array,
    x: DataArray,
    y: DataArray,
    weight: FloatArray | null,
    bias: FloatArray | null,
    saved: Float64Array | null,
    runningMean: FloatArray | null,
    runningVar: FloatArray | null,
    add: DataArray | null,
  ): number;
  /** `forward` on another thread, on memory that nobody can detach; a fault of the work itself goes to `settle`. */
  forwardAsync(...all: [...Parameters<Addon['forward']>, settle: (fault: number) => void]): number;
  backward(
    block: Float64Array,
    dy: DataArray,
    x: DataArray,
    dx: DataArray | null,
    weight: FloatArray | null,
    saved: Float64Array,
    dweight: FloatArray | null,
    dbias: FloatArray | null,
    gated: DataArray | null,
    add: DataArray | null,
    bias: FloatArray | null,
    /** Of a part of what is normalized together: written without dx; with it those of the whole, then the part's own. */
    sums: Float64Array | null,
  ): number;
  localResponse(block: Float64Array, x: DataArray, y: DataArray): number;
  localResponseBackward(block: Float64Array, dy: DataArray, x: DataArray, dx: DataArray): number;
  /** Fills the tensor from images, of which each array has as many. */
  fromImages(block: Float64Array, tensor: DataArray, images: readonly Uint8Array[]): number;
  fromImagesAsync(...all: [...Parameters<Addon['fromImages']>, settle: (fault: number) => void]): number;
  /** Fills the bytes of the images from the tensor. */
  toImages(block: Float64Array, tensor: DataArray, bytes: Uint8Array): number;
  /** What forward does last, from its statistics; `counts` has the values behind those of each batch item. */
  updateRunning(
    block: Float64Array,
    mean: FloatArray,
    var_: FloatArray | null,
    saved: Float64Array,
    counts: Float64Array,
  ): number;
  /** (count, mean, meanLow, m2, m2Low) of every statistic. */
  moments(block: Float64Array, x: DataArray, out: Float64Array): number;
  /** What the moments of parts, [batch][groups] of the geometry, come to together; `like` is of the data's type. */
  statisticsOfParts(block: Float64Array, like: DataArray, parts: Float64Array, out: Float64Array): number;
  /** Adds data to states of nine numbers each: see Tally in native/ops/tally.h. */
  tally(block: Float64Array, x: TallyArray, weights: Float64Array | null, state: Float64Array): number;
  /** Merges the states of `from` into those of `into`: of five numbers each, and of nine. */
  merge(into: Float64Array, from: Float64Array): number;
  mergeTallies(into: Float64Array, from: Float64Array): number;
  /** Its version and the hash of its sources, with a blank between. */
  identity(): string;
  isaName(i: number): string | undefined;
  isaSupported(i: number): number;
  isaActive(): number;
  isaUse(i: number): number;
  threads(): number;
  setThreads(n: number): number;
  /** Whether the environment's settings were applied in this process; 1 says that they are now. */
  configured(done: 0 | 1): number;
  /** Asks for huge pages where they fit into memory that is not touched yet. */
  adviseHugePages(buffer: ArrayBuffer): number;
  /** From the start of the memory; -1 for anything but an ArrayBuffer. */
  bytesToCacheLine(buffer: ArrayBuffer): number;
  /** 1, or 0 and `detail` (512 bytes) says why. */
  mpiLoad(library: string, detail: Uint8Array): number;
  /**
   * An outcome; after 0, settle(outcome) is called later, and made is [handle, rank, size]. 4, at once: another environment
   * of this process has a group.
   */
  mpiOpen(
    timeoutMs: number,
    made: Float64Array,
    missing: Uint8Array,
    detail: Uint8Array,
    settle: (outcome: number) => void,
  ): number;
  /** The process ends with an error, and shall not wait for its peers. */
  mpiAbandon(): void;
}

/** Names of the arguments, for messages. */
export const Names = {
  forward: ['parameters', 'input', 'out', 'weight', 'bias', 'saved statistics', 'running_mean', 'running_var', 'add'],
  backward: [
    'parameters',
    'grad_output',
    'input',
    'out',
    'weight',
    'saved statistics',
    'weight.grad',
    'bias.grad',
    'gradAdd',
    'add',
    'bias',
    'sums',
  ],
  localResponse: ['parameters', 'input', 'out'],
  localResponseBackward: ['parameters', 'grad_output', 'input', 'out'],
  fromImages: ['parameters', 'out', 'images'],
  toImages: ['parameters', 'input', 'out'],
  moments: ['parameters', 'input', 'out'],
  statisticsOfParts: ['parameters', 'input', 'moments', 'statistics'],
  updateRunning: ['parameters', 'running_mean', 'running_var', 'saved statistics', 'counts'],
  tally: ['parameters', 'batch', 'weights', 'state'],
  merge: ['into', 'from'],
} as const;

const faults: Record<number, [new (message: string) => Error, string]> = {
  1: [TypeError, 'must be a typed array'],
  2: [TypeError, 'has another dtype than the input'],
  3: [RangeError, 'has another length than its shape needs (is its buffer detached or shrunk?)'],
  4: [RangeError, 'overlaps another argument'],
  5: [RangeError, 'hold a size that is not a whole number, or sizes that do not agree'],
};

/** Turns a fault into an error; 0 passes. */
export function check(fault: number, where: string, names: readonly string[]): void {
  if (fault === 0) return;
  const [Kind, what] = faults[fault >> 4] ?? [];
  if (!Kind) throw new StateError('ERR_OUT_OF_MEMORY', `${where}: out of memory for the working arrays`);
  throw new Kind(`${where}: ${names[fault & 15] ?? 'argument'} ${what}`);
}

export const addon: Addon = load();

/** Names of the instruction sets in this build, best first. */
export const isaNames: readonly string[] = (() => {
  const names: string[] = [];
  for (let i = 0, name; (name = addon.isaName(i)) !== undefined; i++) names.push(name);
  return names;
})();

export function useIsa(name: unknown, where: string): void {
  const i = isaNames.indexOf(name as string);
  const supported = isaNames.filter((_, k) => addon.isaSupported(k) === 1).join(', ');
  if (i < 0) {
    throw new RangeError(
      `${where}: unknown instruction set ${JSON.stringify(name)}; this machine supports ${supported}`,
    );
  }
  if (addon.isaUse(i) !== 1) {
    throw new RangeError(`${where}: this CPU does not support ${String(name)}; it supports ${supported}`);
  }
}

export function useThreads(n: unknown, where: string, given = n): void {
  const needed = 'the number of threads must be an integer from 1 to 256, but got';
  if (typeof n !== 'number') throw new TypeError(`${where}: ${needed} ${describe(n)}`);
  if (addon.setThreads(n) !== 1) throw new RangeError(`${where}: ${needed} ${describe(given)}`);
}

// Process-wide settings, applied by whoever loads first; a Worker that comes later leaves them alone.
if (addon.configured(0) === 0) {
  const { isa, threads, processors } = settings();
  if (isa) useIsa(isa, 'SIMDNORM_ISA');
  useThreads(threads ? Number(threads) : Math.min(processors, 256), 'SIMDNORM_NUM_THREADS', threads);
  addon.configured(1);
}
