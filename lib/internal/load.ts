// How the binary is found: SIMDNORM_ADDON names one; else it is the build of a clone, or the prebuild of this platform,
// architecture and libc. That happens in the process that loads this, never in an install script.

import { closeSync, existsSync, openSync, readdirSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import type { Addon } from './addon';
import { StateError } from './errors';
import { version } from './version';

const root = join(__dirname, '..', '..');

export function load(): Addon {
  const { SIMDNORM_ADDON: given } = process.env;
  const places = given ? [resolve(given)] : candidates();
  const file = places.find((place) => existsSync(place));
  if (!file) throw notFound(places, 'there is no such file');
  let addon: Addon;
  try {
    // Not `require(file)`, which a bundler takes for its own.
    addon = createRequire(file)(file) as Addon;
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

/** Best first. */
function candidates(): string[] {
  const { platform, arch, env } = process;
  const tag = platform === 'linux' ? `.${libc()}` : '';
  const prebuild = join('prebuilds', `${platform}-${arch}`, `simdnorm${tag}.node`);
  const built = env.PREBUILDS_ONLY ? [] : [join(root, 'build', 'Release', 'simdnorm.node')];
  // Beside this file they lie only where it is part of a bundle.
  return [...built, join(__dirname, prebuild), join(root, prebuild)];
}

/** LIBC, or that whose loader the program that runs this asks for, in its first page. */
function libc(): string {
  if (process.env.LIBC) return process.env.LIBC;
  const page = Buffer.alloc(4096);
  try {
    const program = openSync(process.execPath, 'r');
    readSync(program, page);
    closeSync(program);
  } catch {
    // may not be read: as most are
  }
  return page.includes('/ld-musl-') ? 'musl' : 'glibc';
}

function notFound(places: string[], cause: string): StateError {
  let shipped: string[] = [];
  try {
    shipped = readdirSync(join(root, 'prebuilds'), { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.node'),
    );
  } catch {
    // no prebuilds folder: a clone
  }
  const { platform, arch, versions } = process;
  const where = `${platform}-${arch}${platform === 'linux' ? ` (${libc()})` : ''}`;
  return new StateError(
    'ERR_ADDON_NOT_FOUND',
    `simdnorm: no native addon for ${where}, Node ${versions.node}. Looked for ${places.join(', ')}; prebuilds has: ` +
      `${shipped.join(', ') || 'nothing'}. To build it: npm run build:native, in ${root} (needs Python 3, make and ` +
      `a C++17 compiler). Cause: ${cause}`,
  );
}
