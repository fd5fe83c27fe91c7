// Makes prebuilds/wasm/simdnorm.wasm: the bindings, ops and kernels of the addon for WebAssembly with SIMD. It is what
// Node falls back to where no prebuild fits, and what browsers load. Checks what it has made: what it asks for, what it
// offers, and that it says which version it is and of which sources.
//
//   node scripts/build-wasm.mjs    only where it is missing or of other sources
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { fillHeaders, identity } from './native-headers.mjs';
import { tool } from './tools.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
export const wasm = join(root, 'prebuilds', 'wasm', 'simdnorm.wasm');
const run = promisify(execFile);
const target = ['-target', 'wasm32-wasi'];
const limit = 20 * 60_000; // for one compiler: the kernels take a minute of a fast core

/** Each source with the flags of its own. */
function* sources(list) {
  for (const name of ['ops_sources', 'bindings_sources', 'wasm_sources']) {
    for (const source of list[name]) if (!list.wasm_left_out.includes(source)) yield [source, []];
  }
  for (const isa of list.isa_wasm) {
    for (const source of list[`isa_${isa}_sources`]) yield [source, list[`isa_${isa}_cflags`]];
  }
}

async function compile(zig, folder) {
  const { variables: list } = JSON.parse(readFileSync(join(root, 'native', 'sources.gypi'), 'utf8'));
  const flags = [
    ...target,
    ...list.common_cflags.filter((flag) => flag !== '-fPIC'),
    ...list.defines.map((name) => `-D${name}`),
    '-DNODE_GYP_MODULE_NAME=simdnorm',
    '-DBUILDING_NODE_EXTENSION',
    // All paths are relative to the root, so that none of this machine gets into the file.
    ...['-I.', '-isystem', 'native/headers/node-addon-api', '-isystem', 'native/headers/include/node'],
  ];
  // The kernels, which take longest, first.
  const waiting = [...sources(list)].reverse().map(([source, own]) => {
    const object = join(folder, `${source.replaceAll('/', '_')}.o`);
    return { object, args: ['c++', ...flags, ...own, '-c', source, '-o', object] };
  });
  const objects = waiting.map(({ object }) => object);
  const work = async () => {
    for (let next; (next = waiting.shift()); ) await run(zig, next.args, { cwd: root, timeout: limit });
  };
  await Promise.all([work(), work()]);
  return objects;
}

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

export async function buildWasm(zig = tool('zig'), file = wasm) {
  fillHeaders();
  const folder = mkdtempSync(join(tmpdir(), 'simdnorm-wasm-'));
  try {
    const objects = await compile(zig, folder);
    const made = join(folder, 'simdnorm.wasm');
    const exported = ['malloc', 'free', 'napi_register_wasm_v1'].map((name) => `-Wl,--export=${name}`);
    const linking = [...exported, '-Wl,--export-table', '-Wl,--import-symbols', '-Wl,-z,stack-size=1048576'];
    await run(zig, ['c++', ...target, '-mexec-model=reactor', '-s', ...linking, '-o', made, ...objects], {
      cwd: root,
      timeout: limit,
    });
    checkWasm(made);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, readFileSync(made)); // not moved: the other folder may be on another disk
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
