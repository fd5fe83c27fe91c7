// What a release holds a binary for. prebuild.mjs makes them, check-prebuilds.mjs holds each to its line.

const linux = (arch, libc, zig) => ({
  name: `linux-${arch}${libc === 'musl' ? '-musl' : ''}`,
  platform: 'linux',
  arch,
  libc,
  zig,
  file: `prebuilds/linux-${arch}/simdnorm.${libc}.node`,
});
const other = (platform, arch, zig) => ({
  name: `${platform}-${arch}`,
  platform,
  arch,
  zig,
  file: `prebuilds/${platform}-${arch}/simdnorm.node`,
});

/** Of glibc: what Node 20 itself needs. */
export const glibcCeiling = '2.28';

export const macosFloor = '11.0';

/** `zig`: the target as its compiler names it; an operating system's version in it is the oldest that is supported. */
export const targets = [
  linux('x64', 'glibc', `x86_64-linux-gnu.${glibcCeiling}`),
  linux('arm64', 'glibc', `aarch64-linux-gnu.${glibcCeiling}`),
  linux('x64', 'musl', 'x86_64-linux-musl'),
  linux('arm64', 'musl', 'aarch64-linux-musl'),
  other('win32', 'x64', 'x86_64-windows-gnu'),
  other('win32', 'arm64', 'aarch64-windows-gnu'),
  other('darwin', 'x64', `x86_64-macos.${macosFloor}`),
  other('darwin', 'arm64', `aarch64-macos.${macosFloor}`),
  { name: 'wasm', platform: 'wasm', file: 'prebuilds/wasm/simdnorm.wasm' },
];

/** Those of 'linux-x64,wasm', or all; ends the program where there is none of a name. */
export function targetsNamed(only) {
  if (only === undefined) return targets;
  const names = only.split(',');
  const unknown = names.filter((name) => !targets.some((target) => target.name === name));
  if (unknown.length > 0) {
    console.error(`no target ${unknown.join(', ')}; there are ${targets.map(({ name }) => name).join(', ')}`);
    process.exit(1);
  }
  return targets.filter(({ name }) => names.includes(name));
}
