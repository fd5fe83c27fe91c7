// The engine of worker_threads in one process: a SharedArrayBuffer in which every rank has a place of its own, and Atomics
// to wait on. A rank writes only there; each adds up what it reads in the order of ranks, so all get the same bits.

import { checkOptions, checkSize, describe, StateError } from '../internal/errors';
import {
  headerBytes,
  Kind,
  Outcome,
  type Collective,
  type Ended,
  type Engine,
  type GroupArray,
  type Operation,
} from './engine';

// The memory: [magic, size, groups, bytes of a slot], then for each group one line for its verdict and one for each rank,
// then for each group twice, because a rank may be a round ahead of one that still reads: for each rank a header and a slot.
const magic = 0x53444e47;
const line = 64;
const start = 64;

export interface ThreadGroupOptions {
  /** How many groups it has room for, with those that `newGroup` makes, closed ones too; default 16. */
  groups?: number | undefined;
  /** Bytes that a rank hands over at once; more take several rounds. Default 262144. */
  slotBytes?: number | undefined;
}

/**
 * Memory for a process group of `size` threads, to be handed to each as `workerData`, or by a message.
 *
 * @example
 * const memory = createThreadGroup(4);
 * for (let rank = 0; rank < 4; rank++) {
 *   const worker = new Worker(file, { workerData: { memory, rank } }); // there: initProcessGroup(workerData)
 *   worker.on('exit', () => threadEnded(memory, rank)); // heard only while this thread does not block
 * }
 */
export function createThreadGroup(size: number, options: ThreadGroupOptions = {}): SharedArrayBuffer {
  const where = 'createThreadGroup';
  checkSize(where, 'size', size, 1);
  checkOptions(where, options, ['groups', 'slotBytes']);
  const { groups = 16, slotBytes = 2 ** 18 } = options;
  checkSize(where, 'groups', groups, 1);
  checkSize(where, 'slotBytes', slotBytes, 8);
  // Whole elements of every type.
  const slot = Math.ceil(slotBytes / 8) * 8;
  const bytes = start + groups * (line + size * (line + 2 * (headerBytes + slot)));
  if (bytes > 2 ** 32) {
    throw new RangeError(
      `${where}: ${groups} groups of ${size} ranks with ${slot} bytes each need ${bytes} bytes, above 4 GiB`,
    );
  }
  const memory = new SharedArrayBuffer(bytes);
  new Int32Array(memory).set([magic, size, groups, slot]);
  return memory;
}

/**
 * Tells the other ranks that a thread has ended, for whoever hears of it (`worker.on('exit')`): what they wait for fails at
 * once, as 'ERR_PEER_LOST', and not when their time is over.
 */
export function threadEnded(memory: SharedArrayBuffer, rank: number): void {
  const { size, groups } = layoutOf(memory, 'threadEnded');
  checkRank('threadEnded', rank, size);
  for (let group = 0; group < groups; group++) new Place(memory, group, rank).close();
}

interface Layout {
  size: number;
  groups: number;
  slot: number;
}

function layoutOf(memory: unknown, where: string): Layout {
  const isShared = Object.prototype.toString.call(memory) === '[object SharedArrayBuffer]';
  const [found, size, groups, slot] = isShared ? new Int32Array(memory as SharedArrayBuffer, 0, 4) : [];
  if (found === magic) return { size: size!, groups: groups!, slot: slot! };
  throw new TypeError(`${where}: memory must come from createThreadGroup, but got ${describe(memory)}`);
}

function checkRank(where: string, rank: unknown, size: number): number {
  checkSize(where, 'rank', rank);
  if ((rank as number) < size) return rank as number;
  throw new RangeError(`${where}: rank must be below ${size}, but got ${rank as number}`);
}

/** What one rank of one group has in the memory. */
class Place {
  /** Twice the rounds it has come to, and one more when it has gone; then whether a thread has taken it. */
  readonly #state: Int32Array;
  readonly headers: Uint8Array[];
  readonly slots: Uint8Array[];

  constructor(memory: SharedArrayBuffer, group: number, rank: number) {
    const { size, groups, slot } = layoutOf(memory, 'ProcessGroup');
    const index = group * size + rank;
    this.#state = new Int32Array(memory, start + (group * (size + 1) + 1 + rank) * line, 2);
    const each = headerBytes + slot;
    const at = (parity: number): number => start + groups * (size + 1) * line + (2 * index + parity) * each;
    this.headers = [0, 1].map((parity) => new Uint8Array(memory, at(parity), headerBytes));
    this.slots = [0, 1].map((parity) => new Uint8Array(memory, at(parity) + headerBytes, slot));
  }

  /** Whether nobody has had it before. */
  claim(): boolean {
    return Atomics.compareExchange(this.#state, 1, 0, 1) === 0 && !this.isClosed;
  }
  get isClosed(): boolean {
    return (Atomics.load(this.#state, 0) & 1) === 1;
  }
  /** Whether this rank has come to the round; rounds may wrap around. */
  hasCome(round: number): boolean {
    return (((Atomics.load(this.#state, 0) & ~1) - (round << 1)) | 0) >= 0;
  }
  come(round: number): void {
    Atomics.store(this.#state, 0, (round << 1) | (Atomics.load(this.#state, 0) & 1));
    Atomics.notify(this.#state, 0);
  }
  close(): void {
    Atomics.or(this.#state, 0, 1);
    Atomics.notify(this.#state, 0);
  }
  /** What to wait on for a change, unless it has come or gone. */
  pending(round: number): Wait | null {
    const value = Atomics.load(this.#state, 0);
    return this.hasCome(round) || (value & 1) === 1 ? null : { state: this.#state, value };
  }
}

/**
 * Whether the ranks of a group have come together in a round. The first that sees all of them there, or gives up, settles
 * it for everybody: a rank that comes late must not go on where the others do not.
 */
class Verdict {
  /** Twice the latest round that was settled, and one more when it has failed. */
  readonly #word: Int32Array;

  constructor(memory: SharedArrayBuffer, group: number) {
    const { size } = layoutOf(memory, 'ProcessGroup');
    this.#word = new Int32Array(memory, start + group * (size + 1) * line, 1);
  }
  /** Whether the round has failed. */
  settle(round: number, fails: boolean): boolean {
    const [open, failed] = [(round - 1) << 1, (round << 1) | 1];
    const found = Atomics.compareExchange(this.#word, 0, open, fails ? failed : round << 1);
    return found === open ? fails : found === failed;
  }
}

interface Wait {
  state: Int32Array;
  value: number;
}

/** One collective on its way: asks for something to wait on, until it has ended. */
interface Running {
  steps: Generator<Wait, Ended>;
  deadline: number;
  /** What it waits on. */
  wait: Wait | null;
  ended: Ended | null;
  settle: (ended: Ended) => void;
}

const ok = (): Ended => ({ outcome: Outcome.ok, missing: [], headers: [], detail: '' });
const closed = (): Ended => ({ ...ok(), outcome: Outcome.closed });

export class ThreadEngine implements Engine {
  readonly name = 'threads';
  readonly size: number;
  readonly #places: readonly Place[];
  readonly #verdict: Verdict;
  /** Not yet ended, in their order; the first is under way. */
  readonly #queue: Running[] = [];
  readonly #slot: number;
  readonly #nextGroup: { id: number };
  #round = 0;
  #dead = false;

  /** `members`: the ranks of the whole memory that are in this group. */
  constructor(
    private readonly memory: SharedArrayBuffer,
    readonly rank: number,
    where: string,
    group = 0,
    private readonly members?: readonly number[],
    nextGroup = { id: 1 },
  ) {
    const { size, slot } = layoutOf(memory, where);
    this.size = members?.length ?? size;
    this.#slot = slot;
    this.#nextGroup = nextGroup;
    checkRank(where, rank, this.size);
    this.#verdict = new Verdict(memory, group);
    this.#places = Array.from({ length: this.size }, (_, r) => new Place(memory, group, members?.[r] ?? r));
    if (this.#places[rank]!.claim()) return;
    throw new StateError('ERR_RENDEZVOUS', `${where}: rank ${rank} of this memory is or was in use; make a new one`);
  }

  run(collective: Collective): Ended {
    const own = this.#add(collective, () => {});
    while (!own.ended) {
      const { wait, deadline } = this.#queue[0]!;
      if (wait) Atomics.wait(wait.state, 0, wait.value, Math.max(0, deadline - performance.now()));
      this.#advance();
    }
    return own.ended;
  }

  start(collective: Collective): Promise<Ended> {
    return new Promise((settle) => {
      this.#add(collective, settle);
      if (this.#queue.length === 1) void this.#drive();
    });
  }

  /** Waits, asynchronously, for whatever is first, until nothing is left. A `run` may do so in between. */
  async #drive(): Promise<void> {
    this.#advance();
    for (let first; (first = this.#queue[0]);) {
      const { wait, deadline } = first;
      const left = Math.max(0, deadline - performance.now());
      const { value } = Atomics.waitAsync(wait!.state, 0, wait!.value, left);
      // waitAsync alone does not keep the process alive.
      let timer: NodeJS.Timeout | undefined;
      const over = new Promise((resolve) => (timer = setTimeout(resolve, left)));
      await Promise.race([value, over]);
      clearTimeout(timer);
      this.#advance();
    }
  }

  #add(collective: Collective, settle: (ended: Ended) => void): Running {
    const steps = this.#steps(collective);
    const deadline = performance.now() + collective.timeoutMs;
    const running: Running = { steps, deadline, wait: null, ended: null, settle };
    this.#queue.push(running);
    return running;
  }

  /** Goes on with what is first as far as that goes without waiting. */
  #advance(): void {
    for (let first; (first = this.#queue[0]);) {
      const { done, value } = first.steps.next();
      if (!done) {
        first.wait = value;
        if (performance.now() < first.deadline) return;
        // Not if all have come just now, as another rank has seen.
        if (!this.#verdict.settle(this.#round, true)) continue;
        first.ended = this.#overdue();
      } else first.ended = value;
      this.#queue.shift();
      if (first.ended.outcome !== Outcome.ok) this.#dead = true;
      first.settle(first.ended);
    }
  }

  #overdue(): Ended {
    return { ...ok(), outcome: Outcome.timeout, missing: this.#missing((place) => !place.hasCome(this.#round)) };
  }
  #missing(is: (place: Place) => boolean): number[] {
    return this.#places.flatMap((place, rank) => (is(place) ? [rank] : []));
  }

  *#steps(c: Collective): Generator<Wait, Ended> {
    if (this.#dead) return closed();
    const { kind, input, output } = c;
    const [from, to] = [bytesOf(kind === Kind.broadcast && this.rank !== c.root ? null : (input ?? output)), output];
    const length = (input ?? output)?.byteLength ?? 0;
    // The first round has the header, and data as far as they go.
    for (let at = 0; at === 0 || at < length; at += this.#slot) {
      const n = Math.min(this.#slot, length - at);
      const round = ++this.#round;
      const mine = this.#places[this.rank]!;
      const parity = round & 1;
      mine.headers[parity]!.set(c.header);
      if (from) mine.slots[parity]!.set(from.subarray(at, at + n));
      mine.come(round);
      for (const place of this.#places) {
        for (let wait; (wait = place.pending(round));) yield wait;
      }
      if (mine.isClosed) return closed();
      const gone = this.#missing((place) => !place.hasCome(round));
      const hasFailed = this.#verdict.settle(round, gone.length > 0);
      if (gone.length > 0) return { ...ok(), outcome: Outcome.lost, missing: gone };
      if (hasFailed) return { ...ok(), outcome: Outcome.lost, detail: 'the others have given up waiting for this one' };
      if (at === 0) {
        const headers = this.#places.map((place) => place.headers[parity]!.slice());
        if (headers.some((header) => Buffer.compare(header, c.header) !== 0)) {
          return { ...ok(), outcome: Outcome.mismatch, headers };
        }
      }
      if (to && n > 0) this.#take(c, to, at, n, parity);
    }
    return ok();
  }

  /** Bytes [at, at + n) of the result. */
  #take({ kind, operation, root }: Collective, output: GroupArray, at: number, n: number, parity: number): void {
    const part = (rank: number): Uint8Array => this.#places[rank]!.slots[parity]!.subarray(0, n);
    const to = bytesOf(output)!;
    if (kind === Kind.broadcast) to.set(part(root), at);
    else if (kind === Kind.gather) {
      const each = to.length / this.size;
      for (let rank = 0; rank < this.size; rank++) to.set(part(rank), rank * each + at);
    } else {
      const Kind = output.constructor as new (buffer: ArrayBufferLike, offset: number, length: number) => Float64Array;
      const of = (bytes: Uint8Array): Float64Array =>
        new Kind(bytes.buffer, bytes.byteOffset, bytes.length / output.BYTES_PER_ELEMENT);
      const total = of(to.subarray(at, at + n));
      total.set(of(part(0)));
      for (let rank = 1; rank < this.size; rank++) reduce[operation](total, of(part(rank)));
    }
  }

  split(ranks: readonly number[], timeoutMs: number): { ended: Ended; engine: Engine | null } {
    const ids = this.#ids(timeoutMs);
    return this.#splitAs(ranks, this.run(ids), ids);
  }
  async splitAsync(ranks: readonly number[], timeoutMs: number): Promise<{ ended: Ended; engine: Engine | null }> {
    const ids = this.#ids(timeoutMs);
    return this.#splitAs(ranks, await this.start(ids), ids);
  }

  /** The first number of a group that is free on all ranks. */
  #ids(timeoutMs: number): Collective {
    const output = Int32Array.of(this.#nextGroup.id);
    const header = new Uint8Array(headerBytes);
    return { kind: Kind.reduce, operation: 'max', root: 0, header, input: null, output, timeoutMs };
  }
  #splitAs(
    ranks: readonly number[],
    ended: Ended,
    { output }: Collective,
  ): { ended: Ended; engine: ThreadEngine | null } {
    if (ended.outcome !== Outcome.ok) return { ended, engine: null };
    const id = Number(output![0]);
    this.#nextGroup.id = id + 1;
    const { groups } = layoutOf(this.memory, 'ProcessGroup.newGroup');
    if (id >= groups) {
      throw new RangeError(
        `ProcessGroup.newGroup: the memory has room for ${groups} groups, and closed ones keep theirs: ` +
          'createThreadGroup(size, { groups })',
      );
    }
    const rank = ranks.indexOf(this.rank);
    if (rank < 0) return { ended, engine: null };
    const members = ranks.map((r) => this.members?.[r] ?? r);
    return {
      ended,
      engine: new ThreadEngine(this.memory, rank, 'ProcessGroup.newGroup', id, members, this.#nextGroup),
    };
  }

  close(): void {
    this.#dead = true;
    this.#places[this.rank]!.close();
    for (const { settle } of this.#queue.splice(0)) settle(closed());
  }
}

const bytesOf = (x: GroupArray | null): Uint8Array | null => x && new Uint8Array(x.buffer, x.byteOffset, x.byteLength);

type Numbers = Float64Array;
/** a becomes a with b; of BigInts too, which have the same operators. */
const reduce: Record<Operation, (a: Numbers, b: Numbers) => void> = {
  sum: (a, b) => b.forEach((v, i) => (a[i]! += v)),
  prod: (a, b) => b.forEach((v, i) => (a[i]! *= v)),
  min: (a, b) => b.forEach((v, i) => (a[i] = v < a[i]! || v !== v ? v : a[i]!)),
  max: (a, b) => b.forEach((v, i) => (a[i] = v > a[i]! || v !== v ? v : a[i]!)),
};
