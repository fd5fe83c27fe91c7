// Groups over Gloo, by an addon of its own, which `npm run build:gloo` builds against the system's libgloo.

import { existsSync } from 'node:fs';
import { lookup } from 'node:dns/promises';
import { join } from 'node:path';
import { StateError } from '../internal/errors';
import { Outcome, type Engine } from './engine';
import { detailBytes, NativeEngine, wordsOf, type GroupFunctions } from './native-engine';
import { meet } from './rendezvous';

export interface GlooOptions {
  address: string;
  port: number;
  rank: number;
  size: number;
  token: string;
  timeoutMs: number;
  host?: string;
}

interface GlooAddon extends GroupFunctions {
  cardBytes(size: number): number;
  /** A number for an engine that waits to be connected, or -1. */
  glooOpen(rank: number, size: number, timeoutMs: number, host: string, card: Uint8Array, detail: Uint8Array): number;
  glooConnect(
    number: number,
    timeoutMs: number,
    cards: Uint8Array,
    missing: Uint8Array,
    detail: Uint8Array,
    settle: (outcome: number) => void,
  ): number;
  /** A handle for the group. */
  glooTake(number: number): number;
  glooDrop(number: number): void;
}

const where = 'initProcessGroup';
const root = join(__dirname, '..', '..');
const file = join(root, 'engines', 'gloo', 'build', 'Release', 'simdnorm_gloo.node');

function load(): GlooAddon {
  const found = existsSync(file);
  try {
    if (found) return require(file) as GlooAddon;
  } catch (cause) {
    throw missing(`${file} cannot be loaded: ${(cause as Error).message}`);
  }
  throw missing(`there is no ${file}`);
}

function missing(why: string): StateError {
  return new StateError(
    'ERR_ENGINE_NOT_FOUND',
    `${where}: gloo is not installed: ${why}. Install libgloo (Debian, Ubuntu: apt-get install libgloo-dev), then build ` +
      `its engine: npm run build:gloo, in ${root}`,
  );
}

/** Meets the other ranks and connects to each of them. */
export async function openGloo(options: GlooOptions): Promise<Engine> {
  const addon = load();
  const { rank, size, timeoutMs } = options;
  const deadline = performance.now() + timeoutMs;
  const detail = new Uint8Array(detailBytes);
  let number = -1;
  const open = (host: string): Uint8Array => {
    const card = new Uint8Array(addon.cardBytes(size));
    number = addon.glooOpen(rank, size, timeoutMs, host, card, detail);
    if (number >= 0) return card;
    throw new StateError('ERR_ENGINE', `${where}: gloo cannot listen at ${host}: ${wordsOf(detail)}`);
  };
  try {
    // Gloo takes addresses; its own look at names may end at another family than the meeting's.
    const { host } = options;
    const address = host === undefined ? {} : { host: (await lookup(host)).address };
    const { blobs } = await meet({ ...options, ...address }, open);
    const cards = Buffer.concat(blobs);
    const gone = new Uint8Array(size);
    const outcome = await new Promise<number>((settle) => {
      const refused = addon.glooConnect(number, deadline - performance.now(), cards, gone, detail, settle);
      if (refused !== Outcome.ok) settle(refused);
    });
    if (outcome !== Outcome.ok) {
      const who = gone.indexOf(1);
      throw new StateError(
        outcome === Outcome.timeout ? 'ERR_PEER_TIMEOUT' : 'ERR_PEER_LOST',
        `${where}: rank ${rank} of ${size} has met all others, but could not connect to rank ${who}: ${wordsOf(detail)}`,
      );
    }
    const handle = addon.glooTake(number);
    if (handle < 0) throw new StateError('ERR_OUT_OF_MEMORY', `${where}: out of memory for the group`);
    return new NativeEngine('gloo', addon, handle, rank, size);
  } catch (error) {
    if (number >= 0) addon.glooDrop(number);
    throw error;
  }
}
