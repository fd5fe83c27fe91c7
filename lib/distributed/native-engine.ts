// An engine behind the functions of native/bindings/group.cc, which every addon with an engine exports.

import {
  headerBytes,
  operations,
  Outcome,
  type Collective,
  type Ended,
  type Engine,
  type EngineName,
  type GroupArray,
} from './engine';

/** What is known of how a call ended: headers, missing, detail. */
type Report = readonly [headers: Uint8Array, missing: Uint8Array, detail: Uint8Array];
type RunArguments = [
  handle: number,
  block: Float64Array,
  header: Uint8Array,
  input: GroupArray | null,
  output: GroupArray | null,
  ...report: Report,
];
type SplitArguments = [handle: number, ranks: Int32Array, timeoutMs: number, ...report: Report, made: Float64Array];
type Settle = (outcome: number) => void;

/** All return an outcome; work was started, and `settle` is called, where that is 0. */
export interface GroupFunctions {
  groupRun(...all: RunArguments): number;
  groupStart(...all: [...RunArguments, Settle]): number;
  groupSplit(...all: SplitArguments): number;
  groupSplitStart(...all: [...SplitArguments, Settle]): number;
  groupClose(handle: number): void;
}

export const detailBytes = 512;

/** UTF-8 up to the first 0. */
export function wordsOf(detail: Uint8Array): string {
  const end = detail.indexOf(0);
  return new TextDecoder().decode(end < 0 ? detail : detail.subarray(0, end));
}

function started(start: (settle: Settle) => number): Promise<number> {
  return new Promise((resolve) => {
    const refused = start(resolve);
    if (refused !== Outcome.ok) resolve(refused);
  });
}

export class NativeEngine implements Engine {
  /** Of blocking calls, which cannot overlap. */
  readonly #report: Report;

  constructor(
    readonly name: EngineName,
    readonly functions: GroupFunctions,
    readonly handle: number,
    readonly rank: number,
    readonly size: number,
  ) {
    this.#report = this.#newReport();
  }

  run(collective: Collective): Ended {
    const outcome = this.functions.groupRun(...this.#arguments(collective, this.#report));
    return this.#ended(outcome, this.#report);
  }

  async start(collective: Collective): Promise<Ended> {
    const report = this.#newReport();
    const all = this.#arguments(collective, report);
    return this.#ended(await started((settle) => this.functions.groupStart(...all, settle)), report);
  }

  split(ranks: readonly number[], timeoutMs: number): { ended: Ended; engine: Engine | null } {
    const made = new Float64Array(1);
    const all: SplitArguments = [this.handle, Int32Array.from(ranks), timeoutMs, ...this.#report, made];
    return this.#part(ranks, this.#ended(this.functions.groupSplit(...all), this.#report), made);
  }

  async splitAsync(ranks: readonly number[], timeoutMs: number): Promise<{ ended: Ended; engine: Engine | null }> {
    const report = this.#newReport();
    const made = new Float64Array(1);
    const all: SplitArguments = [this.handle, Int32Array.from(ranks), timeoutMs, ...report, made];
    const outcome = await started((settle) => this.functions.groupSplitStart(...all, settle));
    return this.#part(ranks, this.#ended(outcome, report), made);
  }

  close(): void {
    this.functions.groupClose(this.handle);
  }

  #newReport(): Report {
    return [new Uint8Array(this.size * headerBytes), new Uint8Array(this.size), new Uint8Array(detailBytes)];
  }

  #arguments(c: Collective, report: Report): RunArguments {
    const block = Float64Array.of(c.kind, operations[c.operation], c.root, c.timeoutMs);
    return [this.handle, block, c.header, c.input, c.output, ...report];
  }

  #ended(outcome: number, [headers, missing, detail]: Report): Ended {
    const ended: Ended = { outcome: outcome as Ended['outcome'], missing: [], headers: [], detail: '' };
    if (outcome === Outcome.ok) return ended;
    for (let rank = 0; rank < this.size; rank++) {
      if (missing[rank]) ended.missing.push(rank);
      ended.headers.push(headers.slice(rank * headerBytes, (rank + 1) * headerBytes));
    }
    ended.detail = wordsOf(detail);
    // A closed group, which has no memory to report to, must not repeat this.
    for (const part of [headers, missing, detail]) part.fill(0);
    return ended;
  }

  #part(ranks: readonly number[], ended: Ended, made: Float64Array): { ended: Ended; engine: Engine | null } {
    const [handle] = made as unknown as [number];
    if (ended.outcome !== Outcome.ok || handle < 0) return { ended, engine: null };
    return {
      ended,
      engine: new NativeEngine(this.name, this.functions, handle, ranks.indexOf(this.rank), ranks.length),
    };
  }
}
