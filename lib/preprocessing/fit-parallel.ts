import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { checkOptions, checkSize, describe, StateError } from '../internal/errors';
import { dataOptions, type DataOptions } from './data';
import type { Answer, Failure, Task } from './fit-worker';
import { RunningMoments } from './running-moments';

export interface FitProgress {
  /** Files that are done, the failed ones included. */
  files: number;
  of: number;
  /** Parts of files that are done. */
  parts: number;
}
export interface FailedFile {
  file: string;
  error: Error;
}
/** Where a fit stands between two parts: what to go on from. */
export interface FitState {
  /** Of all files that are done; null before the first. */
  moments: RunningMoments | null;
  /** Of the file at work. */
  current: RunningMoments | null;
  /** How many files are done, and how many parts of the next one. */
  files: number;
  parts: number;
  failed: FailedFile[];
}
export interface FitParallelOptions extends DataOptions {
  /** Threads that read files; default os.availableParallelism(). */
  workers?: number | undefined;
  /** Whether a file that cannot be read ends it ('stop', default) or is left out ('skip') and listed in `failed`. */
  onError?: 'stop' | 'skip' | undefined;
  onProgress?: ((progress: FitProgress) => void) | undefined;
  signal?: AbortSignal | undefined;
  /** Called after each part, with what `from` takes to go on from there: as it is then, not to be changed. */
  onState?: ((state: FitState) => void) | undefined;
  from?: FitState | undefined;
}
export interface FitResult {
  moments: RunningMoments;
  failed: FailedFile[];
}

const where = 'fitParallel';

// What a part leaves behind is collected soon: left to itself each thread keeps some 30 MB more.
const resourceLimits = { maxYoungGenerationSizeMb: 8 };

/** One thread and what it is doing. Where it ends by itself, that is an answer, and the next task has another one. */
class Thread {
  #worker: Worker | null = null;
  #settle: ((answer: Answer) => void) | null = null;
  #over = false;

  #start(): Worker {
    const worker = new Worker(join(__dirname, 'fit-worker.js'), { resourceLimits });
    const end = (message: string): void => {
      if (this.#worker !== worker) return;
      this.#worker = null;
      this.#answer({ error: { name: 'Error', message } });
    };
    worker.on('message', (answer: Answer) => this.#answer(answer));
    worker.on('error', (error) => end(error.message));
    worker.on('exit', (code) => end(`a worker ended with code ${code}`));
    return worker;
  }

  #answer(answer: Answer): void {
    const waiting = this.#settle;
    this.#settle = null;
    waiting?.(answer);
  }

  ask(task: Task): Promise<Answer> {
    return new Promise((resolve) => {
      if (this.#over) return;
      this.#settle = resolve;
      this.#worker ??= this.#start();
      this.#worker.postMessage(task);
    });
  }

  /** From now on there are no answers. */
  end(): void {
    this.#over = true;
    this.#settle = null;
    void this.#worker?.terminate();
  }
}

/**
 * The statistics of files, read by a pool of threads.
 *
 * Parts of files (row groups of Parquet, 64 MiB of .npy, else whole files) are taken side by side and merged in their order, so
 * that the result has the same bits for any number of workers. A few parts are held at a time, whatever the files' size
 * and number.
 *
 * *Files*: .npy, .safetensors, .csv, .parquet, and images; folders are for `listData`. Tables need the optional packages
 * csv-parse and hyparquet, images sharp.
 *
 * *Options*: `workers`, `axis`, `columns`, `header`, `tensor`, `onError` ('stop'), `onProgress`, `signal`, and `onState` and `from` to go on after
 * an interruption.
 *
 * *Throws* what a reader or update throws, with the file's name before it; the reason of `signal`; RangeError where nothing
 * was read.
 *
 * @example
 * const { moments, failed } = await fitParallel(listData(['data']), { workers: 4, onError: 'skip' });
 */
export async function fitParallel(files: readonly string[], options: FitParallelOptions = {}): Promise<FitResult> {
  const own = ['workers', 'onError', 'onProgress', 'signal', 'onState', 'from'] as const;
  checkOptions(where, options, [...own, ...dataOptions]);
  if (!Array.isArray(files)) throw new TypeError(`${where}: files must be an array, but got ${describe(files)}`);
  const { onError = 'stop', signal, workers = availableParallelism(), axis, columns, header, tensor } = options;
  if (onError !== 'stop' && onError !== 'skip') {
    throw new TypeError(`${where}: onError must be 'stop' or 'skip', but got ${describe(onError)}`);
  }
  checkSize(where, 'workers', workers, 1);
  if (columns !== undefined && !Array.isArray(columns)) {
    throw new TypeError(`${where}: columns must be an array of names, but got ${describe(columns)}`);
  }
  signal?.throwIfAborted();
  const count = Math.min(workers, Math.max(1, files.length * 4));
  const job = new Job(files, { axis, columns, header, tensor }, options, onError, 4 * count);
  const threads = Array.from({ length: count }, () => new Thread());
  let stop: () => void = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal!.reason as Error);
    signal?.addEventListener('abort', stop, { once: true });
  });
  try {
    await Promise.race([Promise.all(threads.map((thread) => job.work(thread))), aborted]);
  } finally {
    signal?.removeEventListener('abort', stop);
    for (const thread of threads) thread.end();
  }
  const { moments, failed } = job.state;
  if (moments) return { moments, failed };
  throw failed[0]?.error ?? new RangeError(`${where}: there are no data`);
}

/** A file on its way: what is known of its parts, in their order. */
interface Open {
  index: number;
  parts: number;
  /** Asked for so far. */
  asked: number;
  results: Map<number, RunningMoments | null>;
  error: Error | null;
}

const unasked = ({ error, asked, parts }: Open): boolean => !error && asked < parts;

class Job {
  readonly state: FitState;
  readonly #open: Open[] = [];
  readonly #waiting: (() => void)[] = [];
  #opening = 0;
  #next: number;
  #parts = 0;

  constructor(
    private readonly files: readonly string[],
    private readonly data: DataOptions,
    private readonly options: FitParallelOptions,
    private readonly onError: 'stop' | 'skip',
    /** How many files may be open, and how many parts wait to be merged, where the first of them is slow. */
    private readonly most: number,
  ) {
    const { from } = options;
    this.state = from
      ? {
          ...from,
          moments: from.moments?.clone() ?? null,
          current: from.current?.clone() ?? null,
          failed: [...from.failed],
        }
      : { moments: null, current: null, files: 0, parts: 0, failed: [] };
    this.#next = this.state.files;
  }

  /** Gives a thread parts until there are none: those of a file that is open first, else the next file is opened. */
  async work(thread: Thread): Promise<void> {
    for (;;) {
      const open = this.#wanted();
      if (open) {
        const part = open.asked++;
        const answer = await thread.ask({ path: this.files[open.index]!, options: this.data, part });
        if ('error' in answer) open.error ??= this.#named(answer.error, open.index);
        else if ('moments' in answer) {
          open.results.set(part, answer.moments && RunningMoments.fromJSON(answer.moments));
        }
      } else if (this.#next < this.files.length && this.#open.length < this.most) {
        const index = this.#next++;
        const file: Open = { index, parts: 0, asked: 0, results: new Map(), error: null };
        this.#open.push(file);
        this.#opening++;
        const answer = await thread.ask({ path: this.files[index]!, options: this.data, part: null });
        this.#opening--;
        if ('error' in answer) file.error = this.#named(answer.error, index);
        else if ('parts' in answer) {
          file.parts = answer.parts;
          if (index === this.state.files) file.asked = this.state.parts;
        }
        if (file.asked >= file.parts && !file.error) {
          const before = file.asked > 0 ? `, and ${file.asked} were read before` : '';
          file.error = this.#named({ name: 'Error', message: `it has ${file.parts} parts${before}` }, index);
        }
      } else if (this.#opening > 0 || this.#next < this.files.length || this.#open.some(unasked)) {
        // Another thread is about to know of parts, or to bring what others wait for.
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
        continue;
      } else return;
      this.#settle();
      for (const wake of this.#waiting.splice(0)) wake();
    }
  }

  /** The first file that has parts to be asked for; the first of all, or few enough wait for those before them. */
  #wanted(): Open | undefined {
    const held = ({ asked }: Open, i: number): number => asked - (i === 0 ? this.state.parts : 0);
    const all = this.#open.reduce((sum, open, i) => sum + held(open, i), 0);
    return this.#open.find((open, i) => unasked(open) && (i === 0 ? held(open, i) : all) < this.most);
  }

  /** Merges what is next in the order of files and parts. */
  #settle(): void {
    const { state } = this;
    for (let open; (open = this.#open[0]);) {
      while (!open.error && open.results.has(state.parts)) {
        this.#merge(open);
        if (!open.error && state.parts < open.parts) this.#tell();
      }
      if (open.error) {
        if (this.onError === 'stop') throw open.error;
        state.failed.push({ file: this.files[open.index]!, error: open.error });
      } else if (open.parts === 0 || state.parts < open.parts) return;
      this.#open.shift();
      state.files++;
      state.parts = 0;
      state.current = null;
      this.#tell();
    }
  }

  /** Takes in the next part of a file; what is wrong with it is the file's error. */
  #merge(open: Open): void {
    const { state } = this;
    const part = open.results.get(state.parts)!;
    open.results.delete(state.parts);
    try {
      if (part) state.current = state.current ? state.current.merge(part) : part;
      state.parts++;
      this.#parts++;
      if (state.parts === open.parts && state.current) {
        // Against all before, so that a file of other features is left out whole.
        state.moments = state.moments ? state.moments.merge(state.current) : state.current;
      }
    } catch (error) {
      open.error = this.#named(error as Error, open.index);
      // Half of it may be in there.
      state.current = null;
      state.parts = 0;
    }
  }

  #tell(): void {
    const { onProgress, onState } = this.options;
    onProgress?.({ files: this.state.files, of: this.files.length, parts: this.#parts });
    onState?.(this.state);
  }

  /** The error with the file's name in front, of the class that it had on the other thread. */
  #named(error: Failure, index: number): Error {
    const file = this.files[index]!;
    const message = error.message.startsWith(file) ? error.message : `${file}: ${error.message}`;
    if (error.code !== undefined) return new StateError(error.code, message);
    return new (error.name === 'TypeError' ? TypeError : error.name === 'RangeError' ? RangeError : Error)(message);
  }
}
