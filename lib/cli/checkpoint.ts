// Where `simdnorm stats` stands, beside its result: exactly, and of which data.

import { createHash } from 'node:crypto';
import { rmSync, statSync } from 'node:fs';
import { StateError } from '../internal/errors';
import { readSafetensors, writeSafetensors } from '../io/safetensors';
import type { FitState } from '../preprocessing';
import { RunningMoments } from '../preprocessing';
import type { DataOptions } from '../preprocessing/data';
import type { Tensor } from '../tensor';

const format = 'simdnorm.checkpoint';
const everyMs = 1000;

export class Checkpoint {
  readonly path: string;
  readonly #identity: string;
  #written = 0;
  #latest: FitState | null = null;

  constructor(out: string, files: readonly string[], options: DataOptions) {
    this.path = `${out}.checkpoint`;
    const known = files.map((file) => {
      const { size, mtimeMs } = statSync(file);
      return [file, size, mtimeMs];
    });
    this.#identity = createHash('sha256')
      .update(JSON.stringify([known, options]))
      .digest('hex');
  }

  /** Null where there is none. */
  read(): FitState | null {
    let found;
    try {
      found = readSafetensors(this.path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
    const { tensors, metadata } = found;
    if (metadata.get('format') !== format || metadata.get('identity') !== this.#identity) {
      throw new StateError(
        'ERR_CHECKPOINT',
        `${this.path} is of other data, other options or files that have changed since; remove it to begin anew`,
      );
    }
    const of = (name: string): RunningMoments | null => {
      const about = metadata.get(name);
      if (about === undefined) return null;
      const own = [...tensors].filter(([key]) => key.startsWith(`${name}.`));
      const fields = new Map(own.map(([key, t]) => [key.slice(name.length + 1), t]));
      return RunningMoments.fromTensors(fields, JSON.parse(about) as Record<string, string>);
    };
    const failed = JSON.parse(metadata.get('failed')!) as { file: string; message: string }[];
    return {
      moments: of('moments'),
      current: of('current'),
      files: Number(metadata.get('files')),
      parts: Number(metadata.get('parts')),
      failed: failed.map(({ file, message }) => ({ file, error: new Error(message) })),
    };
  }

  /** Takes note of a state, and writes one now and then. */
  note(state: FitState): void {
    this.#latest = state;
    if (performance.now() - this.#written >= everyMs) this.flush();
  }

  flush(): void {
    if (!this.#latest) return;
    const { moments, current, files, parts, failed } = this.#latest;
    const tensors = new Map<string, Tensor>();
    const metadata: Record<string, string> = {
      format,
      identity: this.#identity,
      files: String(files),
      parts: String(parts),
      failed: JSON.stringify(failed.map(({ file, error }) => ({ file, message: error.message }))),
    };
    for (const [name, state] of Object.entries({ moments, current })) {
      if (!state) continue;
      metadata[name] = JSON.stringify(state.metadata());
      for (const [field, t] of state.toTensors()) tensors.set(`${name}.${field}`, t);
    }
    writeSafetensors(this.path, tensors, { metadata });
    this.#written = performance.now();
  }

  remove(): void {
    rmSync(this.path, { force: true });
  }
}
