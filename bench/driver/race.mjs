// Contestants on one cell, interleaved: A B C, B C A, C A B, ... One process works at a time, with a pause in between, so
// that the last one's threads have gone to sleep.

import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { median } from '../statistics.mjs';

const QUIET = 0.15; // of a processor, what others may take
const SLOW_US = 4e5; // a call this long is timed once

/** The least disturbed of up to `tries` answers. */
async function askQuietly(peer, line, tries) {
  let best = null;
  for (let attempt = 0; attempt < tries; attempt++) {
    const answer = await peer.askWatched(line);
    if (!best || answer.foreign < best.foreign) best = answer;
    if (answer.unsupported || best.foreign < QUIET || answer.us > SLOW_US) break;
    await sleep(50);
  }
  return best;
}

/** Keeps a processor busy while f runs. */
async function beside(busy, f) {
  const spinner = busy ? spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }) : null;
  try {
    if (spinner) await sleep(100);
    return await f();
  } finally {
    spinner?.kill('SIGKILL');
  }
}

/**
 * @param entrants [{ name, process }], each with the cell prepared
 * @param busy whether another process spins meanwhile
 * @returns name -> { us, least, foreign }: medians over the rounds, and the least of all
 */
export function race(entrants, { rounds, ms, gap, tries, busy }) {
  const found = new Map(entrants.map(({ name }) => [name, []]));
  const slow = new Set();
  return beside(busy, async () => {
    for (let round = 0; round < rounds; round++) {
      for (let turn = 0; turn < entrants.length; turn++) {
        const { name, process: peer } = entrants[(turn + round) % entrants.length];
        if (slow.has(name)) continue;
        const line = `time ${ms}`;
        // The first answer warms up: it is not weighed against the disturbance.
        const answer = await (busy || round === 0 ? peer.askWatched(line) : askQuietly(peer, line, tries));
        if (answer.unsupported) {
          slow.add(name);
          continue;
        }
        found.get(name).push(answer);
        if (answer.us > SLOW_US) slow.add(name);
        await sleep(gap);
      }
    }
    const figures = [...found].filter(([, answers]) => answers.length > 0);
    return Object.fromEntries(
      figures.map(([name, answers]) => [
        name,
        {
          us: median(answers.map(({ us }) => us)),
          least: Math.min(...answers.map(({ least }) => least)),
          foreign: median(answers.map(({ foreign }) => foreign)),
        },
      ]),
    );
  });
}
