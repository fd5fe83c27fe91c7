// Makes prebuilds/wasm/simdnorm.wasm: the bindings, ops and kernels of the addon for WebAssembly with SIMD. It is what
// Node falls back to where no prebuild fits, and what browsers load. Checks what it has made: what it asks for, what it
// offers, and that it says which version it is and of which sources.
//
//   node scripts/build-wasm.mjs    only where it is missing or of other sources
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fillHeaders, identity } from './native-headers.mjs';
import { tool } from './tools.mjs';
import { compile, kernels, list, root, run } from './zig.mjs';

export const wasm = join(root, 'prebuilds', 'wasm', 'simdnorm.wasm');
const target = 'wasm32-wasi';

/** The kernels, which take longest, first. */
const sources = [
  ...list.isa_wasm.flatMap(kernels),
  ...[...list.ops_sources, ...list.bindings_sources, ...list.wasm_sources]
    .filter((source) => !list.wasm_left_out.includes(source))
    .map((source) => [source, []]),
];

/** What it must be, or an error that says what it is instead. */
export function checkWasm(file) {
  const bytes = readFileSync(file);
  const module = new WebAssembly.Module(bytes);
  // lib/internal/wasm.ts answers what is Node-API and nothing else: not even WASI.
  const strange = WebAssembly.Module.imports(module).filter(
    ({ module: from, name, kind }) => from !== 'napi' || !name.startsWith('napi_') || kind !== 'function',
  );
  if (strange.length > 0) throw new Error(`${file} imports ${strange.map((i) => `${i.module}.${i.name}`).join(', ')}`);
  const offered = WebAssembly.Module.exports(module).map(({ name }) => name);
  const needed = ['memory', '_initialize', '__indirect_function_table', 'malloc', 'free', 'napi_register_wasm_v1'];
  const missing = needed.filter((name) => !offered.includes(name));
  if (missing.length > 0) throw new Error(`${file} does not export ${missing.join(', ')}`);
  if (WebAssembly.Module.customSections(module, 'name').length > 0) throw new Error(`${file} is not stripped`);
  const { version, sources: hash } = identity();
  if (!bytes.includes(`simdnorm ${version} ${hash}\0`)) throw new Error(`${file} is of another version or other sources`);
  if (bytes.includes(root)) throw new Error(`${file} names a folder of this machine`);
}

export async function buildWasm() {
  fillHeaders();
  const folder = mkdtempSync(join(tmpdir(), 'simdnorm-wasm-'));
  try {
    const objects = await compile(target, sources, folder);
    const made = join(folder, 'simdnorm.wasm');
    const exported = ['malloc', 'free', 'napi_register_wasm_v1'].map((name) => `-Wl,--export=${name}`);
    const linking = [...exported, '-Wl,--export-table', '-Wl,--import-symbols', '-Wl,-z,stack-size=1048576'];
    await run(tool('zig'), ['c++', '-target', target, '-mexec-model=reactor', '-s', ...linking, '-o', made, ...objects]);
    checkWasm(made);
    mkdirSync(dirname(wasm), { recursive: true });
    rmSync(wasm, { force: true });
    writeFileSync(wasm, readFileSync(made)); // not moved: the other folder may be on another disk, and zig makes programs
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Whether it is there, and of these sources. */
function isCurrent() {
  if (!existsSync(wasm)) return false;
  const { version, sources: hash } = identity();
  return readFileSync(wasm).includes(`simdnorm ${version} ${hash}\0`);
}

export async function ensureWasm() {
  if (!isCurrent()) await buildWasm();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await ensureWasm();
  console.log(wasm);
}
