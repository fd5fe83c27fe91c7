// How the binary is found: SIMDNORM_ADDON names one, else node-gyp-build looks for the build of a clone, then for the
// prebuild of this platform, architecture and libc. It is run in the process that loads this, never in an install script.

import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Addon } from './addon';
import { StateError } from './errors';
import { version } from './version';

const root = join(__dirname, '..', '..');
const nodeGypBuild = require('node-gyp-build') as { path(dir: string): string };

export function load(): Addon {
  const given = process.env.SIMDNORM_ADDON;
  let file = given && resolve(given);
  let addon: Addon;
  try {
    file ||= nodeGypBuild.path(root);
    addon = require(file) as Addon;
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
  const libc = platform === 'linux' ? libcName() : '';
  const looked = file ?? `build/Release/simdnorm.node and prebuilds/${platform}-${arch}/ in ${root}`;
  return new StateError(
    'ERR_ADDON_NOT_FOUND',
    `simdnorm: no native addon for ${platform}-${arch}${libc}, Node ${versions.node}. Looked for ${looked}; prebuilds ` +
      `has: ${shipped.join(', ') || 'nothing'}. To build it: npm run build:native, in ${root} (needs Python 3, make and ` +
      `a C++17 compiler). Cause: ${cause}`,
  );
}

function libcName(): string {
  try {
    const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
    return report?.header?.glibcVersionRuntime ? ' (glibc)' : ' (musl)';
  } catch {
    return ''; // Deno makes a report only with permissions that have nothing to do with the error
  }
}
