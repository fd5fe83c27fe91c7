import type { ParquetReadOptions } from 'hyparquet';
import type { DataBatch, DataFile, Open } from '.';
import { peer } from './peer';
import { chosenColumns, dataError, rows } from './table';

const numeric = new Set(['BOOLEAN', 'INT32', 'INT64', 'FLOAT', 'DOUBLE']);
const dates = new Set(['DATE', 'TIME_MILLIS', 'TIME_MICROS', 'TIMESTAMP_MILLIS', 'TIMESTAMP_MICROS', 'INTERVAL']);

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

  async function* read(part: number): AsyncGenerator<DataBatch> {
    const rowStart = metadata.row_groups.slice(0, part).reduce((sum, group) => sum + Number(group.num_rows), 0);
    const count = Number(metadata.row_groups[part]!.num_rows);
    const data = new Float64Array(count * names.length);
    const range = { rowStart, rowEnd: rowStart + count };
    // One column after the other: all at once take twice the memory.
    for (const [feature, name] of names.entries()) {
      const onChunk: ParquetReadOptions['onChunk'] = ({ columnData, rowStart: from }) => {
        for (let i = 0; i < columnData.length; i++) {
          data[(from - rowStart + i) * names.length + feature] = Number(columnData[i] ?? NaN);
        }
      };
      await parquetRead({ file, metadata, columns: [name], onChunk, ...range, ...(compressors && { compressors }) });
    }
    yield rows(data, names.length, names);
  }
  return { parts: metadata.row_groups.length, read };
};
