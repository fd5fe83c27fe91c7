// Compiles what native/sources.gypi lists with zig's toolchain: clang and lld with the headers of every libc, so one
// machine builds for all. prebuild.mjs uses it where node-gyp cannot go.
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { headers } from './native-headers.mjs';
import { tool, toolsRoot } from './tools.mjs';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');
export const list = JSON.parse(readFileSync(join(root, 'native/sources.gypi'), 'utf8')).variables;

/** For zig itself, and for a build tool that calls it: its cache beside it. */
export const zigEnvironment = { ...process.env, ZIG_GLOBAL_CACHE_DIR: join(toolsRoot, 'zig-cache') };

/** Runs a program, with its output only where it fails. */
export function run(command, args, { cwd = root, env = zigEnvironment } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
    child.on('error', reject);
    child.on('close', (status, signal) => {
      if (status === 0) resolve(output);
      else reject(new Error(`${[command, ...args].join(' ')}\n${output}${signal ?? `exit status ${status}`}`));
    });
  });
}

/** The flags of every source: those of the list, and no path of this machine in what they make. */
const common = [
  ...list.common_cflags,
  ...list.defines.map((define) => `-D${define}`),
  '-DNODE_GYP_MODULE_NAME=simdnorm',
  '-DBUILDING_NODE_EXTENSION',
  `-ffile-prefix-map=${root}=.`,
  '-I.',
  ...['node-addon-api', 'include/node'].flatMap((folder) => ['-isystem', join(headers, folder)]),
];

/**
 * Compiles sources, [path, flags of its own] each, as many at once as there are cores; the largest first. Returns the
 * objects.
 */
export async function compile(target, sources, folder, flags = []) {
  mkdirSync(folder, { recursive: true });
  const objects = sources.map(([source]) => join(folder, `${source.replaceAll('/', '_')}.o`));
  const waiting = sources.map(([source, own], i) => {
    const use = common.filter((flag) => !(/windows|wasm/.test(target) && flag === '-fPIC'));
    return ['c++', '-target', target, ...use, ...flags, ...own, '-c', source, '-o', objects[i]];
  });
  const work = async () => {
    for (let args; (args = waiting.shift());) await run(tool('zig'), args);
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return objects;
}

/** Of a Windows binary: its linker writes the time, and cannot be told not to. */
export function forgetTime(file) {
  const bytes = readFileSync(file);
  bytes.writeUInt32LE(0, bytes.readUInt32LE(0x3c) + 8);
  writeFileSync(file, bytes);
}

/** The sources of an instruction set's kernels. */
export const kernels = (isa) => list[`isa_${isa}_sources`].map((source) => [source, list[`isa_${isa}_cflags`]]);
