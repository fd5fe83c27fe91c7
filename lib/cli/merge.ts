import { StateError } from '../internal/errors';
import { RunningMoments } from '../preprocessing';
import { outFile, parse, someOf, type Command } from './command';
import { momentsJson, momentsTable } from './table';

const usage = `simdnorm merge STATS... [options]

  The statistics of all data that the files of \`simdnorm stats --out\` have seen.

  --out FILE          also keep them, as safetensors
  --json              JSON instead of a table`;

async function run(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, { out: { type: 'string' }, json: { type: 'boolean' } });
  const out = outFile(values);
  const [first, ...others] = someOf(positionals, 'STATS').map((path) => ({ path, moments: loadStats(path) }));
  const all = others.reduce((into, { path, moments }) => named(path, () => into.merge(moments)), first!.moments);
  if (out !== undefined) all.save(out);
  console.log(values.json ? JSON.stringify(momentsJson(all), null, 1) : momentsTable(all));
}

/** What goes wrong with a file says which. */
export function named<T>(path: string, f: () => T): T {
  try {
    return f();
  } catch (error) {
    const failure = error as Error;
    if (!failure.message.includes(path)) failure.message = `${path}: ${failure.message}`;
    throw failure;
  }
}

/** That features which have names are those of the statistics. */
export function checkNames(file: string, names: readonly string[] | null, moments: RunningMoments): void {
  const other = names && moments.names ? names.findIndex((name, i) => name !== moments.names![i]) : -1;
  if (other < 0) return;
  const [here, there] = [names![other], moments.names![other]];
  throw new StateError('ERR_DATA', `${file}: feature ${other} is ${here}, the statistics are of ${there}`);
}

export const loadStats = (path: string): RunningMoments => named(path, () => RunningMoments.load(path));

export const merge: Command = { usage, run };
