import { createReadStream } from 'node:fs';
import type { DataBatch, DataFile, Open } from '.';
import { peer } from './peer';
import { batchRows, chosenColumns, dataError, rows } from './table';

/** What stands for a missing value. */
const missing = new Set(['', 'na', 'nan', 'null', 'n/a', '?']);

function numberOf(cell: string): number | null {
  const text = cell.trim();
  if (missing.has(text.toLowerCase())) return NaN;
  const value = Number(text);
  return Number.isNaN(value) ? null : value;
}

/** A first line with a cell that is neither a number nor missing names the columns. */
export const openCsv: Open = async (path, { columns: asked }): Promise<DataFile> => {
  const { parse } = await peer(() => import('csv-parse'), 'csv-parse', `reading ${path}`);
  async function* read(): AsyncGenerator<DataBatch> {
    const input = createReadStream(path);
    const records = input.pipe(parse({ bom: true, skip_empty_lines: true, info: true }));
    input.on('error', (error) => records.destroy(error));
    let names: string[] | null = null;
    let columns: number[] | null = null;
    let data = new Float64Array(0);
    let at = 0;
    try {
      for await (const { record, info } of records as AsyncIterable<{ record: string[]; info: { lines: number } }>) {
        if (!columns) {
          const header = record.some((cell) => numberOf(cell) === null);
          const all = header ? record : record.map((_, i) => `column ${i + 1}`);
          columns = chosenColumns(path, all, asked);
          names = header ? columns.map((i) => all[i]!) : null;
          data = new Float64Array(batchRows * columns.length);
          if (header) continue;
        }
        for (const i of columns) {
          const value = numberOf(record[i]!);
          if (value === null) {
            const name = names ? ` ${JSON.stringify(names[columns.indexOf(i)])}` : ` ${i + 1}`;
            throw dataError(path, `line ${info.lines}, column${name}: ${JSON.stringify(record[i])} is no number`);
          }
          data[at++] = value;
        }
        if (at < data.length) continue;
        yield rows(data, columns.length, names);
        data = new Float64Array(data.length);
        at = 0;
      }
    } catch (error) {
      // csv-parse's own, ragged rows among them, tell the line.
      if (String((error as NodeJS.ErrnoException).code).startsWith('CSV_'))
        throw dataError(path, (error as Error).message);
      throw error;
    } finally {
      input.destroy();
    }
    if (!columns) throw dataError(path, 'the file is empty');
    if (at > 0) yield rows(data.subarray(0, at), columns.length, names);
  }
  return { parts: 1, read };
};
