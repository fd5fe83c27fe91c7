// Running statistics of a whole data set: the moments of every batch merged, not averaged.

import { addon, check, Names } from './internal/addon';
import { valuesBehind, type Saved } from './internal/call';
import { checkOptions, describe, StateError } from './internal/errors';
import { noGrad } from './grad-mode';
import { BatchNorm } from './layers/batch-norm';
import { Module } from './module';
import type { TensorLike } from './tensor';

export interface RecalibrateProgress {
  /** Batches of this pass so far, the last included. */
  batches: number;
  /** From 1 on. */
  pass: number;
  passes: number;
}

export interface RecalibrateOptions<Batch> {
  /**
   * 'one' (default): every layer in one pass, in which each normalizes by the batch, as torch's update_bn has it.
   * 'perLayer': a pass for each layer, in the order in which they are reached, those before it in evaluation mode: each
   * then has the statistics of exactly what it sees in evaluation. The batches must be an array or a function.
   */
  passes?: 'one' | 'perLayer' | undefined;
  /** Called after every batch. */
  onProgress?: ((progress: RecalibrateProgress) => void) | undefined;
  /** How a batch is run; default `module.forward(batch)`. */
  run?: ((module: Module, batch: Batch) => unknown) | undefined;
}

type Source<B> = Iterable<B> | (() => Iterable<B>);
type AsyncSource<B> = AsyncIterable<B> | (() => AsyncIterable<B>);

/**
 * Gives every BatchNorm of a network the exact mean and unbiased variance of what it sees in a data set, for evaluation:
 * after training with another momentum, after averaging weights, for other data.
 *
 * Counts, means and sums of squared deviations are merged by Chan's formula in twice double precision, so that the size
 * and the order of batches do not matter to the result beyond its last bits.
 *
 * *Options*: `passes` ('one', or 'perLayer'), `onProgress`, `run`.
 *
 * *Train and eval*: the network runs in evaluation mode, but for the layers whose statistics are taken; every mode is
 * afterwards as it was. Frozen layers, and those without running statistics, are left alone. `numBatchesTracked` becomes
 * the number of batches.
 *
 * *Throws* RangeError for no batches, and for a batch with one value per channel, whatever `singleValue` is; StateError (`code` 'ERR_ONE_VALUE') where a channel had a single value in all, ('ERR_BUSY') while
 * another one of these layers is under way; TypeError where `run` returns a promise; and
 * what a forward throws. Statistics are then as before.
 *
 * *Matches* torch.optim.swa_utils.update_bn. Differences: that averages the batches' variances with equal weights, which
 * is not the variance of the data set; it runs the network in training mode, dropout included; a layer that no batch
 * reaches is reset there and left alone here.
 *
 * @returns a promise where the batches come asynchronously
 *
 * @example
 * recalibrate(net, batches, { onProgress: ({ batches }) => console.log(batches) });
 */
export function recalibrate<B = TensorLike>(module: Module, batches: Source<B>, options?: RecalibrateOptions<B>): void;
export function recalibrate<B = TensorLike>(
  module: Module,
  batches: AsyncSource<B>,
  options?: RecalibrateOptions<B>,
): Promise<void>;
export function recalibrate<B>(
  module: Module,
  batches: Source<B> | AsyncSource<B>,
  options: RecalibrateOptions<B> = {},
): void | Promise<void> {
  const job = new Recalibration(module, options);
  const again = typeof batches === 'function' || Array.isArray(batches);
  if (job.passes > 1 && !again) {
    throw new TypeError(`${where}: passes 'perLayer' go through the batches again; give an array or a function`);
  }
  const first = typeof batches === 'function' ? batches() : batches;
  const next = (): unknown => (typeof batches === 'function' ? batches() : batches);
  if (typeof first === 'object' && first !== null && Symbol.asyncIterator in first) return inTurn(job, first, next);
  if (typeof first !== 'object' || first === null || !(Symbol.iterator in first)) {
    throw new TypeError(
      `${where}: batches must be iterable, or a function that returns that, but got ${describe(first)}`,
    );
  }
  try {
    job.begin();
    for (let source: Iterable<B> = first; ; source = next() as Iterable<B>) {
      for (const batch of source) job.take(batch);
      if (job.endPass()) return;
    }
  } finally {
    job.restore();
  }
}

async function inTurn<B>(job: Recalibration<B>, first: AsyncIterable<B>, next: () => unknown): Promise<void> {
  try {
    job.begin();
    for (let source = first; ; source = next() as AsyncIterable<B>) {
      for await (const batch of source) job.take(batch);
      if (job.endPass()) return;
    }
  } finally {
    job.restore();
  }
}

const where = 'recalibrate';

/** What one layer has seen: (count, mean, meanLow, m2, m2Low) of each channel, and the batches behind them. */
interface Seen {
  moments: Float64Array;
  batches: number;
}

class Recalibration<B> {
  readonly passes: number;
  readonly #module: Module;
  readonly #run: (module: Module, batch: B) => unknown;
  readonly #onProgress: ((progress: RecalibrateProgress) => void) | undefined;
  readonly #layers: Set<BatchNorm>;
  /** In the order in which the layers were first reached. */
  readonly #seen = new Map<BatchNorm, Seen>();
  readonly #undo: (() => void)[] = [];
  #pass = 1;
  #batches = 0;

  constructor(module: Module, options: RecalibrateOptions<B>) {
    if (!(module instanceof Module)) {
      throw new TypeError(`${where}: module must be a Module, but got ${describe(module)}`);
    }
    checkOptions(where, options, ['passes', 'onProgress', 'run']);
    const { passes = 'one', onProgress, run = (net, batch) => net.forward(batch as TensorLike) } = options;
    if (passes !== 'one' && passes !== 'perLayer') {
      throw new TypeError(`${where}: passes must be 'one' or 'perLayer', but got ${describe(passes)}`);
    }
    for (const [name, f] of Object.entries({ onProgress, run })) {
      if (f !== undefined && typeof f !== 'function') {
        throw new TypeError(`${where}: ${name} must be a function, but got ${describe(f)}`);
      }
    }
    this.#module = module;
    this.#run = run;
    this.#onProgress = onProgress;
    const tracked = (part: unknown): part is BatchNorm =>
      part instanceof BatchNorm && part.runningMean !== null && part.trackRunningStats && !part.frozen;
    this.#layers = new Set(module.modules().filter(tracked));
    this.passes = passes === 'one' ? 1 : Math.max(1, this.#layers.size);
  }

  begin(): void {
    for (const layer of this.#layers) {
      if (!layer.isCollecting) continue;
      throw new StateError('ERR_BUSY', `${where}: another recalibrate of ${String(layer)} is under way`);
    }
    const { training } = this.#module;
    for (const part of this.#module.modules()) {
      const own = (part as { training?: unknown }).training;
      const mode = typeof own === 'boolean' ? own : training;
      this.#undo.push(part instanceof Module ? part.keepModes() : () => part.train?.(mode));
    }
    this.#module.eval();
    for (const layer of this.#layers) {
      layer.train();
      this.#collect(layer);
    }
  }

  #collect(layer: BatchNorm): void {
    layer.collect((parts) => {
      const fresh = (): Seen => ({ moments: new Float64Array(5 * layer.runningMean!.size), batches: 0 });
      const seen = this.#seen.get(layer) ?? fresh();
      this.#seen.set(layer, seen);
      for (const part of parts) check(addon.merge(seen.moments, momentsOf(part)), where, Names.merge);
      seen.batches++;
    });
    this.#undo.push(() => layer.collect(null));
  }

  take(batch: B): void {
    // A run that returns a promise is refused by noGrad: its forward would come too late.
    noGrad(() => this.#run(this.#module, batch));
    this.#batches++;
    this.#onProgress?.({ batches: this.#batches, pass: this.#pass, passes: this.passes });
  }

  /** Whether that was the last pass. */
  endPass(): boolean {
    if (this.#batches === 0) throw new RangeError(`${where}: there are no batches`);
    const reached = [...this.#seen.keys()];
    // Of the layers that are still to be settled only the first saw what it will see.
    const settled = this.passes === 1 ? reached : reached.slice(0, 1);
    const ready = settled.map((layer) => [layer, statisticsOf(layer, this.#seen.get(layer)!)] as const);
    for (const [layer, statistics] of ready) {
      this.#settle(layer, statistics);
      layer.collect(null);
      layer.eval();
      this.#layers.delete(layer);
    }
    this.#seen.clear();
    this.#batches = 0;
    this.#pass++;
    const done = this.passes === 1 || settled.length === 0 || this.#layers.size === 0;
    // Until here a pass that fails puts back what the earlier ones have settled.
    if (done) this.#restoreStatistics.length = 0;
    return done;
  }

  readonly #restoreStatistics: (() => void)[] = [];

  #settle(layer: BatchNorm, { mean, variance, batches }: ReturnType<typeof statisticsOf>): void {
    const [runningMean, runningVar] = [layer.runningMean!, layer.runningVar!];
    const count = layer.numBatchesTracked;
    const before = [runningMean, runningVar].map((t) => t.data.slice());
    this.#restoreStatistics.push(() => {
      [runningMean, runningVar].forEach((t, i) => (t.data as Float64Array).set(before[i] as Float64Array));
      layer.numBatchesTracked = count;
    });
    (runningMean.data as Float64Array).set(mean, runningMean.offset);
    (runningVar.data as Float64Array).set(variance, runningVar.offset);
    layer.numBatchesTracked = batches;
  }

  restore(): void {
    for (const back of this.#restoreStatistics) back();
    for (const back of this.#undo) back();
  }
}

/** The statistics that a forward kept (native/core/statistic.h) as moments. */
function momentsOf(saved: Saved): Float64Array {
  const { statistics } = saved;
  const n = valuesBehind(saved);
  const moments = new Float64Array(statistics.length);
  for (let i = 0; i < statistics.length; i += 5) {
    const [mean, rest, variance, , scale] = statistics.subarray(i, i + 5) as unknown as number[];
    moments.set([n, mean! / scale!, rest! / scale!, (variance! * n) / scale! / scale!, 0], i);
  }
  return moments;
}

function statisticsOf(
  layer: BatchNorm,
  { moments, batches }: Seen,
): { mean: Float64Array; variance: Float64Array; batches: number } {
  const channels = moments.length / 5;
  const [mean, variance] = [new Float64Array(channels), new Float64Array(channels)];
  for (let c = 0; c < channels; c++) {
    const [n, high, low, m2, m2Low] = moments.subarray(5 * c, 5 * c + 5) as unknown as number[];
    if (n! < 2) {
      throw new StateError(
        'ERR_ONE_VALUE',
        `${where}: ${String(layer)} had ${n} values per channel in all batches; a variance needs at least 2`,
      );
    }
    mean[c] = high! + low!;
    variance[c] = (m2! + m2Low!) / (n! - 1);
  }
  return { mean, variance, batches };
}
