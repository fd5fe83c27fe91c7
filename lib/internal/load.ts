// How the binary is found: SIMDNORM_ADDON names one, else node-gyp-build looks for the build of a clone, then for the
// prebuild of this platform, architecture and libc. Where there is none, the WebAssembly build does it, with a warning. It
// is run in the process that loads this, never in an install script. `simdnorm/wasm` has lib/wasm/load.mts instead.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { addonOf } from '../wasm/host';
import type { Addon } from './addon';
import { StateError } from './errors';
import { version } from './version';

declare const WebAssembly: { Module: new (bytes: Uint8Array) => object };

const root = join(__dirname, '..', '..');
const wasm = join(root, 'prebuilds', 'wasm', 'simdnorm.wasm');
const nodeGypBuild = require('node-gyp-build') as { path(dir: string): string };

/** What the environment asks for. */
export function settings(): { isa: string | undefined; threads: string | undefined; processors: number } {
  const { SIMDNORM_ISA: isa, SIMDNORM_NUM_THREADS: threads } = process.env;
  return { isa, threads, processors: availableParallelism() };
}

export function load(): Addon {
  const given = process.env.SIMDNORM_ADDON;
  let file = given && (given === 'wasm' ? wasm : resolve(given));
  let addon: Addon;
  try {
    file ||= find();
    addon = file.endsWith('.wasm') ? addonOf(new WebAssembly.Module(readFileSync(file))) : (require(file) as Addon);
  } catch (cause) {
    throw notFound(file, String((cause as Error).message ?? cause));
  }
  const theirs = typeof addon.identity === 'function' ? addon.identity().split(' ')[0] : 'unknown';
  if (theirs !== version()) {
    throw new StateError(
      'ERR_ADDON_VERSION',
      `simdnorm: ${file} is of version ${theirs}, but this package is of version ${version()}. Install the package ` +
        `again, or build the addon: npm run build:native, in ${root}`,
    );
  }
  return addon;
}

function find(): string {
  try {
    return nodeGypBuild.path(root);
  } catch (none) {
    if (!existsSync(wasm)) throw none;
    process.emitWarning(
      `simdnorm has no native addon for ${platformName()} and runs on its WebAssembly build: the same results to the bit, ` +
        `on one thread and at a fraction of the speed (docs/wasm.md). To build the addon: npm run build:native, in ${root}. ` +
        'SIMDNORM_ADDON=wasm asks for it without this warning',
      { code: 'SIMDNORM_WASM' },
    );
    return wasm;
  }
}

function platformName(): string {
  const { platform, arch } = process;
  return `${platform}-${arch}${platform === 'linux' ? ` (${isMusl() ? 'musl' : 'glibc'})` : ''}`;
}

function notFound(file: string | undefined, cause: string): StateError {
  let shipped: string[] = [];
  try {
    shipped = readdirSync(join(root, 'prebuilds'), { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.node'),
    );
  } catch {
    // no prebuilds folder: a clone
  }
  const { platform, arch, versions } = process;
  const looked = file ?? `build/Release/simdnorm.node and prebuilds/${platform}-${arch}/ in ${root}`;
  return new StateError(
    'ERR_ADDON_NOT_FOUND',
    `simdnorm: no native addon for ${platformName()}, Node ${versions.node}. Looked for ${looked}; prebuilds ` +
      `has: ${shipped.join(', ') || 'nothing'}. To build it: npm run build:native, in ${root} (needs Python 3, make and ` +
      `a C++17 compiler). Cause: ${cause}`,
  );
}

function isMusl(): boolean {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return !report?.header?.glibcVersionRuntime;
}
