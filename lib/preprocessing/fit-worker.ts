// What a thread of fitParallel does: opens files, and takes parts of them.

import { parentPort } from 'node:worker_threads';
import { openData, type DataFile, type DataOptions } from './data';
import { fitPart } from './fit';
import type { RunningMomentsJSON } from './running-moments';

export type Task = { path: string; options: DataOptions; part: number | null };
/** Of an opened file how many parts it has; of a part its statistics. */
export type Answer = { parts: number } | { moments: RunningMomentsJSON | null } | { error: Failure };
/** An error as it crosses threads, which keep no code. */
export interface Failure {
  name: string;
  message: string;
  code?: string | undefined;
}

// The latest file only: the parts of one are asked for one after the other.
let latest: { key: string; file: DataFile } | null = null;

async function answer({ path, options, part }: Task): Promise<Answer> {
  try {
    const key = JSON.stringify([path, options]);
    if (latest?.key !== key) latest = { key, file: await openData(path, options) };
    const { file } = latest;
    if (part === null) return { parts: file.parts };
    const moments = await fitPart(file, part);
    return { moments: moments && moments.toJSON() };
  } catch (error) {
    const { name, message, code } = error as NodeJS.ErrnoException;
    return { error: { name, message: message ?? String(error), code } };
  }
}

parentPort?.on('message', (task: Task) => void answer(task).then((said) => parentPort!.postMessage(said)));
