// Statistics of anything that gives batches: iterables, async iterables, files.

import { describe } from '../internal/errors';
import { Tensor } from '../tensor';
import type { DataBatch, DataFile } from './data';
import { RunningMoments } from './running-moments';
import { readSamples, type Batch, type BatchOptions } from './samples';

/** Takes a batch into `moments`, or into new ones of its features. */
function take(
  moments: RunningMoments | null,
  batch: Batch,
  options: BatchOptions,
  names?: readonly string[] | null,
): RunningMoments {
  if (moments) return moments.update(batch, options);
  const { features } = readSamples(batch, null, options, 'fit');
  return new RunningMoments(features, names ? { names } : {}).update(batch, options);
}

/**
 * The statistics of a stream: an array, a generator, an async one, a Readable in object mode, an `AsyncIterable` of a data
 * loader. One batch at a time is held.
 *
 * @param source batches as `RunningMoments.update` takes them
 * @param options as of `update`, for every batch
 * @throws what update throws, and RangeError where there is no batch
 * @example
 * const moments = await fit(loader);
 */
export async function fit(
  source: Iterable<Batch> | AsyncIterable<Batch>,
  options: BatchOptions = {},
): Promise<RunningMoments> {
  const iterable = source as Partial<Iterable<Batch> & AsyncIterable<Batch>> | null | undefined;
  if (typeof iterable?.[Symbol.asyncIterator] !== 'function' && typeof iterable?.[Symbol.iterator] !== 'function') {
    throw new TypeError(`fit: source must be iterable, but got ${describe(source)}`);
  }
  let moments: RunningMoments | null = null;
  for await (const batch of source) moments = take(moments, batch, options);
  if (!moments) throw new RangeError('fit: there are no batches');
  return moments;
}

/** The statistics of one part of a file; null where it has no batch. */
export async function fitPart(file: DataFile, part: number): Promise<RunningMoments | null> {
  if (file.columns) {
    const columns: RunningMoments[] = [];
    for await (const { data, names } of file.columns(part)) columns.push(take(null, data, {}, names));
    return besideEachOther(columns);
  }
  let moments: RunningMoments | null = null;
  for await (const { data, axis, names } of file.read(part) as AsyncIterable<DataBatch>) {
    moments = take(moments, data, { axis }, names);
  }
  return moments;
}

/** The statistics of one feature each as those of all: no feature knows of another. */
function besideEachOther(columns: readonly RunningMoments[]): RunningMoments {
  const states = columns.map((column) => column.toTensors());
  const lists = [...states[0]!.keys()].map((field) => {
    const list = Float64Array.from(states, (state) => state.get(field)!.data[0] as number);
    return [field, new Tensor(list, [list.length])] as const;
  });
  const names = JSON.stringify(columns.map((column) => column.names![0]));
  return RunningMoments.fromTensors(new Map(lists), { ...columns[0]!.metadata(), names });
}
