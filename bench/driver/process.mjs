// A peer's process: started, asked, ended. See ../peers/protocol.md.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const TICK_MS = 10; // of /proc

/** Processor time that everybody, and that one process, have had so far, in ms; null where there is no /proc. */
function usage(pid) {
  try {
    const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'utf8')
      .split('\n')[0]
      .split(/\s+/)
      .slice(1)
      .map(Number);
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return {
      all: (user + nice + system + irq + softirq + steal) * TICK_MS,
      own: (Number(fields[11]) + Number(fields[12])) * TICK_MS,
    };
  } catch {
    return null;
  }
}

export class Peer {
  #process;
  #answer = null;
  #ended = null;

  constructor({ command: [program, ...args], env }) {
    this.#process = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'ignore'] });
    createInterface({ input: this.#process.stdout }).on('line', (line) => {
      if (line.startsWith('{')) this.#answer?.(JSON.parse(line));
    });
    const end = (why) => {
      this.#ended ??= `its process ended (${why})`;
      this.#answer?.({ unsupported: this.#ended, failed: true });
    };
    this.#process.on('exit', (code, signal) => end(signal ?? code));
    this.#process.on('error', end);
    this.#process.stdin.on('error', () => {});
    /** { peer, version } or { missing } */
    this.hello = this.#next();
  }

  get ended() {
    return this.#ended !== null;
  }

  #next() {
    if (this.#ended) return Promise.resolve({ unsupported: this.#ended, failed: true });
    return new Promise((resolve) => {
      this.#answer = (answer) => {
        this.#answer = null;
        resolve(answer);
      };
    });
  }

  async ask(line) {
    await this.hello;
    const answer = this.#next();
    if (!this.#ended) this.#process.stdin.write(`${line}\n`);
    return answer;
  }

  /** The answer, with `foreign`: the share of a processor that others had meanwhile. */
  async askWatched(line) {
    const [before, began] = [usage(this.#process.pid), performance.now()];
    const answer = await this.ask(line);
    const [after, ms] = [usage(this.#process.pid), performance.now() - began];
    if (!before || !after) return { ...answer, foreign: 0 };
    const others = after.all - before.all - (after.own - before.own) - TICK_MS;
    return { ...answer, foreign: Math.max(0, others) / Math.max(ms, 1) };
  }

  quit() {
    this.#process.stdin.end('quit\n');
  }
}
