// Files of data as batches for statistics: one table of formats, each read by a library of its own, which is loaded when
// a file asks for it. Held at a time are 4 MiB of .npy and .safetensors (all of it where samples do not lie one after the
// other), 8192 rows of CSV, a column of a row group of Parquet, an image.

import { readdirSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { describe, StateError } from '../../internal/errors';
import type { Tensor } from '../../tensor';
import { openCsv } from './csv';
import { openImage } from './images';
import { openNpy } from './npy';
import { openParquet } from './parquet';
import { openSafetensors } from './safetensors';

export interface DataOptions {
  /** Which axis of arrays has the features; default 1. */
  axis?: number | undefined;
  /** Which columns of tables are taken; default all of them, of Parquet all numbers. */
  columns?: readonly string[] | undefined;
  /** Whether the first line of a CSV file names the columns; default whether it has words and no numbers. */
  header?: boolean | undefined;
  /** Which tensor of a safetensors file; default the only one. */
  tensor?: string | undefined;
}
export const dataOptions = ['axis', 'columns', 'header', 'tensor'] as const;

export interface DataBatch {
  data: Tensor;
  /** Of the features in `data`. */
  axis: number;
  names: readonly string[] | null;
}
/** A file in parts, which can be read side by side. */
export interface DataFile {
  parts: number;
  read(part: number): AsyncIterable<DataBatch> | Iterable<DataBatch>;
  /** The same part column by column, (N, 1) each in memory of the one before, where files lie so: all rows of one take less. */
  columns?(part: number): AsyncIterable<DataBatch>;
}
export type Open = (path: string, options: DataOptions) => Promise<DataFile>;

const formats: Readonly<Record<string, Open>> = {
  '.npy': openNpy,
  '.safetensors': openSafetensors,
  '.csv': openCsv,
  '.parquet': openParquet,
  ...Object.fromEntries(
    ['.jpg', '.jpeg', '.png', '.webp', '.gif', '.tif', '.tiff', '.avif'].map((name) => [name, openImage]),
  ),
};
const extensionOf = (path: string): string => extname(path).toLowerCase();

/** Opens a file by its extension. */
export async function openData(path: string, options: DataOptions = {}): Promise<DataFile> {
  const open = Object.hasOwn(formats, extensionOf(path)) ? formats[extensionOf(path)] : undefined;
  if (open) return open(path, options);
  const known = Object.keys(formats).join(', ');
  throw new StateError('ERR_FORMAT', `${path}: a file of data ends with one of ${known}`);
}

/** Files as they are given, and those of folders that can be read, in the order of their names. */
export function listData(paths: readonly string[]): string[] {
  const of = (path: string): string[] => {
    if (typeof path !== 'string') throw new TypeError(`listData: a path must be a string, but got ${describe(path)}`);
    if (!statSync(path).isDirectory()) return [path];
    const entries = readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
    return entries.flatMap((entry) => {
      const inner = join(path, entry.name);
      if (entry.isDirectory()) return of(inner);
      return Object.hasOwn(formats, extensionOf(inner)) ? [inner] : [];
    });
  };
  if (!Array.isArray(paths)) throw new TypeError(`listData: paths must be an array, but got ${describe(paths)}`);
  return paths.flatMap(of);
}
