#!/usr/bin/env node
// The `simdnorm` command: what goes wrong is one line, from the loading of the addon on.

import type { Interrupted } from './command';

// A reader that has had enough, such as head, is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

import('./commands.js')
  .then(({ main }) => main(process.argv.slice(2)))
  .catch((error: Error) => {
    console.error(`simdnorm: ${error.message.split('\n')[0]}`);
    const usage = error.name === 'UsageError';
    if (usage) console.error('simdnorm --help lists what there is');
    process.exitCode = usage ? 2 : ((error as Partial<Interrupted>).exitCode ?? 1);
  });
