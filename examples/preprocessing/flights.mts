// Mean and variance of three million flights that are never all in memory: a Parquet file, read by row groups, a state for
// each of four parts as four workers would have them, merged. Fails unless a plain second look at the file agrees.

import { asyncBufferFromFile, parquetMetadataAsync, parquetRead, type ParquetReadOptions } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { fileURLToPath } from 'node:url';
import { RunningMoments, StandardScaler } from 'simdnorm/preprocessing';

const path = fileURLToPath(new URL('../data/flights-3m.parquet', import.meta.resolve('vega-datasets')));
const names = ['delay', 'distance'];
const file = await asyncBufferFromFile(path);
const metadata = await parquetMetadataAsync(file);

/** The rows of one group, [row][feature]; null is a missing value. */
async function rowsOf(group: number): Promise<{ data: Float64Array; shape: [number, number] }> {
  const rowStart = metadata.row_groups.slice(0, group).reduce((sum, g) => sum + Number(g.num_rows), 0);
  const rows = Number(metadata.row_groups[group]!.num_rows);
  const data = new Float64Array(rows * names.length);
  const onChunk: ParquetReadOptions['onChunk'] = ({ columnName, columnData, rowStart: from }) => {
    const feature = names.indexOf(columnName);
    for (let i = 0; i < columnData.length; i++) {
      data[(from - rowStart + i) * names.length + feature] = Number(columnData[i] ?? NaN);
    }
  };
  await parquetRead({ file, metadata, compressors, columns: names, rowStart, rowEnd: rowStart + rows, onChunk });
  return { data, shape: [rows, names.length] };
}

const groups = metadata.row_groups.map((_, i) => i);
const parts = [0, 1, 2, 3].map(() => new RunningMoments(names.length, { names }));
for (const group of groups) parts[group % parts.length]!.update(await rowsOf(group));
const all = parts.reduce((into, part) => into.merge(part), new RunningMoments(names.length, { names }));

console.log(`${Number(metadata.num_rows)} rows in ${groups.length} groups`);
console.table(
  Object.fromEntries(
    names.map((name, i) => [
      name,
      {
        count: all.count[i],
        missing: all.missing[i],
        mean: all.mean[i],
        std: all.std({ unbiased: true })[i],
        min: all.min[i],
        max: all.max[i],
      },
    ]),
  ),
);

// Another pass, another way: standardised, every feature has mean 0 and variance 1.
const scaler = StandardScaler.fromMoments(all);
const scaled = new RunningMoments(names.length);
for (const group of groups) scaled.update(scaler.transform(await rowsOf(group)));
const off = Math.max(...scaled.mean.map(Math.abs), ...scaled.variance().map((v) => Math.abs(v - 1)));
console.log(`standardised: mean and variance within ${off.toExponential(1)} of 0 and 1`);
console.log(`peak memory: ${Math.round(process.resourceUsage().maxRSS / 1024)} MB`);
if (!(off < 1e-12) || all.count[0] !== Number(metadata.num_rows) - all.missing[0]!) {
  console.error('these statistics are not those of the file');
  process.exitCode = 1;
}
