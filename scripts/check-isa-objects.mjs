// Holds the laws of an ISA file (docs/adding.md) on the objects themselves, with nm and objdump, at -O3 and -O0: what
// an AVX-512 file shares with others, the linker may hand to a machine without AVX-512. And those of the rest: no AVX
// outside the ISA files, no fused multiply-add and no estimate anywhere, denormals left alone by the addon.
//
// First it compiles one small bad file for each law and sees that the law catches it; --self-test does only that.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fillHeaders, headers } from './native-headers.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const list = JSON.parse(readFileSync(join(root, 'native/sources.gypi'), 'utf8')).variables;
const addon = join(root, 'build/Release/simdnorm.node');
const temporary = mkdtempSync(join(tmpdir(), 'simdnorm-isa-'));

// One compiler and its binutils for each architecture that can be checked here.
const native = { arch: process.arch, cxx: process.env.CXX ?? 'g++', prefix: '' };
const cross = { arch: 'arm64', cxx: 'aarch64-linux-gnu-g++', prefix: 'aarch64-linux-gnu-' };

class Failure extends Error {}

function run(command, args, { mayFail = false } = {}) {
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (result.error) throw new Failure(`${command}: ${result.error.message} (Debian: apt install g++ binutils)`);
  if (result.status !== 0 && !mayFail) throw new Failure(`${command} ${args.join(' ')}\n${result.stderr}`);
  return result;
}

let objects = 0;
async function compile(tools, source, flags) {
  const object = join(temporary, `${objects++}.o`);
  const defines = list.defines.map((define) => `-D${define}`);
  const args = [...flags, ...defines, `-I${root}`, '-c', join(root, source), '-o', object];
  const child = spawn(tools.cxx, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (data) => (said += data));
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Failure(`${tools.cxx} ${args.join(' ')}\n${said}`);
  return object;
}

// ---- the laws: each returns what is wrong, as lines of text ----

const symbols = (tools, object) =>
  run(`${tools.prefix}nm`, ['-C', object])
    .stdout.split('\n')
    .map((line) => /^[0-9a-f ]{16} (\w) (.*)$/.exec(line))
    .filter(Boolean)
    .map(([, type, name]) => ({ type, name }));

const instructions = (tools, object) =>
  run(`${tools.prefix}objdump`, ['-d', '--no-show-raw-insn', object])
    .stdout.split('\n')
    .map((line) => /^ *[0-9a-f]+:\t(\S+)\s*(.*)$/.exec(line))
    .filter(Boolean)
    .map(([, mnemonic, operands]) => ({ mnemonic, operands, text: `${mnemonic} ${operands}` }));

const some = (what, found) => (found.length > 0 ? [`${what}: ${[...new Set(found)].slice(0, 4).join('; ')}`] : []);

const oneExport = (name) => (tools, object) => {
  const exported = symbols(tools, object).filter(({ type }) => /[A-Z]/.test(type) && !/[UWV]/.test(type));
  const names = exported.map((symbol) => symbol.name);
  return names.length === 1 && names[0] === name ? [] : [`exports [${names.join(', ')}], not just ${name}`];
};

const noWeakSymbols = (tools, object) =>
  some(
    'weak symbols',
    symbols(tools, object).flatMap(({ type, name }) => (/[WVuwv]/.test(type) ? [name] : [])),
  );

// memcpy and its like are what compilers make of copies; the last is made by the linker, not shared.
const allowedCalls = new Set(['memcpy', 'memmove', 'memset', '_GLOBAL_OFFSET_TABLE_']);
const noCalls = (tools, object) =>
  some(
    'needs from elsewhere',
    symbols(tools, object).flatMap(({ type, name }) => (type === 'U' && !allowedCalls.has(name) ? [name] : [])),
  );

const nothingAtLoad = (tools, object) =>
  some('runs at load', run(`${tools.prefix}objdump`, ['-h', object]).stdout.match(/\.(init_array|ctors)\S*/g) ?? []);

const fused = /^(vf?n?m(add|sub)\w*[sp][sdh]$|vfn?m(add|sub)|fml[as]|fn?m(add|sub)$)/;
const noFusedMultiplyAdd = (tools, object) =>
  some(
    'fused',
    instructions(tools, object).flatMap(({ mnemonic, text }) => (fused.test(mnemonic) ? [text] : [])),
  );

const estimate = /^(v?r(sqrt|cp)(14|28)?[sp][sd]$|fr(sqrt|ecp)[exs]$)/;
const noEstimates = (tools, object) =>
  some(
    'estimates',
    instructions(tools, object).flatMap(({ mnemonic, text }) => (estimate.test(mnemonic) ? [text] : [])),
  );

// Every VEX and EVEX mnemonic begins with v, but for opmasks and BMI; verr and verw are older than both.
const avx = /^(v(?!er[rw]$)|k(mov|and|or|xor|not|test|shift|unpck|add))/;
const bmi = /^(andn|bextr|bls(i|r|msk)|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx)[lq]?$/;
const noAvx = (tools, object) =>
  some(
    'AVX in baseline code',
    instructions(tools, object).flatMap(({ mnemonic, operands, text }) =>
      avx.test(mnemonic) || bmi.test(mnemonic) || /%[yz]mm|%k[0-7]/.test(operands) ? [text] : [],
    ),
  );

const forbiddenFlags = /^-(march=native|mtune=native|ffast-math|Ofast|flto|funsafe-math|ffp-contract=(fast|on)|mrecip)/;
const noForbiddenFlags = (flags) =>
  some(
    'flags',
    flags.filter((flag) => forbiddenFlags.test(flag)),
  );

const staysLoaded = (tools, library) =>
  /NODELETE/.test(run(`${tools.prefix}readelf`, ['-d', library]).stdout) ? [] : ['is not linked with -z nodelete'];

// Loading crtfastmath.o, which -ffast-math links, switches denormals off for the thread that loads it. The bits are
// looked at as integers: a comparison would take every denormal for 0 as well.
const probe = `
  const least = new Float64Array([5e-324, 3]);
  try { process.dlopen({ exports: {} }, process.argv[1]); } catch (error) {
    if (!/self-register|Module/.test(error.message)) throw error;
  }
  least[0] *= least[1];
  process.exit(new BigUint64Array(least.buffer)[0] === 3n ? 0 : 9);`;
const keepsDenormals = (library) => {
  const { status, stderr } = run(process.execPath, ['-e', probe, library], { mayFail: true });
  if (status !== 0 && status !== 9) throw new Failure(`loading ${library} failed\n${stderr}`);
  return status === 0 ? [] : ['switches denormals off for all of JavaScript'];
};

const isaLaws = (name) => [oneExport(name), noWeakSymbols, noCalls, nothingAtLoad];
const codeLaws = [noFusedMultiplyAdd, noEstimates];

// ---- counting ----

const total = { passed: 0, failed: 0 };
function report(title, wrong) {
  total[wrong.length === 0 ? 'passed' : 'failed']++;
  console.log(
    `${wrong.length === 0 ? 'ok    ' : 'FAILED'} ${title}${wrong.map((line) => `\n         ${line}`).join('')}`,
  );
}
const broken = (laws, ...args) => laws.flatMap((law) => law(...args));

// ---- the laws can fail ----

function selfTest() {
  const x64 = process.arch === 'x64';
  const vectors = x64 ? ['-mavx2', '-mfma'] : [];
  const multiplyAdd = 'extern const int k = 0; double f(double a, double b, double c) { return a * b + c; }';
  const bad = [
    ['two exports', oneExport('k'), 'extern const int k = 0; extern const int second = 1;', []],
    ['a wrong export', oneExport('k'), 'extern const int other = 0;', []],
    ['no export', oneExport('k'), 'static int k; int f(int) __attribute__((visibility("hidden")));', []],
    ['an inline function', noWeakSymbols, 'inline int f(int a) { return a + 1; } int (*p)(int) = f;', ['-O0']],
    ['a template', noWeakSymbols, 'template <class T> T f(T a) { return a; } int g(int a) { return f(a); }', ['-O0']],
    [
      'a static of an inline function',
      noWeakSymbols,
      'inline int f() { static int n; return n++; } int g() { return f(); }',
      [],
    ],
    ['a call', noCalls, 'extern int other(); int f() { return other(); }', []],
    ['libm', noCalls, '#include <math.h>\ndouble f(double a) { return pow(a, a); }', []],
    ['a constructor', nothingAtLoad, 'int made(); int k = made();', []],
    ['a fused multiply-add', noFusedMultiplyAdd, multiplyAdd, [...vectors, '-ffp-contract=fast']],
  ];
  if (x64) {
    const first = '#include <immintrin.h>\n';
    bad.push(
      ['AVX in baseline code', noAvx, 'void f(float* a) { for (int i = 0; i < 64; i++) a[i] += 1; }', ['-mavx2']],
      ['AVX of one register size', noAvx, 'double f(double a, double b) { return a + b; }', ['-mavx']],
      ['an opmask', noAvx, `${first}int f(__m512 a, __m512 b) { return _mm512_cmplt_ps_mask(a, b); }`, ['-mavx512f']],
      ['BMI', noAvx, 'unsigned f(unsigned a, unsigned b) { return ~a & b; }', ['-mbmi']],
      ['an estimate', noEstimates, `${first}__m128 f(__m128 a) { return _mm_rsqrt_ps(a); }`, []],
      ['an AVX-512 estimate', noEstimates, `${first}__m512 f(__m512 a) { return _mm512_rcp14_ps(a); }`, ['-mavx512f']],
    );
  }
  const common = list.common_cflags.filter((flag) => !flag.startsWith('-ffp-contract'));
  const caught = (title, wrong) => report(`caught: ${title}`, wrong.length > 0 ? [] : ['not caught']);
  for (const [title, law, text, flags] of bad) {
    const source = join(temporary, 'bad.cc');
    writeFileSync(source, `${text}\n`);
    const object = join(temporary, 'bad.o');
    run(native.cxx, [...common, ...flags, '-w', '-c', source, '-o', object]);
    caught(title, law(native, object));
  }
  for (const flag of ['-march=native', '-ffast-math', '-Ofast', '-flto', '-flto=auto']) {
    caught(`the flag ${flag}`, noForbiddenFlags(['-O3', flag]));
  }
  if (process.platform !== 'linux') return;
  const source = join(temporary, 'library.cc');
  writeFileSync(source, 'int f() { return 0; }\n');
  const library = (flags) => {
    const file = join(temporary, `${objects++}.so`);
    run(native.cxx, ['-shared', '-fPIC', source, ...flags, '-o', file]);
    return file;
  };
  caught('a library that can be unloaded', staysLoaded(native, library([])));
  if (x64) caught('a library that loads crtfastmath', keepsDenormals(library(['-ffast-math'])));
  report('an innocent library passes', keepsDenormals(library([])));
}

// ---- the project ----

/** [tools, what is reported, source, flags, laws] of every object; those of the kernels take longest and come first. */
function objectsOf(tools) {
  const all = [];
  const isas = list[`isa_${tools.arch}`] ?? list.isa_other;
  for (const level of ['-O3', '-O0']) {
    const common = [...list.common_cflags.filter((flag) => !/^-O\d/.test(flag)), level];
    for (const isa of isas) {
      for (const source of list[`isa_${isa}_sources`]) {
        const laws = [...isaLaws(`simdnorm::k_${isa}`), ...codeLaws];
        if (tools.arch === 'x64' && isa === 'portable') laws.push(noAvx);
        const flags = [...common, ...list[`isa_${isa}_cflags`]];
        all.push([tools, `${tools.arch} ${level} ${source}`, source, flags, laws]);
      }
    }
  }
  fillHeaders();
  const includes = ['node-addon-api', 'include/node'].map((folder) => `-I${join(headers, folder)}`);
  const module = ['-DNODE_GYP_MODULE_NAME=simdnorm', '-DBUILDING_NODE_EXTENSION'];
  for (const source of [...list.ops_sources, ...list.distributed_sources, ...list.bindings_sources]) {
    const laws = tools.arch === 'x64' ? [...codeLaws, noAvx] : codeLaws;
    all.push([
      tools,
      `${tools.arch} baseline ${source}`,
      source,
      [...list.common_cflags, ...includes, ...module],
      laws,
    ]);
  }
  return all;
}

async function checkObjects(waiting) {
  const work = async () => {
    for (let next; (next = waiting.shift());) {
      const [tools, what, source, flags, laws] = next;
      report(what, broken(laws, tools, await compile(tools, source, flags)));
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
}

function checkFlags() {
  for (const [name, flags] of Object.entries(list).filter(([name]) => name.endsWith('cflags'))) {
    report(`flags ${name}`, noForbiddenFlags(flags));
  }
  const wanted = ['-ffp-contract=off', '-fno-lto'].filter((flag) => !list.common_cflags.includes(flag));
  report('flags common_cflags: contraction and link-time optimisation are off', some('missing', wanted));
}

function checkAddon() {
  if (process.platform !== 'linux') return; // readelf
  if (!existsSync(addon)) {
    if (process.env.CI) throw new Failure('build/Release/simdnorm.node is not there: npm run build:native');
    console.log('not checked: build/Release/simdnorm.node, which is not there');
    return;
  }
  report('build/Release/simdnorm.node stays loaded', staysLoaded(native, addon));
  report('build/Release/simdnorm.node keeps denormals', keepsDenormals(addon));
}

try {
  selfTest();
  if (!process.argv.includes('--self-test')) {
    checkFlags();
    const all = objectsOf(native);
    if (process.arch !== 'arm64') {
      if (!spawnSync(cross.cxx, ['--version']).error) {
        all.push(...objectsOf(cross));
      } else if (process.env.CI) {
        throw new Failure(`${cross.cxx} is missing (Debian and Ubuntu: apt install g++-aarch64-linux-gnu)`);
      } else {
        console.log(`not checked: arm64, without ${cross.cxx} (Debian and Ubuntu: apt install g++-aarch64-linux-gnu)`);
      }
    }
    await checkObjects(all);
    checkAddon();
  }
  console.log(`${total.passed} passed, ${total.failed} failed`);
  process.exitCode = total.failed === 0 ? 0 : 1;
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  rmSync(temporary, { recursive: true });
}
