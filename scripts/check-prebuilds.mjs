// Holds every prebuilt addon to what a release promises of it: its format and architecture, the names it shows, what it
// asks of the system, that its stack is not executable, that all instruction sets are inside, that nothing tells of the
// machine that built it, and that version and sources are those of this tree. One that is missing is a fault.
//
//   node scripts/check-prebuilds.mjs                      all of targets.mjs
//   node scripts/check-prebuilds.mjs --only=linux-x64,wasm
//
// First it builds a small bad file for each law and sees that the law catches it; --self-test does only that.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { wasmFaults } from './build-wasm.mjs';
import { identity } from './native-headers.mjs';
import { glibcCeiling, macosFloor, targets, targetsNamed } from './targets.mjs';
import { forgetTime, list, root, run } from './zig.mjs';
import { tool } from './tools.mjs';

/** A tool of LLVM, which reads the files of every system. */
function llvm(name, args) {
  const { status, error, stdout, stderr } = spawnSync(`llvm-${name}`, args, { encoding: 'utf8', maxBuffer: 1 << 30 });
  if (error) throw new Error(`llvm-${name}: ${error.message} (Debian: apt install llvm)`);
  if (status !== 0) throw new Error(`llvm-${name} ${args.join(' ')}\n${stderr}`);
  return stdout;
}
const lines = (text, pattern) => [...text.matchAll(pattern)].map(([, found]) => found);
const unless = (holds, fault) => (holds ? [] : [fault]);
const beyond = (found, allowed, what) => {
  const rest = [...new Set(found)].filter(
    (one) => !allowed.some((is) => (is instanceof RegExp ? is.test(one) : is === one)),
  );
  return rest.length > 0 ? [`${what} ${rest.slice(0, 5).join(', ')}`] : [];
};
const isNewer = (version, than) => {
  const [a, b] = [version, than].map((text) => text.split('.').map(Number));
  const at = a.findIndex((part, i) => part !== (b[i] ?? 0));
  return at >= 0 && a[at] > (b[at] ?? 0);
};

const entries = ['napi_register_module_v1', 'node_api_module_get_api_version_v1'];
const formats = {
  'linux-x64': 'elf64-x86-64',
  'linux-arm64': 'elf64-littleaarch64',
  'win32-x64': 'COFF-x86-64',
  'win32-arm64': 'COFF-ARM64',
  'darwin-x64': 'Mach-O 64-bit x86-64',
  'darwin-arm64': 'Mach-O arm64',
};

/** By platform: which names are shown, and what is asked of the system. Each returns faults. */
const platforms = {
  linux(file, { libc }, names) {
    const header = llvm('readobj', ['--program-headers', '--dynamic-table', '--version-info', file]);
    const stack = /PT_GNU_STACK[\s\S]*?Flags \[ \(0x(\d)\)/.exec(header)?.[1];
    const glibc = lines(header, /Name: GLIBC_(\S+)/g);
    const libraries = ['libc.so.6', 'libm.so.6', 'libdl.so.2', 'libpthread.so.0', /^ld-linux-[\w-]+\.so\.\d$/];
    return [
      ...beyond(names, entries, 'shows'),
      ...beyond(
        lines(header, /NEEDED\s+Shared library: \[(.*?)\]/g),
        libc === 'musl' ? ['libc.so'] : libraries,
        'needs the library',
      ),
      ...glibc
        .filter((version) => libc === 'musl' || !/^[\d.]+$/.test(version) || isNewer(version, glibcCeiling))
        .map((v) => `needs GLIBC_${v}`),
      ...lines(header, /Name: (GLIBCXX_\S+|CXXABI_\S+)/g).map((version) => `needs ${version}`),
      ...unless(stack !== undefined && (stack & 1) === 0, 'has an executable stack'),
      ...unless(/FLAGS_1.*NODELETE/.test(header), 'can be unloaded under its threads'),
      ...unless(!/TEXTREL|RPATH|RUNPATH/.test(header), 'has text relocations or a search path'),
    ];
  },
  win32(file, _target, names) {
    const header = llvm('readobj', ['--file-headers', '--coff-imports', file]);
    const imports = lines(header, /Import \{\s*Name: (\S+)/g).map((name) => name.toLowerCase());
    return [
      // The unwinder of zig's C++ runtime declares its functions exported, and its linker has no way to keep them in.
      ...beyond(names, [...entries, /^_?unw_|^_Unwind_|^_GCC_/], 'shows'),
      // Not of node.exe: the host's functions are looked up.
      ...beyond(imports, ['kernel32.dll', 'msvcrt.dll', /^api-ms-win-crt-/], 'needs the library'),
      ...unless(/DYNAMIC_BASE/.test(header), 'lies at a fixed address'),
      ...unless(/NX_COMPAT/.test(header), 'has an executable stack'),
      ...unless(/TimeDateStamp: .*\(0x0\)/.test(header), 'tells when it was built'),
    ];
  },
  darwin(file, { arch }) {
    const header = llvm('readobj', ['--file-headers', '--needed-libs', '--macho-version-min', file]);
    const libraries = lines(/NeededLibraries \[([^\]]*)\]/.exec(header)?.[1] ?? '', /^\s*(\S+)$/gm);
    const commands = llvm('objdump', ['--macho', '--private-headers', file]);
    const floor = /Version: ([\d.]+)/.exec(header)?.[1] ?? 'none';
    return [
      ...beyond(libraries, ['/usr/lib/libSystem.B.dylib', '@rpath/simdnorm.node'], 'needs the library'),
      ...unless(floor === macosFloor, `is for macOS ${floor}`),
      // What else zig's linker shows is then looked up by nobody.
      ...unless(!/MH_WEAK_DEFINES|MH_BINDS_TO_WEAK/.test(header), "shares its C++ runtime's symbols with the process"),
      ...unless(!/MH_ALLOW_STACK_EXECUTION/.test(header), 'has an executable stack'),
      // arm64 runs nothing unsigned.
      ...unless(arch !== 'arm64' || /LC_CODE_SIGNATURE/.test(commands), 'has no signature'),
    ];
  },
};

/** By platform: the names a file shows. */
const shown = {
  linux: (file) => lines(llvm('nm', ['-D', '--defined-only', file]), /\S+ \w (\S+)$/gm),
  win32: (file) => lines(llvm('readobj', ['--coff-exports', file]), /Name: (\S+)/g),
  darwin: (file) => lines(llvm('nm', ['-g', '--defined-only', file]), /\S+ \w _(\S+)$/gm),
};

/** Registers that only they have. */
const traces = { avx512: /%zmm\d/, avx2: /%ymm\d/, neon: /\bv\d+/, portable: /./ };

export function faultsOf(target, file) {
  if (!existsSync(file)) return ['is missing'];
  if (target.platform === 'wasm') return wasmFaults(file);
  const format = /Format: (.*)/.exec(llvm('readobj', ['--file-headers', file]))?.[1];
  const wanted = formats[`${target.platform}-${target.arch}`];
  if (format !== wanted) return [`is ${format}, not ${wanted}`];
  const bytes = readFileSync(file, 'latin1');
  const told = lines(bytes, /simdnorm (\d+\.\d+\.\d+\S* [0-9a-f]{64})\0/g);
  const { version, sources } = identity();
  const names = shown[target.platform](file);
  const code = llvm('objdump', ['-d', '--no-show-raw-insn', file]);
  return [
    ...beyond(entries, names, 'does not show'),
    ...platforms[target.platform](file, target, names),
    // Its table has its name, and nothing else has.
    ...list[`isa_${target.arch}`].flatMap((isa) =>
      unless(bytes.includes(`${isa}\0`) && traces[isa].test(code), `has no ${isa} inside`),
    ),
    ...unless(told.length === 1, `tells ${told.length} identities`),
    ...told.filter((one) => one !== `${version} ${sources}`).map((one) => `is of ${one}, not of ${version} ${sources}`),
    ...[root, homedir(), tmpdir(), '/home/', '/Users/']
      .filter((path) => path !== '/' && bytes.includes(path))
      .map((path) => `has the path ${path} inside`),
  ];
}

/**
 * Of an object that is compiled for one instruction set: it shows its table and nothing else, and nothing in it may be
 * merged with another object's, or the linker could hand this copy to a CPU without those instructions.
 */
export function isaFaults(isa, object) {
  const symbols = llvm('nm', ['--format=posix', object])
    .split('\n')
    .map((line) => line.split(' '));
  const shows = symbols.filter(([, type]) => /^[A-TV-Z]$/.test(type ?? '')).map(([name]) => name.replace(/^_+/, ''));
  const merged = symbols.filter(([, type]) => /^[VvWw]$/.test(type ?? '')).map(([name]) => name);
  const shared = lines(llvm('readobj', ['--sections', object]), /(IMAGE_SCN_LNK_COMDAT|SHF_GROUP)/g);
  return [
    ...beyond(shows, [`ZN8simdnorm${`k_${isa}`.length}k_${isa}E`], `${isa}: shows`),
    ...beyond([...merged, ...shared], [], `${isa}: may be merged:`),
  ];
}

// ---- the laws catch what they are for ----

/** A file that has nothing to blame, and for each law one that differs in that alone. */
function badFiles({ version, sources }) {
  const both = 'vaddps %zmm0, %zmm1, %zmm2; vaddps %ymm0, %ymm1, %ymm2';
  const me = `simdnorm ${version} ${sources}`;
  const c = ({ names = entries, asm = both, told = me, isas = list.isa_x64, declared = '', does = '' }) =>
    `${declared}\n#define SHOWN __attribute__((visibility("default")))\n` +
    `SHOWN const char* ${names[0]}(void) { ${does} __asm__ volatile("${asm}"); return "${[told, ...isas].join('\\0')}"; }` +
    names
      .slice(1)
      .map((name) => `SHOWN void ${name}(void) {}`)
      .join('');
  const linux = (fault, differs = {}, more = {}) => ({
    target: 'linux-x64',
    fault,
    text: c(differs),
    flags: ['-Wl,-z,nodelete'],
    ...more,
  });
  const windows = (fault, differs = {}, flags = []) => ({
    target: 'win32-x64',
    fault,
    text: c(differs).replace('visibility("default")', 'dllexport'),
    flags,
    patch: forgetTime,
  });
  const mac = (fault, more = {}) => ({
    target: 'darwin-x64',
    fault,
    text: c({}),
    flags: ['-Wl,-install_name,@rpath/simdnorm.node'],
    ...more,
  });
  return [
    linux(undefined),
    linux('does not show', { names: entries.slice(0, 1) }),
    linux('shows more', { names: [...entries, 'more'] }),
    linux(
      'needs GLIBC_2.34',
      { declared: 'void closefrom(int);', does: 'closefrom(9);' },
      { zig: 'x86_64-linux-gnu.2.34' },
    ),
    linux(
      'needs the library librt',
      { declared: 'int shm_unlink(const char*);', does: 'shm_unlink("");' },
      { flags: ['-Wl,-z,nodelete', '-lrt'] },
    ),
    linux('executable stack', {}, { patch: executableStack }),
    linux('can be unloaded', {}, { flags: [] }),
    linux('search path', {}, { flags: ['-Wl,-z,nodelete', '-Wl,-rpath,/opt'] }),
    linux('no avx512', { asm: 'vaddps %ymm0, %ymm1, %ymm2' }),
    linux('no avx2', { isas: ['avx512', 'portable'] }),
    linux('no portable', { isas: ['avx512', 'avx2'] }),
    linux('tells 0 identities', { told: '' }),
    linux('is of 0.0.1', { told: `simdnorm 0.0.1 ${sources}` }),
    linux('has the path', {
      declared: 'void use(const char*); void use(const char* s) { __asm__ volatile("" : : "r"(s)); }',
      does: `use("${root}/native");`,
    }),
    linux('is elf64-littleaarch64', { asm: '' }, { zig: 'aarch64-linux-gnu' }),
    linux(
      'needs GLIBC_',
      { declared: 'int puts(const char*);', does: 'puts("");' },
      { target: 'linux-x64-musl', zig: 'x86_64-linux-gnu' },
    ),
    windows(undefined),
    { ...windows('tells when it was built'), patch: undefined },
    windows('shows more', { names: [...entries, 'more'] }),
    windows('needs the library user32', { declared: 'int MessageBeep(unsigned);', does: 'MessageBeep(0);' }, [
      '-luser32',
    ]),
    mac(undefined),
    mac('is for macOS 12.0', { zig: 'x86_64-macos.12.0' }),
    mac('has the path', { flags: [] }),
    mac('needs the library @rpath/other', { flags: ['-Wl,-install_name,@rpath/other.node'] }),
  ];
}

/** Sets the flag that no linker of today sets unasked. */
function executableStack(file) {
  const bytes = readFileSync(file);
  const [at, size, count] = [Number(bytes.readBigUInt64LE(32)), bytes.readUInt16LE(54), bytes.readUInt16LE(56)];
  const headers = Array.from({ length: count }, (_, i) => at + i * size);
  const stack = headers.find((header) => bytes.readUInt32LE(header) === 0x6474e551);
  bytes.writeUInt32LE(bytes.readUInt32LE(stack + 4) | 1, stack + 4);
  writeFileSync(file, bytes);
}

const badObjects = [
  ['avx2', undefined, 'namespace simdnorm { extern const int k_avx2; const int k_avx2 = 1; }'],
  ['avx2', 'shows', 'namespace simdnorm { extern const int k_avx2; const int k_avx2 = 1; int more() { return 1; } }'],
  [
    'avx2',
    'avx2: ', // which of the two laws depends on the format
    'inline int f() { static int n; return n++; } namespace simdnorm { extern int (*const k_avx2)(); int (*const k_avx2)() = f; }',
  ],
];

async function selfTest() {
  const folder = mkdtempSync(join(tmpdir(), 'simdnorm-laws-'));
  const source = (text, suffix) => {
    const file = join(folder, `bad.${suffix}`);
    writeFileSync(file, text);
    return file;
  };
  let missed = 0;
  const expect = (what, fault, faults) => {
    const caught = fault === undefined ? faults.length === 0 : faults.some((one) => one.includes(fault));
    if (caught) return;
    missed++;
    console.log(`NOT CAUGHT ${what}: ${fault ?? 'nothing'}, but [${faults.join('; ')}]`);
  };
  try {
    const bad = badFiles(identity());
    for (const { target: name, fault, text, flags, zig, patch } of bad) {
      const target = targets.find((one) => one.name === name);
      const out = join(folder, 'bad.node');
      const cc = ['cc', '-target', zig ?? target.zig, '-O1', '-fvisibility=hidden', '-shared', '-s', '-o', out];
      await run(tool('zig'), [...cc, source(text, 'c'), ...flags]);
      patch?.(out);
      expect(name, fault, faultsOf(target, out));
    }
    for (const target of ['x86_64-linux-gnu', 'x86_64-windows-gnu', 'x86_64-macos']) {
      for (const [isa, fault, text] of badObjects) {
        const out = join(folder, 'bad.o');
        await run(tool('zig'), ['c++', '-target', target, '-O1', '-c', '-o', out, source(text, 'cc')]);
        expect(target, fault, isaFaults(isa, out));
      }
    }
    expect('no file', 'is missing', faultsOf(targets[0], join(folder, 'none.node')));
    console.log(
      `self-test: ${bad.length + 3 * badObjects.length + 1 - missed} of ${bad.length + 3 * badObjects.length + 1} caught`,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
  return missed;
}

async function main() {
  const { values } = parseArgs({
    options: { only: { type: 'string' }, 'self-test': { type: 'boolean' } },
  });
  const chosen = values['self-test'] ? [] : targetsNamed(values.only);
  let failed = (await selfTest()) > 0 ? 1 : 0;
  let passed = 1 - failed;
  for (const target of chosen) {
    let faults;
    try {
      faults = faultsOf(target, join(root, target.file));
    } catch (error) {
      faults = [`cannot be read: ${error.message}`];
    }
    if (faults.length > 0) failed++;
    else passed++;
    console.log(
      `${faults.length > 0 ? 'FAILED' : 'ok'} ${target.name}${faults.map((fault) => `\n    ${fault}`).join('')}`,
    );
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed > 0 ? 1 : 0);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
