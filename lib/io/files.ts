// What is done with files, told in steps: a caller runs the same telling at once or awaits each step.

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { StateError } from '../internal/errors';

/** Of node:fs, and 'next' of an iterator, which may give a promise where each step is awaited. */
type Operation =
  | 'next'
  | 'open'
  | 'close'
  | 'read'
  | 'write'
  | 'stat'
  | 'fstat'
  | 'fchmod'
  | 'fsync'
  | 'rename'
  | 'unlink'
  | 'realpath';
type Step = readonly [Operation, ...unknown[]];
export type Steps<T> = Generator<Step, T, unknown>;

function* call<T>(...step: Step): Steps<T> {
  return (yield step) as T;
}

type Function = (...args: unknown[]) => unknown;

export function runSync<T>(steps: Steps<T>): T {
  let at = steps.next();
  while (!at.done) {
    const [name, ...args] = at.value;
    let result: unknown;
    try {
      result = name === 'next' ? (args[0] as Iterator<unknown>).next() : (fs[`${name}Sync`] as Function)(...args);
    } catch (error) {
      at = steps.throw(error);
      continue;
    }
    at = steps.next(result);
  }
  return at.value;
}

function called(name: Exclude<Operation, 'next'>, args: unknown[]): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, value: unknown): void => (error ? reject(error) : resolve(value));
    (fs[name] as Function)(...args, done);
  });
}

export async function runAsync<T>(steps: Steps<T>): Promise<T> {
  let at = steps.next();
  while (!at.done) {
    const [name, ...args] = at.value;
    let result: unknown;
    try {
      result = await (name === 'next' ? (args[0] as AsyncIterator<unknown>).next() : called(name, args));
    } catch (error) {
      at = steps.throw(error);
      continue;
    }
    at = steps.next(result);
  }
  return at.value;
}

/** What one call may read or write: Linux stops short of 2^31 bytes, Node refuses more. */
export const mostAtOnce = 2 ** 30;

/** A file open for reading, for the length of `body`; `size` in bytes. */
export function* withFile<T>(path: string, body: (fd: number, size: number) => Steps<T>): Steps<T> {
  const fd = yield* call<number>('open', path, 'r');
  try {
    const { size } = yield* call<fs.Stats>('fstat', fd);
    return yield* body(fd, size);
  } finally {
    yield* call('close', fd);
  }
}

/** Fills `into` from `position` on; how many bytes there were. */
export function* readAt(fd: number, into: Uint8Array, position: number): Steps<number> {
  let done = 0;
  while (done < into.length) {
    const length = Math.min(into.length - done, mostAtOnce);
    const got = yield* call<number>('read', fd, into, done, length, position + done);
    if (got === 0) break;
    done += got;
  }
  return done;
}

function* writeAll(fd: number, bytes: Uint8Array): Steps<void> {
  for (let done = 0; done < bytes.length;) {
    done += yield* call<number>('write', fd, bytes, done, Math.min(bytes.length - done, mostAtOnce), null);
  }
}

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code;

/** Not every system lets a folder be opened or flushed; where it does, the new name survives a loss of power. */
const folderRefusals = ['EISDIR', 'EPERM', 'EACCES', 'EINVAL', 'ENOTSUP', 'EBADF'];

function* flushFolder(folder: string): Steps<void> {
  try {
    const fd = yield* call<number>('open', folder, 'r');
    try {
      yield* call('fsync', fd);
    } finally {
      yield* call('close', fd);
    }
  } catch (error) {
    if (!folderRefusals.includes(codeOf(error) ?? '')) throw error;
  }
}

/** The file behind links, and its permissions; the path itself where there is none yet. */
function* existing(path: string, where: string): Steps<{ target: string; mode: number | undefined }> {
  try {
    const target = yield* call<string>('realpath', path);
    const stats = yield* call<fs.Stats>('stat', target);
    if (!stats.isFile()) throw new StateError('ERR_NOT_A_FILE', `${where}: ${path} is there already and is no file`);
    return { target, mode: stats.mode & 0o777 };
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    return { target: path, mode: undefined };
  }
}

/**
 * Puts a file of these bytes in the place of `path`, whole or not at all: into a file beside it, flushed to the disk,
 * then renamed. Whoever opens `path` meanwhile, or after a crash, finds the old file or the new. After an error the
 * file beside it is gone; a process killed on the way leaves it (`.<16 digits>.tmp`). Chunks of an async iterable need
 * `runAsync`.
 */
export function* replaceFile(
  path: string,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  where: string,
): Steps<void> {
  const { target, mode } = yield* existing(path, where);
  const folder = dirname(target);
  const temporary = join(folder, `.${randomBytes(8).toString('hex')}.tmp`);
  const fd = yield* call<number>('open', temporary, 'wx', mode ?? 0o666);
  try {
    try {
      if (mode !== undefined) yield* call('fchmod', fd, mode);
      const iterator = Symbol.asyncIterator in chunks ? chunks[Symbol.asyncIterator]() : chunks[Symbol.iterator]();
      for (;;) {
        const { done, value } = yield* call<IteratorResult<Uint8Array, void>>('next', iterator);
        if (done) break;
        yield* writeAll(fd, value!);
      }
      yield* call('fsync', fd);
    } finally {
      yield* call('close', fd);
    }
    yield* call('rename', temporary, target);
  } catch (error) {
    try {
      yield* call('unlink', temporary);
    } catch {
      // what went wrong first is what the caller must hear
    }
    throw error;
  }
  yield* flushFolder(folder);
}
