// Ranks that work together, whatever carries their data. Every collective is announced by a header that says what it is, so
// that ranks which came to different calls all get an error that names both, instead of a hang or of wrong numbers.

import { arrayKind, checkNumber, checkOptions, checkSize, describe, lengthOf, StateError } from '../internal/errors';
import {
  headerBytes,
  Kind,
  operations,
  Outcome,
  type Collective,
  type Ended,
  type Engine,
  type EngineName,
  type GroupArray,
  type Operation,
} from './engine';

export type { EngineName, GroupArray } from './engine';
/** 'avg' is the sum divided by the number of ranks, of floats only. */
export type ReduceOperation = Operation | 'avg';

export interface CollectiveOptions {
  /** Milliseconds until it gives up; default the group's. */
  timeout?: number | undefined;
}
export interface ReduceOptions extends CollectiveOptions {
  /** Default 'sum'. */
  op?: ReduceOperation | undefined;
}
export interface BroadcastOptions extends CollectiveOptions {
  /** The rank whose data all take; default 0. */
  root?: number | undefined;
}

/** Why a collective failed. The group cannot be used any more; a new one can be made. */
export class GroupError extends StateError {
  constructor(
    code: string,
    message: string,
    /** The ranks that were missed, of this group; empty where the engine cannot tell. */
    readonly ranks: readonly number[],
    readonly operation: string,
    /** How long this rank had waited. */
    readonly seconds: number,
  ) {
    super(code, message);
  }
}

const arrays = ['Float32Array', 'Float64Array', 'Int32Array', 'BigInt64Array', 'Uint8Array', 'Int8Array'];

/** What is to be done, as it is announced. */
interface Call {
  kind: Collective['kind'];
  /** For messages and for the header: 'allReduce'. */
  name: string;
  /** Who calls: 'ProcessGroup.allReduce', or a layer. */
  where: string;
  input: GroupArray | null;
  output: GroupArray | null;
  operation: Operation;
  root: number;
  /** What else the ranks must agree on. */
  detail: string;
  timeout: number | undefined;
}

/** The version of what headers say. */
const wire = 1;

/**
 * Ranks that work together: one in each process or thread, numbered from 0. Made by `initProcessGroup` and `newGroup`.
 *
 * All ranks make the same calls in the same order. Each call has a blocking form, which stops this thread and its event
 * loop until all ranks have come or `timeout` (milliseconds; the group's is 60,000 unless it was given another) is over,
 * and one whose name ends in Async, which returns a promise. Data are typed arrays; all ranks bring the same length. All
 * get the same bits.
 *
 * *Throws* (rejects with) GroupError, whose `code` is 'ERR_PEER_TIMEOUT' where ranks did not come in time, 'ERR_PEER_LOST'
 * where they have ended, 'ERR_MISMATCH' where they came to another call, 'ERR_ENGINE' for what the engine has to say, and
 * 'ERR_GROUP_CLOSED' for every call after one of these or after `close`. The message names the ranks. x is then as it was.
 *
 * *Matches* torch.distributed's process groups. Differences: methods of an object; every call checks that all ranks mean
 * the same one.
 *
 * @example
 * const group = await initProcessGroup();
 * group.allReduce(loss, { op: 'avg' });
 */
export class ProcessGroup {
  /** Milliseconds that a call waits unless it says otherwise. */
  readonly timeout: number;
  readonly #engine: Engine;
  readonly #ended: () => void;
  #sequence = 0;
  #failure: string | null = null;
  #hasClosed = false;

  /**
   * @internal
   * `ended` is called once, when the group is closed.
   */
  constructor(engine: Engine, timeout: number, ended: () => void = () => {}) {
    this.#engine = engine;
    this.timeout = timeout;
    this.#ended = ended;
  }

  /** The number of this rank, from 0. */
  get rank(): number {
    return this.#engine.rank;
  }
  /** How many ranks there are. */
  get size(): number {
    return this.#engine.size;
  }
  /** What carries the data. */
  get engine(): EngineName {
    return this.#engine.name;
  }
  /** Whether it was closed, or a call has failed. */
  get isClosed(): boolean {
    return this.#failure !== null;
  }

  /** x becomes the sum (or `op`) of all ranks' x, element by element. */
  allReduce<A extends GroupArray>(x: A, options: ReduceOptions = {}): A {
    return this.reduce(x, 'ProcessGroup.allReduce', options);
  }
  /** The same; x is read at the call, and written when the promise resolves. */
  async allReduceAsync<A extends GroupArray>(x: A, options: ReduceOptions = {}): Promise<A> {
    return this.reduceAsync(x, 'ProcessGroup.allReduce', options);
  }

  /**
   * The same for a caller of its own name.
   * @internal
   */
  reduce<A extends GroupArray>(x: A, where: string, options: ReduceOptions): A {
    const { call, finish } = this.#reduction(x, where, options);
    this.#run(call);
    return finish();
  }
  /** @internal */
  async reduceAsync<A extends GroupArray>(x: A, where: string, options: ReduceOptions): Promise<A> {
    const { call, finish } = this.#reduction(x, where, options);
    await this.#start(call);
    return finish();
  }

  /** What all ranks brought, by rank. */
  allGather<A extends GroupArray>(x: A, options: CollectiveOptions = {}): A[] {
    const call = this.#gathering(x, 'ProcessGroup.allGather', '', options);
    this.#run(call);
    return split(call.output as A, this.size);
  }
  async allGatherAsync<A extends GroupArray>(x: A, options: CollectiveOptions = {}): Promise<A[]> {
    const call = this.#gathering(x, 'ProcessGroup.allGather', '', options);
    await this.#start(call);
    return split(call.output as A, this.size);
  }

  /**
   * What all ranks brought, one after the other, for a caller of its own name who wants `detail` to be the same on all ranks.
   * @internal
   */
  gather(x: Float64Array, where: string, detail: string, options: CollectiveOptions = {}): Float64Array {
    const call = this.#gathering(x, where, detail, options);
    this.#run(call);
    return call.output as Float64Array;
  }
  /** @internal */
  async gatherAsync(
    x: Float64Array,
    where: string,
    detail: string,
    options: CollectiveOptions = {},
  ): Promise<Float64Array> {
    const call = this.#gathering(x, where, detail, options);
    await this.#start(call);
    return call.output as Float64Array;
  }

  /** x becomes what rank `root` has. */
  broadcast<A extends GroupArray>(x: A, options: BroadcastOptions = {}): A {
    return this.send(x, 'ProcessGroup.broadcast', options);
  }
  /** The same; x is read at the call, and written when the promise resolves. */
  async broadcastAsync<A extends GroupArray>(x: A, options: BroadcastOptions = {}): Promise<A> {
    return this.sendAsync(x, 'ProcessGroup.broadcast', options);
  }

  /**
   * The same for a caller of its own name.
   * @internal
   */
  send<A extends GroupArray>(x: A, where: string, options: BroadcastOptions): A {
    const { call, finish } = this.#broadcasting(x, where, options);
    this.#run(call);
    return finish();
  }
  /** @internal */
  async sendAsync<A extends GroupArray>(x: A, where: string, options: BroadcastOptions): Promise<A> {
    const { call, finish } = this.#broadcasting(x, where, options);
    await this.#start(call);
    return finish();
  }

  /** Returns when all ranks have called it. */
  barrier(options: CollectiveOptions = {}): void {
    this.#run(this.#waiting('barrier', '', options));
  }
  async barrierAsync(options: CollectiveOptions = {}): Promise<void> {
    await this.#start(this.#waiting('barrier', '', options));
  }

  /**
   * A group of some of these ranks, which are numbered in ascending order there; null on those that are not among them. All
   * ranks of this group call it, with the same ranks. Its timeout is this group's.
   */
  newGroup(ranks: readonly number[], options: CollectiveOptions = {}): ProcessGroup | null {
    const { sorted, call, timeout } = this.#splitting(ranks, options);
    const began = performance.now();
    this.#run(call);
    return this.#made(call, began, this.#engine.split(sorted, leftOf(timeout, began)));
  }
  async newGroupAsync(ranks: readonly number[], options: CollectiveOptions = {}): Promise<ProcessGroup | null> {
    const { sorted, call, timeout } = this.#splitting(ranks, options);
    const began = performance.now();
    await this.#start(call);
    return this.#made(call, began, await this.#engine.splitAsync(sorted, leftOf(timeout, began)));
  }

  /**
   * Ends it: calls that are under way, and all later ones, fail with 'ERR_GROUP_CLOSED'. Other ranks that wait find this one
   * gone; over mpi they may wait until their time is over.
   */
  close(): void {
    this.#failure ??= 'it was closed';
    if (this.#hasClosed) return;
    this.#hasClosed = true;
    this.#engine.close();
    this.#ended();
  }

  toString(): string {
    return `ProcessGroup(rank ${this.rank} of ${this.size}, ${this.engine})`;
  }

  #reduction<A extends GroupArray>(x: A, where: string, options: ReduceOptions): { call: Call; finish: () => A } {
    checkOptions(where, options, ['op', 'timeout']);
    const { op = 'sum', timeout } = options;
    const known = [...Object.keys(operations), 'avg'];
    if (!known.includes(op)) {
      throw new (typeof op === 'string' ? RangeError : TypeError)(
        `${where}: op must be one of '${known.join("', '")}', but got ${describe(op)}`,
      );
    }
    const output = own(x, where);
    const isFloat = output instanceof Float32Array || output instanceof Float64Array;
    if (op === 'avg' && !isFloat) throw new TypeError(`${where}: 'avg' is of floats, but got ${describe(x)}`);
    const operation = op === 'avg' ? 'sum' : op;
    const call = { ...this.#call(where, 'allReduce', Kind.reduce, timeout), output, operation, detail: op };
    const finish = (): A => {
      if (op === 'avg') for (let i = 0; i < output.length; i++) (output as Float64Array)[i]! /= this.size;
      return deliver(output as A, x, where);
    };
    return { call, finish };
  }

  #gathering<A extends GroupArray>(x: A, where: string, detail: string, options: CollectiveOptions): Call {
    checkOptions(where, options, ['timeout']);
    const input = own(x, where);
    const output = emptyLike(x, input.length * this.size);
    return { ...this.#call(where, 'allGather', Kind.gather, options.timeout), input, output, detail };
  }

  #broadcasting<A extends GroupArray>(x: A, where: string, options: BroadcastOptions): { call: Call; finish: () => A } {
    checkOptions(where, options, ['root', 'timeout']);
    const root = this.#checkRank(options.root ?? 0, where, 'root');
    const output = own(x, where);
    const detail = `of rank ${root}`;
    const call = { ...this.#call(where, 'broadcast', Kind.broadcast, options.timeout), output, root, detail };
    return { call, finish: () => deliver(output as A, x, where) };
  }

  #waiting(name: string, detail: string, options: CollectiveOptions): Call {
    const where = `ProcessGroup.${name}`;
    checkOptions(where, options, ['timeout']);
    return { ...this.#call(where, name, Kind.barrier, options.timeout), detail };
  }

  #splitting(ranks: readonly number[], options: CollectiveOptions): { sorted: number[]; call: Call; timeout: number } {
    const where = 'ProcessGroup.newGroup';
    if (!Array.isArray(ranks)) throw new TypeError(`${where}: ranks must be an array, but got ${describe(ranks)}`);
    if (ranks.length === 0) throw new RangeError(`${where}: ranks must not be empty`);
    const sorted = ranks.map((rank, i) => this.#checkRank(rank, where, `ranks[${i}]`)).sort((a, b) => a - b);
    const twice = sorted.find((rank, i) => rank === sorted[i - 1]);
    if (twice !== undefined) throw new RangeError(`${where}: ranks has ${twice} twice`);
    const call = this.#waiting('newGroup', `of [${sorted.join(', ')}]`, options);
    return { sorted, call, timeout: call.timeout ?? this.timeout };
  }

  #made(call: Call, began: number, { ended, engine }: { ended: Ended; engine: Engine | null }): ProcessGroup | null {
    if (ended.outcome !== Outcome.ok) throw this.#failed(call, ended, performance.now() - began);
    return engine && new ProcessGroup(engine, this.timeout);
  }

  #checkRank(rank: unknown, where: string, name: string): number {
    checkSize(where, name, rank);
    if ((rank as number) < this.size) return rank as number;
    throw new RangeError(`${where}: ${name} must be a rank below ${this.size}, but got ${rank as number}`);
  }

  #call(where: string, name: string, kind: Call['kind'], timeout: number | undefined): Call {
    if (timeout !== undefined) checkTimeout(where, timeout);
    return { kind, name, where, input: null, output: null, operation: 'sum', root: 0, detail: '', timeout };
  }

  #run(call: Call): void {
    const collective = this.#announce(call);
    const began = performance.now();
    const ended = this.#engine.run(collective);
    if (ended.outcome !== Outcome.ok) throw this.#failed(call, ended, performance.now() - began);
  }

  async #start(call: Call): Promise<void> {
    const collective = this.#announce(call);
    const began = performance.now();
    const ended = await this.#engine.start(collective);
    if (ended.outcome !== Outcome.ok) throw this.#failed(call, ended, performance.now() - began);
  }

  #announce(call: Call): Collective {
    if (this.#failure !== null) {
      throw new GroupError(
        'ERR_GROUP_CLOSED',
        `${call.where}: the group of rank ${this.rank} cannot be used: ${this.#failure}; make a new one`,
        [],
        call.name,
        0,
      );
    }
    const { kind, operation, root, input, output, timeout } = call;
    const header = headerOf(this.#sequence++, call);
    return { kind, operation, root, header, input, output, timeoutMs: timeout ?? this.timeout };
  }

  #failed(call: Call, { outcome, missing, headers, detail }: Ended, milliseconds: number): GroupError {
    const seconds = milliseconds / 1000;
    const ranks = missing.filter((rank) => rank !== this.rank);
    const named = ranks.length === 0 ? 'a rank' : `rank${ranks.length > 1 ? 's' : ''} ${ranks.join(', ')}`;
    const here = `${call.where}: on rank ${this.rank} of ${this.size} (${this.engine})`;
    const doing = `${call.name}${call.detail && `, ${call.detail}`}`;
    const [code, what] = ((): [string, string] => {
      switch (outcome) {
        case Outcome.timeout:
          return ['ERR_PEER_TIMEOUT', `${named} did not come to ${doing} within ${seconds.toFixed(2)} s`];
        case Outcome.lost:
          return [
            'ERR_PEER_LOST',
            `${named} ${ranks.length > 1 ? 'are' : 'is'} gone, ${seconds.toFixed(2)} s into ${doing}`,
          ];
        case Outcome.mismatch:
          return ['ERR_MISMATCH', `the ranks came to different calls: ${differences(headers)}`];
        case Outcome.closed:
          return ['ERR_GROUP_CLOSED', `the group was closed, ${seconds.toFixed(2)} s into ${doing}`];
        default:
          return ['ERR_ENGINE', `${doing} failed after ${seconds.toFixed(2)} s`];
      }
    })();
    const message = `${here}: ${what}${detail && ` (${detail})`}`;
    this.#failure ??= `it failed before (${what})`;
    return new GroupError(code, message, ranks, call.name, seconds);
  }
}

const leftOf = (timeout: number, began: number): number => Math.max(1, timeout - (performance.now() - began));

/** What each rank came for: the first of each kind. */
function differences(headers: readonly Uint8Array[]): string {
  const said = new Map<string, number>();
  headers.forEach((header, rank) => {
    const text = textOf(header);
    if (!said.has(text)) said.set(text, rank);
  });
  return [...said].map(([text, rank]) => `rank ${rank} to ${text}`).join('; ');
}

/** The header of call `sequence`: 8 bytes of that, then words, with a digest where they do not fit. */
function headerOf(sequence: number, { name, where, input, output, detail }: Call): Uint8Array {
  const data = input ?? output;
  const of = data ? ` of ${arrayKind(data)} x ${data.length}` : '';
  const by = where === `ProcessGroup.${name}` ? '' : ` in ${where}`;
  const words = new TextEncoder().encode(`${name}${of}${by}${detail && `, ${detail}`}`);
  const header = new Uint8Array(headerBytes);
  new DataView(header.buffer).setFloat64(0, sequence);
  header[8] = wire;
  if (words.length <= headerBytes - 9) {
    header.set(words, 9);
  } else {
    const end = new TextEncoder().encode(`... ${digestOf(words)}`);
    header.set(words.subarray(0, headerBytes - 9 - end.length), 9);
    header.set(end, headerBytes - end.length);
  }
  return header;
}

/** FNV-1a, of 64 bits: tells texts apart, and is no protection. */
function digestOf(words: Uint8Array): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of words) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash.toString(16).padStart(16, '0');
}

function textOf(header: Uint8Array): string {
  const sequence = new DataView(header.buffer, header.byteOffset).getFloat64(0);
  const end = header.indexOf(0, 9);
  // A copy: TextDecoder of browsers takes nothing shared.
  const words = new TextDecoder().decode(header.slice(9, end < 0 ? headerBytes : end));
  return `its call ${sequence + 1}, ${words}${header[8] === wire ? '' : ` (wire version ${header[8]})`}`;
}

export function checkTimeout(where: string, timeout: unknown): number {
  if (checkNumber(where, 'timeout', timeout) > 0 && (timeout as number) < 2 ** 31) return timeout as number;
  throw new RangeError(`${where}: timeout must be milliseconds above 0 and below 2^31, but got ${timeout as number}`);
}

/** A copy, which nobody else can take away. */
function own<A extends GroupArray>(x: A, where: string): A {
  const kind = arrayKind(x);
  if (!arrays.includes(kind!)) {
    throw new TypeError(`${where}: data must be one of ${arrays.join(', ')}, but got ${describe(x)}`);
  }
  const copy = emptyLike(x, lengthOf(x));
  copy.set(x as never);
  return copy;
}

function emptyLike<A extends GroupArray>(x: A, length: number): A {
  const Kinds = { Float32Array, Float64Array, Int32Array, BigInt64Array, Uint8Array, Int8Array };
  return new Kinds[arrayKind(x) as keyof typeof Kinds](length) as A;
}

function deliver<A extends GroupArray>(from: A, to: A, where: string): A {
  if (lengthOf(to) !== from.length) {
    throw new RangeError(`${where}: data had ${from.length} elements at the call and ${lengthOf(to)} at its end`);
  }
  to.set(from as never);
  return to;
}

function split<A extends GroupArray>(all: A, size: number): A[] {
  const each = all.length / size;
  return Array.from({ length: size }, (_, rank) => all.slice(rank * each, (rank + 1) * each) as A);
}

let byDefault: ProcessGroup | null = null;

/** The group that `initProcessGroup` made, until it is closed; layers without one of their own use it. */
export function defaultGroup(): ProcessGroup | null {
  return byDefault;
}
/** @internal */
export function setDefaultGroup(group: ProcessGroup | null): void {
  byDefault = group;
}
