// What a process group asks of an engine: collectives of bytes, each announced by a header that must be the same on all ranks.

export type EngineName = 'gloo' | 'mpi' | 'threads' | 'single';

/** Numbers of native/distributed/engine.h. */
export const Kind = { barrier: 0, gather: 1, reduce: 2, broadcast: 3 } as const;
export const operations = { sum: 0, prod: 1, min: 2, max: 3 } as const;
export const Outcome = { ok: 0, timeout: 1, lost: 2, mismatch: 3, closed: 4, failed: 5 } as const;
export const headerBytes = 256;

export type Operation = keyof typeof operations;
export type GroupArray = Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array | Int8Array;

/** One collective. Its arrays are the engine's alone until it has ended. */
export interface Collective {
  kind: (typeof Kind)[keyof typeof Kind];
  operation: Operation;
  root: number;
  /** `headerBytes` bytes. */
  header: Uint8Array;
  /** Of 'gather': what this rank brings. */
  input: GroupArray | null;
  /** Of 'gather': all of it, by rank, `size` times as long. Of 'reduce' and 'broadcast': in place. */
  output: GroupArray | null;
  timeoutMs: number;
}

/** How it ended: after anything but `ok` the group is dead. */
export interface Ended {
  outcome: (typeof Outcome)[keyof typeof Outcome];
  /** Ranks that did not come, or whose connection is gone; may be empty where the engine does not know. */
  missing: number[];
  /** Of `mismatch`: the headers by rank. */
  headers: Uint8Array[];
  /** The engine's own words, or ''. */
  detail: string;
}

export interface Engine {
  readonly name: EngineName;
  readonly rank: number;
  readonly size: number;
  /** Waits for those that were started before. */
  run(collective: Collective): Ended;
  start(collective: Collective): Promise<Ended>;
  /**
   * An engine for these ranks, ascending; null on ranks that are not among them. All ranks of this one call it, after a
   * barrier has shown that they agree.
   */
  split(ranks: readonly number[], timeoutMs: number): { ended: Ended; engine: Engine | null };
  splitAsync(ranks: readonly number[], timeoutMs: number): Promise<{ ended: Ended; engine: Engine | null }>;
  /** What runs or waits ends with `closed`. */
  close(): void;
}
