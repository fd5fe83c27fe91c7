// What the peers in JavaScript share: the protocol of protocol.md, and how a call is timed.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { median } from '../statistics.mjs';

const SAMPLE_US = 50;
const SLOW_US = 4e5; // a call this long is not repeated
const now = () => performance.now() * 1e3;
const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

/** Why a peer does not do a cell. */
export class Unsupported extends Error {}

function parse(line) {
  const [, op, shape, param, layout, mode, threads, variant, folder] = line.split(' ');
  const sizes = shape.split(',').map(Number);
  return { op, shape: sizes, param: Number(param), layout, mode, threads: Number(threads), variant, folder };
}

/** How long `calls` of run take, each; `wait` where run gives a promise, whose cost is part of it then. */
async function each({ run, wait }, calls) {
  const begin = now();
  if (wait) for (let i = 0; i < calls; i++) await run();
  else for (let i = 0; i < calls; i++) run();
  return (now() - begin) / calls;
}

async function time(job, ms) {
  const first = await each(job, 1);
  if (first > SLOW_US) return { us: first, least: first };
  if (!job.calls) {
    for (let warm = 0; warm < 2; warm++) {
      // The JIT makes the calls shorter, so that more of them fill a sample.
      for (job.calls = 1; job.calls < 4096 && (await each(job, job.calls)) * job.calls < SAMPLE_US;) job.calls *= 2;
    }
  }
  const samples = [];
  for (const end = now() + ms * 1e3; samples.length < 3 || now() < end;) samples.push(await each(job, job.calls));
  return { us: median(samples), least: Math.min(...samples) };
}

/** @param prepare of a cell: { run, results, wait?, release?, note? }, or throws Unsupported */
export async function serve(peer, version, prepare) {
  say({ peer, version });
  let job;
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.startsWith('cell ')) {
      const cell = parse(line);
      await job?.release?.();
      job = null;
      globalThis.gc?.();
      try {
        job = await prepare(cell);
        await job.run();
        const results = cell.folder === '-' ? [] : Object.entries(job.results());
        for (const [name, data] of results) writeFileSync(join(cell.folder, name), data);
        say({ results: results.map(([name]) => name), note: job.note });
      } catch (error) {
        say({ unsupported: String(error.message ?? error).split('\n')[0], failed: !(error instanceof Unsupported) });
      }
    } else if (line.startsWith('time ') && job) say(await time(job, Number(line.slice(5))));
    else break;
  }
  process.exit(0);
}
