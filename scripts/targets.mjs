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
];
