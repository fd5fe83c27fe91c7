// Builds bench/kernels with g++ and the product's own flags, runs it and prints its tables: how the product's way to a
// mean and a variance compares with textbook ones, and what each of its precautions costs. docs/numerics.md reads them.
//
//   node bench/moments.mjs [--isa=avx2] [--quick] [--json]      CXX names another compiler
//
// --quick: one round, small sizes: that it still builds and runs, with the same bits everywhere.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { isa } from 'simdnorm';
import { compiler, folder, link, object, root, sources } from './build.mjs';

const { values: options } = parseArgs({
  options: { isa: { type: 'string' }, quick: { type: 'boolean' }, json: { type: 'boolean' } },
});

// ---- build: each instruction set as it is, with longer float chains, and with multiply and add fused where it can ----

// An include folder that comes before the root: the same kernels with one constant changed.
const overlay = join(folder, 'long-chains');
const kernels = 'native/kernels/kernels.h';
const text = readFileSync(join(root, kernels), 'utf8');
if (!text.includes('kFloatChain = 24;')) throw new Error(`${kernels}: there is no kFloatChain = 24 to change`);
mkdirSync(dirname(join(overlay, kernels)), { recursive: true });
writeFileSync(join(overlay, kernels), text.replace('kFloatChain = 24;', 'kFloatChain = 4096;'));

const supported = options.isa ? [options.isa] : isa.supported;
const fuse = {
  avx512: ['-mfma', '-ffp-contract=fast'],
  avx2: ['-mfma', '-ffp-contract=fast'],
  neon: ['-ffp-contract=fast'],
};
const variants = supported.flatMap((name) => {
  const own = sources[`isa_${name}_cflags`];
  const all = [
    { name, flags: own },
    { name, kind: 'long_chains', flags: [...own, '-I', overlay] },
    { name, kind: 'fused', flags: [...own, ...(fuse[name] ?? [])] },
  ];
  return all
    .filter(({ kind }) => kind !== 'fused' || fuse[name])
    .map((v) => ({ ...v, id: v.kind ? `${name}_${v.kind}` : name }));
});

const objects = variants.flatMap((v) => {
  const header = `native/simd/vec_${v.name}.h`;
  const own = [...v.flags, `-DSIMDNORM_ISA=${v.id}`, `-DVEC_HEADER="${header}"`];
  return [
    object(`kernels-${v.id}`, 'native/kernels/kernels-inl.h', [...own, '-include', header]),
    object(`peers-${v.id}`, 'bench/kernels/peers.cc', own),
  ];
});
const ops = sources.ops_sources.filter((path) => !path.endsWith('/dispatch.cc')).map((path) => object(path, path));
const main = object('main', 'bench/kernels/main.cc', [`-DVARIANTS=${variants.map(({ id }) => `V(${id})`).join(' ')}`]);
const program = link('moments', [...objects, ...ops, main]);

// ---- run ----

const output = execFileSync(program, options.quick ? ['--quick'] : [], { encoding: 'utf8', maxBuffer: 1 << 26 }).trim();
if (options.json) console.log(output);
const lines = output.split('\n').map((line) => JSON.parse(line));
const distinct = (key, among = lines) => [
  ...new Set(among.map((line) => line[key]).filter((value) => value !== undefined)),
];
const [places, ways, sets] = [distinct('where'), distinct('way'), distinct('set')];

// ---- tables ----

function table(title, head, rows) {
  if (options.json) return;
  console.log(`\n${title}\n\n| | ${head.join(' | ')} |\n|:--|${'--:|'.repeat(head.length)}`);
  for (const row of rows) console.log(`| ${row.join(' | ')} |`);
}
const find = (match) => lines.find((line) => Object.keys(match).every((key) => line[key] === match[key]));
const rate = (match) => find(match)?.gbs.toFixed(0) ?? '';
const versus = (match, other) => `${rate(match)} → ${rate({ ...match, variant: other })}`;
const error = (set, variant, way) => {
  const value = find({ set, variant, way })?.error;
  return value === null ? 'not finite' : value === 0 ? '0' : value.toExponential(0);
};
const of = (kind) => variants.filter((v) => v.kind === kind);

const version = execFileSync(compiler, ['-dumpfullversion'], { encoding: 'utf8' }).trim();
if (!options.json) console.log(`${cpus()[0]?.model}, ${compiler} ${version}, one thread`);
for (const variant of supported) {
  const rows = ways.map((way) => [way, ...places.map((where) => rate({ moments: way, variant, where }))]);
  table(`Mean and variance, ${variant}, GB/s`, places, rows);
}
table(
  'Error of the variance, relative (of the constant: the deviation found, relative to the mean)',
  ways,
  sets.map((set) => [set, ...ways.map((way) => error(set, supported[0], way))]),
);
const kinds = [
  { moments: 'product' },
  { moments: 'Welford per lane' },
  ...['apply', 'grad_sums', 'slope'].map((kernel) => ({ kernel })),
];
table(
  'Never fusing, GB/s: as it is → multiply and add fused',
  of('fused').flatMap(({ name }) => places.map((where) => `${name} ${where}`)),
  kinds.map((kind) => [
    Object.entries(kind)[0].join(' ').replace('kernel ', ''),
    ...of('fused').flatMap(({ name, id }) => places.map((where) => versus({ ...kind, variant: name, where }, id))),
  ]),
);
table(
  'Chains of 24 floats, then doubles, GB/s and error: as it is → chains as long as a block',
  [...places, 'two values', 'outlier'],
  of('long_chains').map(({ name, id }) => [
    name,
    ...places.map((where) => versus({ moments: 'product', variant: name, where }, id)),
    ...['two values in turn', 'outlier of 1e6 std, first'].map(
      (set) => `${error(set, name, 'product')} → ${error(set, id, 'product')}`,
    ),
  ]),
);
table(
  'Blocks taken again, in L2, GB/s',
  supported,
  distinct('hard').map((hard) => [hard, ...supported.map((variant) => rate({ hard, variant }))]),
);

// ---- the same bits ----

const answers = lines.filter(({ set, variant }) => set && supported.includes(variant));
const differing = sets.flatMap((set) =>
  ways
    .filter(
      (way) =>
        distinct(
          'bits',
          answers.filter((a) => a.set === set && a.way === way),
        ).length > 1,
    )
    .map((way) => `${set}: ${way}`),
);
if (differing.length > 0) {
  console.error(`Not the same bits on ${supported.join(', ')}:\n  ${differing.join('\n  ')}`);
  process.exitCode = 1;
} else if (!options.json) {
  console.log(`\nThe same bits of mean and M2 on ${supported.join(', ')}, for every way and every data set.`);
}
