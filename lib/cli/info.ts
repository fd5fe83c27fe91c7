import { getNumThreads, isa } from '../runtime';
import { parse, type Command } from './command';
import { version } from '../internal/version';

const usage = `simdnorm info [--json]

  The version, the instruction sets of this CPU, the number of threads. SIMDNORM_ISA and SIMDNORM_NUM_THREADS change
  the last two.`;

async function run(args: string[]): Promise<void> {
  const { values } = parse(args, { json: { type: 'boolean' } });
  const about = {
    version,
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
    isa: isa.active,
    supported: [...isa.supported],
    threads: getNumThreads(),
  };
  if (values.json) console.log(JSON.stringify(about));
  else for (const [name, value] of Object.entries(about)) console.log(`${name.padEnd(10)} ${String(value)}`);
}

export const info: Command = { usage, run };
