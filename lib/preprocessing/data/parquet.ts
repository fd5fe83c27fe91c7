import type { ParquetReadOptions } from 'hyparquet';
import type { DataBatch, DataFile, Open } from '.';
import { peer } from './peer';
import { chosenColumns, dataError, rows } from './table';

type Range = { rowStart: number; rowEnd: number };

const numeric = new Set(['BOOLEAN', 'INT32', 'INT64', 'FLOAT', 'DOUBLE']);
const dates = new Set(['DATE', 'TIME_MILLIS', 'TIME_MICROS', 'TIMESTAMP_MILLIS', 'TIMESTAMP_MICROS', 'INTERVAL']);

/** What the numbers of a batch take at the most: writers make row groups of a million rows, whatever a row takes. */
const batchBytes = 24 * 2 ** 20;
/** Rows of a batch at the least: a page, some 2^17 rows, is decoded again for every batch that has rows of it. */
const leastRows = 2 ** 15;

/** A part is a row group. Columns that are no numbers are left out, unless they are asked for. */
export const openParquet: Open = async (path, { columns: asked }): Promise<DataFile> => {
  const purpose = `reading ${path}`;
  const { asyncBufferFromFile, parquetMetadataAsync, parquetRead } = await peer(
    () => import('hyparquet'),
    'hyparquet',
    purpose,
  );
  const file = await asyncBufferFromFile(path);
  const metadata = await parquetMetadataAsync(file).catch((error: Error) => {
    throw dataError(path, error.message);
  });
  const leaves = metadata.schema.slice(1);
  const flat = leaves.filter(({ type, repetition_type }) => type !== undefined && repetition_type !== 'REPEATED');
  const nested = leaves.length !== (metadata.schema[0]!.num_children ?? 0);
  if (nested) throw dataError(path, 'nested columns are not read');
  const all = flat.map(({ name }) => name);
  const isNumber = flat.map(
    ({ type, converted_type, logical_type }) =>
      numeric.has(type!) && !dates.has(converted_type ?? '') && !/TIME|DATE/.test(logical_type?.type ?? ''),
  );
  const columns = asked ? chosenColumns(path, all, asked) : all.flatMap((_, i) => (isNumber[i] ? [i] : []));
  const strange = columns.find((i) => !isNumber[i]);
  if (strange !== undefined) throw dataError(path, `the column ${JSON.stringify(all[strange])} holds no numbers`);
  if (columns.length === 0) throw dataError(path, 'no column holds numbers');
  const names = columns.map((i) => all[i]!);
  const codecs = new Set(metadata.row_groups.flatMap((group) => group.columns.map((c) => c.meta_data?.codec)));
  const plain = [...codecs].every((codec) => codec === 'UNCOMPRESSED' || codec === 'SNAPPY');
  const { compressors } = plain
    ? { compressors: undefined }
    : await peer(() => import('hyparquet-compressors'), 'hyparquet-compressors', purpose);

  const groups = metadata.row_groups.map(({ num_rows }, i, all) => {
    const rowStart = all.slice(0, i).reduce((sum, group) => sum + Number(group.num_rows), 0);
    return { rowStart, rowEnd: rowStart + Number(num_rows) };
  });
  // A file without rows has its columns all the same.
  if (groups.length === 0) groups.push({ rowStart: 0, rowEnd: 0 });

  /** Sets every `step`-th element from `first` on to the column's values. */
  async function load(name: string, range: Range, data: Float64Array, step: number, first: number): Promise<void> {
    const { rowStart, rowEnd } = range;
    // A chunk is of whole pages, and goes beyond the rows that are asked for.
    const onChunk: ParquetReadOptions['onChunk'] = ({ columnData, rowStart: at }) => {
      const last = Math.min(columnData.length, rowEnd - at);
      for (let i = Math.max(0, rowStart - at); i < last; i++) {
        data[(at - rowStart + i) * step + first] = Number(columnData[i] ?? NaN);
      }
    };
    if (rowEnd === rowStart) return;
    const how = { useOffsetIndex: true, ...(compressors && { compressors }) };
    await parquetRead({ file, metadata, columns: [name], onChunk, ...range, ...how });
  }

  async function* read(part: number): AsyncGenerator<DataBatch> {
    const { rowStart: start, rowEnd: end } = groups[part]!;
    const most = Math.max(leastRows, Math.floor(batchBytes / (8 * names.length)));
    for (let rowStart = start; rowStart === start || rowStart < end; rowStart += most) {
      const range = { rowStart, rowEnd: Math.min(end, rowStart + most) };
      const data = new Float64Array((range.rowEnd - rowStart) * names.length);
      for (const [i, name] of names.entries()) await load(name, range, data, names.length, i);
      yield rows(data, names.length, names);
    }
  }
  async function* columnsOf(part: number): AsyncGenerator<DataBatch> {
    const { rowStart, rowEnd } = groups[part]!;
    const data = new Float64Array(rowEnd - rowStart);
    for (const name of names) {
      await load(name, groups[part]!, data, 1, 0);
      yield rows(data, 1, [name]);
    }
  }
  return { parts: groups.length, read, columns: columnsOf };
};
