// How `simdnorm/wasm` finds its binary: by its place beside this module, in browsers with fetch, in Node, which cannot fetch
// files, from the disk. scripts/bundle-wasm.mjs puts this in the place of lib/internal/load.ts.

import type { Addon } from '../internal/addon.js';
import { StateError } from '../internal/errors.js';
import { addonOf, type WasmModule } from '../internal/wasm/host.js';

declare const __VERSION__: string; // of package.json
declare const WebAssembly: {
  compile(bytes: ArrayBuffer | Uint8Array): Promise<WasmModule>;
  compileStreaming(response: Response): Promise<WasmModule>;
};
// Not an import: bundlers for browsers would look for it.
declare const process: undefined | { getBuiltinModule?(name: 'node:fs'): typeof import('node:fs') | undefined };

async function compile(url: URL): Promise<WasmModule> {
  const fs =
    url.protocol === 'file:' && typeof process === 'object' ? process.getBuiltinModule?.('node:fs') : undefined;
  if (fs) return WebAssembly.compile(fs.readFileSync(url));
  const response = await fetch(url);
  if (!response.ok) throw new Error(`the server answers ${response.status}`);
  // Not all servers say so, and without it no browser compiles what has not come yet.
  const isDeclared = response.headers.get('content-type')?.startsWith('application/wasm');
  return isDeclared ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}

// Bundlers find the file by this very form.
const url = new URL('../../prebuilds/wasm/simdnorm.wasm', import.meta.url);
let addon: Addon;
try {
  addon = addonOf(await compile(url));
} catch (cause) {
  const { message } = cause as Error;
  throw new StateError(
    'ERR_ADDON_NOT_FOUND',
    `simdnorm: ${url.href} cannot be loaded (it needs WebAssembly with SIMD; Node from 20.16). Cause: ${message}`,
  );
}
const [theirs] = addon.identity().split(' ');
if (theirs !== __VERSION__) {
  throw new StateError(
    'ERR_ADDON_VERSION',
    `simdnorm: ${url.href} is of version ${theirs}, but this module is of version ${__VERSION__}`,
  );
}

export const load = (): Addon => addon;

/** There is no environment to ask. */
export const settings = (): { isa: undefined; threads: undefined; processors: number } => ({
  isa: undefined,
  threads: undefined,
  processors: 1,
});
