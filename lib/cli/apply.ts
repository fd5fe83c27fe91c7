import { mkdirSync, statSync } from 'node:fs';
import { basename, dirname, extname, join, relative, resolve } from 'node:path';
import { StateError } from '../internal/errors';
import { replaceFile, runAsync } from '../io/files';
import { npyHeader, withNpy } from '../io/npy';
import { readSafetensorsAsync, writeSafetensorsAsync } from '../io/safetensors';
import { listData, StandardScaler, type RunningMoments } from '../preprocessing';
import { openData, type DataBatch, type DataOptions } from '../preprocessing/data';
import { allocate, elementsOf, Tensor } from '../tensor';
import { dataFlags, dataOptionsOf, dataUsage, interruptible, parse, someOf, text, type Command } from './command';
import { checkNames, loadStats, named } from './merge';
import { progressBar } from './progress';

const usage = `simdnorm apply --stats STATS DATA... --out DIR [options]

  Standardises every feature, (x - mean) / std, and writes one file for each file of DATA into DIR: .npy and .safetensors
  as they are (one tensor of it), .csv and .parquet as .csv, images as .npy of float32 (3, H, W). Constant features become 0, missing values
  stay. Each file is there whole or not at all.

  --stats STATS       of \`simdnorm stats --out\`
  --out DIR           where files go; made if it is not there
${dataUsage}`;

/** Where the file goes: under the folder that was given, by its path there. */
function outputs(data: readonly string[], out: string, stats: string): Map<string, string> {
  const found = new Map<string, string>();
  const sources = new Map<string, string>();
  for (const given of data) {
    const root = statSync(given).isDirectory() ? given : dirname(given);
    for (const file of listData([given])) {
      // What an earlier run has left in the folder of data is none of them.
      const within = relative(resolve(out), resolve(file));
      if (
        resolve(file) === resolve(stats) ||
        (within !== '' && !within.startsWith('..') && resolve(out) !== resolve(root))
      )
        continue;
      const own = relative(root, file);
      const extension = extname(own).toLowerCase();
      const stays = ['.npy', '.safetensors', '.csv'].includes(extension);
      const kind = stays ? extension : extension === '.parquet' ? '.csv' : '.npy';
      const target = join(out, dirname(own), `${basename(own, extname(own))}${kind}`);
      const other = sources.get(target);
      if (other !== undefined) throw new StateError('ERR_OUTPUT', `${other} and ${file} would both become ${target}`);
      if (resolve(target) === resolve(file))
        throw new StateError('ERR_OUTPUT', `${file} would be replaced by its result`);
      found.set(file, target);
      sources.set(target, file);
    }
  }
  return found;
}

/** Batches of a file, standardised. */
async function* scaled(file: string, moments: RunningMoments, options: DataOptions, signal: AbortSignal) {
  const { parts, read } = await openData(file, options);
  for (let part = 0; part < parts; part++) {
    for await (const { data, axis, names } of read(part) as AsyncIterable<DataBatch>) {
      signal.throwIfAborted();
      checkNames(file, names, moments);
      const y = named(file, () => StandardScaler.fromMoments(moments, { axis }).transform(data));
      yield { y, names: names ?? moments.names };
    }
  }
}

const bytesOf = (t: Tensor): Uint8Array => {
  const { data, offset, size } = t.contiguous();
  return new Uint8Array(data.buffer, data.byteOffset + offset * data.BYTES_PER_ELEMENT, size * data.BYTES_PER_ELEMENT);
};

/** Batches of one array, one after the other, as the whole. */
function joined(pieces: readonly Tensor[], shape: readonly number[]): Tensor {
  const { dtype } = pieces[0]!;
  const data = allocate(dtype, elementsOf(shape), 'simdnorm apply');
  const bytes = new Uint8Array(data.buffer);
  let at = 0;
  for (const piece of pieces.map(bytesOf)) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return new Tensor(data, shape, { dtype });
}

async function* npyChunks(file: string, batches: ReturnType<typeof scaled>): AsyncGenerator<Uint8Array> {
  let shape: readonly number[] | null = null;
  for await (const { y } of batches) {
    // Of an image, the one batch; of an array, what the file has.
    if (!shape) {
      shape = extname(file).toLowerCase() === '.npy' ? await withNpy(file, async (_, header) => header.shape) : y.shape;
      yield npyHeader(y.dtype, shape);
    }
    yield bytesOf(y);
  }
}

/** Rows of CSV that are text at a time. */
const rowsAtOnce = 4096;

async function* csvChunks(batches: ReturnType<typeof scaled>): AsyncGenerator<Uint8Array> {
  const quoted = (name: string): string => (/[",\n\r]/.test(name) ? `"${name.replace(/"/g, '""')}"` : name);
  let begun = false;
  for await (const { y, names } of batches) {
    if (!begun && names) yield Buffer.from(`${names.map(quoted).join(',')}\n`);
    begun = true;
    const [rows, features] = y.shape as [number, number];
    const values = y.data as Float64Array;
    for (let from = 0; from < rows; from += rowsAtOnce) {
      const lines = Array.from({ length: Math.min(rowsAtOnce, rows - from) }, (_, i) => {
        const row = values.subarray((from + i) * features, (from + i + 1) * features);
        return Array.from(row, (v) => (Number.isNaN(v) ? '' : String(v))).join(',');
      });
      yield Buffer.from(`${lines.join('\n')}\n`);
    }
  }
}

async function run(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, { stats: { type: 'string' }, out: { type: 'string' }, ...dataFlags });
  const moments = loadStats(text(values, 'stats'));
  const targets = outputs(someOf(positionals, 'DATA'), text(values, 'out'), text(values, 'stats'));
  const options = dataOptionsOf(values);
  const bar = await progressBar(targets.size);
  let done = 0;
  try {
    await interruptible(async (signal) => {
      for (const [file, target] of targets) {
        mkdirSync(dirname(target), { recursive: true });
        const batches = scaled(file, moments, options, signal);
        const kind = extname(target);
        if (kind === '.safetensors') {
          const pieces: Tensor[] = [];
          for await (const { y } of batches) pieces.push(y);
          const { tensors, metadata } = await readSafetensorsAsync(file);
          const name = options.tensor ?? [...tensors.keys()][0]!;
          tensors.set(name, joined(pieces, tensors.get(name)!.shape));
          await writeSafetensorsAsync(target, tensors, { metadata });
        } else {
          const chunks = kind === '.csv' ? csvChunks(batches) : npyChunks(file, batches);
          await runAsync(replaceFile(target, chunks, 'simdnorm apply'));
        }
        bar.update(++done, basename(target));
      }
    });
  } finally {
    bar.stop();
  }
  console.log(`${done} file${done === 1 ? '' : 's'} in ${text(values, 'out')}`);
}

export const apply: Command = { usage, run };
