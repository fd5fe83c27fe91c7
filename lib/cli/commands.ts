// The table of commands, and what is said of them.

import { apply } from './apply';
import { bench } from './bench';
import { UsageError, type Command } from './command';
import { info } from './info';
import { merge } from './merge';
import { report } from './report';
import { stats } from './stats';
import { version } from '../internal/version';

const commands: Readonly<Record<string, Command>> = { stats, apply, merge, report, info, bench };

const usage = `simdnorm COMMAND [options]

  stats DATA...                       mean, standard deviation, least and greatest of each feature of a data set
  apply --stats S DATA... --out DIR   the data standardised by them
  merge STATS...                      the statistics of several parts as one
  report --stats S DATA... --out F    a page to look at: histograms before and after
  info                                version, instruction sets, threads
  bench                               a ten-second look at this machine

  simdnorm COMMAND --help says more.`;

export async function main([name, ...args]: string[]): Promise<void> {
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') return console.log(usage);
  if (name === '--version' || name === '-v') return console.log(version);
  const command = Object.hasOwn(commands, name) ? commands[name]! : null;
  if (!command) throw new UsageError(`there is no command ${name}; there are ${Object.keys(commands).join(', ')}`);
  if (args.includes('--help') || args.includes('-h')) return console.log(command.usage);
  await command.run(args);
}
