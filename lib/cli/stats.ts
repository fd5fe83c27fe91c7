import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { fitParallel, listData } from '../preprocessing';
import { Checkpoint } from './checkpoint';
import { dataFlags, dataOptionsOf, dataUsage, Interrupted, interruptible, outFile, parse, someOf, UsageError, wholeNumber, type Command } from './command'; // prettier-ignore
import { progressBar } from './progress';
import { momentsJson, momentsTable } from './table';

const usage = `simdnorm stats DATA... [options]

  Count, mean, standard deviation, least and greatest value of every feature, in one pass. DATA are .npy, .safetensors,
  .csv, .parquet and images, and folders of them. Empty cells, nulls and NaN are missing values.

  --out FILE          also keep the statistics, as safetensors
  --json              JSON instead of a table
  --workers N         threads that read (default: one for each processor)
  --resume            go on where an interrupted run with the same --out stopped
  --skip-errors       leave out files that cannot be read, and say which
${dataUsage}`;

async function run(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, {
    out: { type: 'string' },
    json: { type: 'boolean' },
    workers: { type: 'string' },
    resume: { type: 'boolean' },
    'skip-errors': { type: 'boolean' },
    ...dataFlags,
  });
  const { json, resume } = values as { json?: boolean; resume?: boolean };
  const out = outFile(values);
  if (resume && out === undefined) throw new UsageError('--resume goes with the --out of the interrupted run');
  const all = listData(someOf(positionals, 'DATA'));
  const files = out === undefined ? all : all.filter((file) => resolve(file) !== resolve(out));
  const options = dataOptionsOf(values);
  const checkpoint = out === undefined ? null : new Checkpoint(out, files, options);
  const from = (resume && checkpoint?.read()) || undefined;
  const bar = await progressBar(files.length);
  try {
    const { moments, failed } = await interruptible((signal) =>
      fitParallel(files, {
        ...options,
        workers: wholeNumber(values, 'workers'),
        onError: values['skip-errors'] ? 'skip' : 'stop',
        signal,
        from,
        onProgress: ({ files: done, parts }) => bar.update(done, `${parts} parts`),
        onState: (state) => checkpoint?.note(state),
      }),
    );
    bar.stop();
    if (out !== undefined) moments.save(out);
    checkpoint?.remove();
    for (const { error } of failed) console.error(`left out: ${error.message}`);
    console.log(json ? JSON.stringify(momentsJson(moments), null, 1) : momentsTable(moments));
  } catch (error) {
    bar.stop();
    checkpoint?.flush();
    if (error instanceof Interrupted && checkpoint && existsSync(checkpoint.path))
      error.message += `; --resume goes on from ${checkpoint.path}`;
    throw error;
  }
}

export const stats: Command = { usage, run };
