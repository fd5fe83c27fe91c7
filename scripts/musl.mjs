// What Bun for musl needs beside it on a system of glibc: its libstdc++.so.6, which no registry has for musl, and for
// arm64 musl itself. The library is linked from the objects of Debian's g++; what they need of glibc that musl lacks is
// given here. Bun neither throws nor catches, so it does without the tables for unwinding.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const ofGlibc = `
  char __libc_single_threaded;
  int _dl_find_object(void* pc, void* result) { return -1; }
  unsigned arc4random(void) { __builtin_trap(); }
  unsigned long getauxval(unsigned long);
  unsigned long __getauxval(unsigned long type) { return getauxval(type); }`;

const text = (command, args, options) => execFileSync(command, args, { encoding: 'utf8', ...options });

/** Debian's musl of another architecture, unpacked: apt is given lists of its own, so that the system's stay as they are. */
function unpackMusl(arch, folder) {
  for (const part of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(folder, part), { recursive: true });
  const options = {
    'APT::Architecture': arch,
    'APT::Architectures': arch,
    'APT::Sandbox::User': 'root',
    'Dir::State::Lists': join(folder, 'lists'),
    'Dir::Cache': join(folder, 'cache'),
    'Dir::State::status': '/dev/null',
  };
  const apt = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  text('apt-get', [...apt, '-qq', 'update'], { cwd: folder });
  text('apt-get', [...apt, '-qq', 'download', 'musl'], { cwd: folder });
  const deb = readdirSync(folder).find((name) => name.endsWith('.deb'));
  text('dpkg-deb', ['-x', join(folder, deb), join(folder, 'root')]);
}

/** The folder, for LD_LIBRARY_PATH; of arm64 it has musl in `root`, for qemu. */
export function muslLibraries(arch, program, folder) {
  mkdirSync(folder, { recursive: true });
  const compiler = { x64: 'g++', arm64: 'aarch64-linux-gnu-g++' }[arch];
  const fileOf = (name) => text(compiler, [`-print-file-name=${name}`]).trim();
  const symbols = (...args) =>
    text('nm', ['-D', ...args])
      .split('\n')
      .map((line) => line.trim().split(/\s+/).at(-1).split('@')[0]);
  const provided = new Set(symbols('--defined-only', fileOf('libstdc++.so')));
  // Those it defines too: some are only room for a copy of what the library has.
  const wanted = symbols(program).filter((symbol) => provided.has(symbol) && symbol !== '');
  const link = ['-shared', '-nostdlib', '-fPIC', '-Wl,-soname,libstdc++.so.6', '-o', join(folder, 'libstdc++.so.6')];
  const objects = [fileOf('crtbeginS.o'), '-x', 'c', '-', '-x', 'none', ...wanted.map((symbol) => `-Wl,-u,${symbol}`)];
  const libraries = ['-Wl,-Bstatic', '-lstdc++', '-lgcc_eh', '-lgcc', fileOf('crtendS.o')];
  text(compiler, [...link, ...objects, ...libraries], { input: ofGlibc });
  if (arch === 'arm64') unpackMusl('arm64', folder);
  return folder;
}
