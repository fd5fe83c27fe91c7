// How the binary is found: SIMDNORM_ADDON names one; else it is the build of a clone, or the prebuild of this platform,
// architecture and libc; on platforms the package has none for, the WebAssembly build does it, with a warning. That happens
// in the process that loads this, never in an install script. `simdnorm/wasm` has lib/wasm/load.mts instead.

import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { addonOf } from './wasm/host';
import type { Addon } from './addon';
import { StateError } from './errors';
import { version } from './version';

declare const WebAssembly: { Module: new (bytes: Uint8Array) => object };

const root = join(__dirname, '..', '..');
/** Whether this is a file of the package, or part of a bundle that lies anywhere. */
const isPackage = nameAt(root) === 'simdnorm';
/** Where prebuilds/ is: beside this file only where that is a part of a bundle. */
const home = existsSync(join(__dirname, 'prebuilds')) ? __dirname : root;
const wasm = join(home, 'prebuilds', 'wasm', 'simdnorm.wasm');

/** What the environment asks for. */
export function settings(): { isa: string | undefined; threads: string | undefined; processors: number } {
  const { SIMDNORM_ISA: isa, SIMDNORM_NUM_THREADS: threads } = process.env;
  return { isa, threads, processors: availableParallelism() };
}

export function load(): Addon {
  const file = find();
  let addon: Addon;
  try {
    if (isCutOff(file)) throw new Error('the file is cut off');
    addon = file.endsWith('.wasm')
      ? addonOf(new WebAssembly.Module(readFileSync(file)))
      : // Not `require(file)`, which a bundler takes for its own.
        (createRequire(file)(file) as Addon);
  } catch (cause) {
    throw notFound([file], String((cause as Error).message ?? cause));
  }
  const theirs = typeof addon.identity === 'function' ? addon.identity().split(' ')[0] : 'unknown';
  if (theirs !== version) {
    throw new StateError(
      'ERR_ADDON_VERSION',
      `simdnorm: ${file} is of version ${theirs}, but this package is of version ${version}. Install the package ` +
        `again, or build the addon: npm run build:native, in ${root}`,
    );
  }
  return addon;
}

function find(): string {
  const { SIMDNORM_ADDON: given } = process.env;
  if (given && given !== 'wasm' && !/\.(node|wasm)$/.test(given)) {
    throw new RangeError(`simdnorm: SIMDNORM_ADDON must name a .node or .wasm file or be 'wasm', but it is '${given}'`);
  }
  const places = given === 'wasm' ? [wasm] : given ? [resolve(given)] : candidates();
  const file = places.find((place) => existsSync(place));
  if (file) return file;
  // A prebuild that should be here and is not is a broken copy, and no reason to run slowly ever after.
  if (given || isShipped() || !existsSync(wasm)) throw notFound(places, 'there is no such file');
  process.emitWarning(
    `simdnorm has no native addon for ${platformName()} and runs on its WebAssembly build: the same results to the bit, ` +
      `on one thread and at a fraction of the speed (docs/wasm.md). To build the addon: npm run build:native, in ${root}. ` +
      'SIMDNORM_ADDON=wasm asks for it without this warning',
    { code: 'SIMDNORM_WASM' },
  );
  return wasm;
}

/** Best first. */
function candidates(): string[] {
  const { platform, arch, env } = process;
  const tag = platform === 'linux' ? `.${libc()}` : '';
  const prebuild = join('prebuilds', `${platform}-${arch}`, `simdnorm${tag}.node`);
  const built = env.PREBUILDS_ONLY ? [] : [join(root, 'build', 'Release', 'simdnorm.node')];
  return [...(isPackage ? built : []), join(home, prebuild)];
}

const isShipped = (): boolean =>
  ['linux', 'win32', 'darwin'].includes(process.platform) && ['x64', 'arm64'].includes(process.arch);

function nameAt(folder: string): unknown {
  try {
    return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name?: unknown }).name;
  } catch {
    return undefined;
  }
}

function platformName(): string {
  const { platform, arch } = process;
  return `${platform}-${arch}${platform === 'linux' ? ` (${libc()})` : ''}`;
}

/** LIBC, or that whose loader the program that runs this asks for, in its first page. */
function libc(): string {
  const given = process.env.LIBC;
  if (given === 'glibc' || given === 'musl') return given;
  if (given) throw new RangeError(`simdnorm: LIBC must be glibc or musl, but it is '${given}'`);
  try {
    return start(process.execPath, 4096).includes('/ld-musl-') ? 'musl' : 'glibc';
  } catch {
    return 'glibc'; // it may not be read
  }
}

/** Linux maps half a file without a word, and the process ends where the other half is touched. */
function isCutOff(file: string): boolean {
  const header = start(file, 64);
  const isElf64 = header.readUInt32BE(0) === 0x7f454c46 && header[4] === 2;
  if (!isElf64) return false;
  const sections = { at: header.readBigUInt64LE(40), size: header.readUInt16LE(58), count: header.readUInt16LE(60) };
  return statSync(file).size < Number(sections.at) + sections.size * sections.count;
}

function start(file: string, bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  const opened = openSync(file, 'r');
  try {
    readSync(opened, buffer);
  } finally {
    closeSync(opened);
  }
  return buffer;
}

function notFound(places: string[], cause: string): StateError {
  let shipped: string[] = [];
  try {
    shipped = readdirSync(join(home, 'prebuilds'), { recursive: true, encoding: 'utf8' }).filter((name) =>
      /\.(node|wasm)$/.test(name),
    );
  } catch {
    // no prebuilds folder: a clone
  }
  return new StateError(
    'ERR_ADDON_NOT_FOUND',
    `simdnorm: no native addon for ${platformName()}, Node ${process.versions.node}. Looked for ${places.join(', ')}` +
      `${process.env.SIMDNORM_ADDON ? ', as SIMDNORM_ADDON says' : ''}; prebuilds has: ${shipped.join(', ') || 'nothing'}. ` +
      (isPackage
        ? `To build it: npm run build:native, in ${root} (needs Python 3, make and a C++17 compiler). `
        : `This is a bundle: copy the package's prebuilds/ beside it, into ${__dirname}. `) +
      `SIMDNORM_ADDON=wasm does without. Cause: ${cause}`,
  );
}
