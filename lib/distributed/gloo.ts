// Groups over Gloo, by an addon of its own, which `npm run build:gloo` builds against the system's libgloo.

import { existsSync } from 'node:fs';
import { lookup } from 'node:dns/promises';
import { join } from 'node:path';
import { StateError } from '../internal/errors';
import { headerBytes, Kind, Outcome, type Ended, type Engine } from './engine';
import { detailBytes, NativeEngine, wordsOf, type GroupFunctions } from './native-engine';
import { GroupError } from './process-group';
import { meet, type Where } from './rendezvous';

interface GlooAddon extends GroupFunctions {
  cardBytes(size: number): number;
  /** A handle for a group whose first collective connects it, a broadcast of all ranks' cards; or -1. */
  glooOpen(rank: number, size: number, host: string, card: Uint8Array, detail: Uint8Array): number;
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
export async function openGloo(options: Where): Promise<Engine> {
  const addon = load();
  const { rank, size, timeoutMs } = options;
  const begin = performance.now();
  const deadline = begin + timeoutMs;
  let engine: NativeEngine | undefined;
  const open = (host: string): Uint8Array => {
    const card = new Uint8Array(addon.cardBytes(size));
    const detail = new Uint8Array(detailBytes);
    const handle = addon.glooOpen(rank, size, host, card, detail);
    if (handle < 0) {
      throw new StateError('ERR_ENGINE', `${where}: gloo cannot listen at ${host}: ${wordsOf(detail)}`);
    }
    engine = new NativeEngine('gloo', addon, handle, rank, size);
    return card;
  };
  try {
    const host = options.host === undefined ? {} : { host: await addressOf(options.host) };
    const { blobs } = await meet({ ...options, ...host }, open);
    const strange = blobs.findIndex((blob) => blob.length !== addon.cardBytes(size));
    if (blobs.length !== size || strange >= 0) {
      const what = strange < 0 ? `${blobs.length} ranks` : `${blobs[strange]!.length} bytes for rank ${strange}`;
      throw new StateError('ERR_RENDEZVOUS', `${where}: rank 0 of ${size} sent the addresses of ${what}`);
    }
    const ended = await engine!.start({
      kind: Kind.broadcast,
      operation: 'sum',
      root: 0,
      header: new Uint8Array(headerBytes),
      input: null,
      output: new Uint8Array(Buffer.concat(blobs)),
      timeoutMs: Math.max(1, deadline - performance.now()),
    });
    if (ended.outcome !== Outcome.ok) throw unconnected(ended, options, (performance.now() - begin) / 1000);
    return engine!;
  } catch (error) {
    engine?.close();
    throw error;
  }
}

/** Gloo takes addresses; its own look at names may end at another family than the meeting's. */
async function addressOf(host: string): Promise<string> {
  try {
    return (await lookup(host)).address;
  } catch (cause) {
    throw new StateError('ERR_RENDEZVOUS', `${where}: no address of the host ${host}: ${(cause as Error).message}`);
  }
}

function unconnected({ outcome, missing, detail }: Ended, { rank, size }: Where, seconds: number): StateError {
  const met = `${where}: rank ${rank} of ${size} has met all others, but`;
  if (outcome !== Outcome.timeout && outcome !== Outcome.lost) {
    return new StateError('ERR_ENGINE', `${met} gloo failed: ${detail || 'it cannot start'}`);
  }
  const code = outcome === Outcome.timeout ? 'ERR_PEER_TIMEOUT' : 'ERR_PEER_LOST';
  const whom =
    missing.length === 0 ? 'all of them' : `${missing.length === 1 ? 'rank' : 'ranks'} ${missing.join(', ')}`;
  const message = `${met} could not connect to ${whom} in ${seconds.toFixed(1)} s: ${detail}`;
  return new GroupError(code, message, missing, where, seconds);
}
