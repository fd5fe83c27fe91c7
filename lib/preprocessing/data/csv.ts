import { createReadStream } from 'node:fs';
import type { DataBatch, DataFile, Open } from '.';
import { peer } from './peer';
import { batchRows, chosenColumns, dataError, rows } from './table';

/** What stands for a missing value. */
const missing = new Set(['', 'na', 'nan', 'null', 'n/a', '?']);

function numberOf(cell: string): number | null {
  const text = cell.trim().toLowerCase();
  if (missing.has(text)) return NaN;
  if (/^[+-]?inf(inity)?$/.test(text)) return text.startsWith('-') ? -Infinity : Infinity;
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/.test(text) ? Number(text) : null;
}

/** Whether the first line names the columns: where it has words, and no numbers; what has both must be told. */
function isHeader(path: string, record: readonly string[], said: boolean | undefined): boolean {
  if (said !== undefined) return said;
  const kinds = record.map((cell) => numberOf(cell));
  const words = kinds.filter((value) => value === null).length;
  const numbers = kinds.filter((value) => value !== null && !Number.isNaN(value)).length;
  if (words === 0 || numbers === 0) return words > 0;
  const word = record[kinds.indexOf(null)];
  throw dataError(
    path,
    `line 1 has numbers and ${JSON.stringify(word)}: say whether it names the columns, with header`,
  );
}

export const openCsv: Open = async (path, { columns: asked, header: said }): Promise<DataFile> => {
  const { parse } = await peer(() => import('csv-parse'), 'csv-parse', `reading ${path}`);
  async function* read(): AsyncGenerator<DataBatch> {
    const input = createReadStream(path);
    const records = input.pipe(parse({ bom: true, skip_empty_lines: true, info: true }));
    input.on('error', (error) => records.destroy(error));
    let names: string[] | null = null;
    let columns: number[] | null = null;
    let data = new Float64Array(0);
    let at = 0;
    let empty = true;
    try {
      for await (const { record, info } of records as AsyncIterable<{ record: string[]; info: { lines: number } }>) {
        if (!columns) {
          const header = isHeader(path, record, said);
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
        empty = false;
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
    // Of a header alone there is a batch without rows.
    if (at > 0 || empty) yield rows(data.subarray(0, at), columns.length, names);
  }
  return { parts: 1, read };
};
