import { RunningMoments } from '../preprocessing';
import { parse, someOf, type Command } from './command';
import { momentsJson, momentsTable } from './table';

const usage = `simdnorm merge STATS... [options]

  The statistics of all data that the files of \`simdnorm stats --out\` have seen.

  --out FILE          also keep them, as safetensors
  --json              JSON instead of a table`;

async function run(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, { out: { type: 'string' }, json: { type: 'boolean' } });
  const [first, ...others] = someOf(positionals, 'STATS').map((path) => ({ path, moments: loadStats(path) }));
  const all = others.reduce((into, { path, moments }) => named(path, () => into.merge(moments)), first!.moments);
  if (typeof values.out === 'string') all.save(values.out);
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

export const loadStats = (path: string): RunningMoments => named(path, () => RunningMoments.load(path));

export const merge: Command = { usage, run };
