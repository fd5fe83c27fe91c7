// Compiles the benches' C++ with g++ (or CXX) into build/bench, the product's own sources with the flags of
// native/sources.gypi.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));
export const folder = join(root, 'build', 'bench');
export const compiler = process.env.CXX ?? 'g++';
/** The lists of native/sources.gypi. */
export const { variables: sources } = JSON.parse(readFileSync(join(root, 'native/sources.gypi'), 'utf8'));

mkdirSync(folder, { recursive: true });

const run = (args, stdio) => execFileSync(compiler, args, { cwd: root, stdio });

/** An object of a source of the product's, or of one that works with its kernels. */
export function object(name, path, flags = []) {
  const file = join(folder, `${name.replaceAll('/', '-')}.o`);
  run([...sources.common_cflags, ...flags, '-I', root, '-x', 'c++', path, '-c', '-o', file], 'inherit');
  return file;
}

export function link(name, objects) {
  const file = join(folder, name);
  run([...objects, '-pthread', '-o', file], 'inherit');
  return file;
}

/** A program of one source file, compiled again when that or `headers` changed. Throws what the compiler says. */
export function program(name, path, { flags = [], libraries = [], headers = [] } = {}) {
  const file = join(folder, name);
  const changed = (source) => statSync(join(root, source)).mtimeMs > statSync(file).mtimeMs;
  if (!existsSync(file) || [path, ...headers].some(changed)) {
    run(['-std=c++17', '-pthread', ...flags, '-I', root, path, ...libraries, '-o', file], ['ignore', 'ignore', 'pipe']);
  }
  return file;
}
