// Makes prebuilds/wasm/simdnorm.wasm: the bindings, ops and kernels of the addon for WebAssembly with SIMD. It is what
// Node falls back to where no prebuild fits, and what browsers load. Checks what it has made: what it asks for, what it
// offers, and that it says which version it is and of which sources.
//
//   node scripts/build-wasm.mjs    only where it is missing or of other sources
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fillHeaders, identity } from './native-headers.mjs';
import { tool } from './tools.mjs';
import { compile, kernels, list, root, run } from './zig.mjs';

export const wasm = join(root, 'prebuilds', 'wasm', 'simdnorm.wasm');
const target = 'wasm32-wasi';

/** Each source with the flags of its own, those that take longest first. */
function* sources() {
  for (const isa of list.isa_wasm) yield* kernels(isa);
  for (const name of ['ops_sources', 'bindings_sources', 'wasm_sources']) {
    for (const source of list[name]) if (!list.wasm_left_out.includes(source)) yield [source, []];
  }
}

export function wasmFaults(file) {
  const bytes = readFileSync(file);
  const module = new WebAssembly.Module(bytes);
  // lib/internal/wasm/host.ts answers what is Node-API and nothing else: not even WASI.
  const strange = WebAssembly.Module.imports(module).filter(
    ({ module: from, name, kind }) => from !== 'napi' || !name.startsWith('napi_') || kind !== 'function',
  );
  const offered = WebAssembly.Module.exports(module).map(({ name }) => name);
  const needed = ['memory', '_initialize', '__indirect_function_table', 'malloc', 'free', 'napi_register_wasm_v1'];
  const { version, sources: hash } = identity();
  return [
    ...strange.map((one) => `imports ${one.module}.${one.name}`),
    ...needed.filter((name) => !offered.includes(name)).map((name) => `does not export ${name}`),
    ...(WebAssembly.Module.customSections(module, 'name').length > 0 ? ['is not stripped'] : []),
    ...(bytes.includes(`simdnorm ${version} ${hash}\0`) ? [] : ['is of another version or other sources']),
    ...[root, tmpdir()].filter((path) => bytes.includes(path)).map((path) => `has the path ${path} inside`),
  ];
}

export async function buildWasm() {
  fillHeaders();
  const folder = mkdtempSync(join(tmpdir(), 'simdnorm-wasm-'));
  try {
    const objects = await compile(target, [...sources()], folder);
    const made = join(folder, 'simdnorm.wasm');
    const exported = ['malloc', 'free', 'napi_register_wasm_v1'].map((name) => `-Wl,--export=${name}`);
    const linking = [...exported, '-Wl,--export-table', '-Wl,--import-symbols', '-Wl,-z,stack-size=1048576'];
    const link = ['c++', '-target', target, '-mexec-model=reactor', '-s', ...linking];
    await run(tool('zig'), [...link, '-o', made, ...objects]);
    const faults = wasmFaults(made);
    if (faults.length > 0) throw new Error(`simdnorm.wasm ${faults.join('; ')}`);
    mkdirSync(dirname(wasm), { recursive: true });
    copyFileSync(made, wasm);
    chmodSync(wasm, 0o644); // zig links programs
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
