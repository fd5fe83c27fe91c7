// Structured lies for the safetensors reader: `node scripts/fuzz-safetensors.mjs [--runs N] [--seed N]`, after
// `npm run build:lib`. Each file is made valid, then up to three lies are told in it. A second, slow judge made of
// JSON.parse says whether it still is valid; the reader must agree. What it takes must be the file, byte for byte; what
// it refuses must be refused in our words, and nothing may cost more memory than a bound.

import util from 'node:util';
import { parse, serialize } from '../dist/io/safetensors.js';

function option(name, fallback) {
  const at = process.argv.indexOf(`--${name}`);
  const value = at < 0 ? fallback : Number(process.argv[at + 1]);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name} must be a whole number`);
  return value;
}
const runs = option('runs', 1_000_000);
const seed = option('seed', 1);
const mostMemory = 512 * 2 ** 20;

let state = seed >>> 0;
/** A whole number below n. */
function below(n) {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n) | 0;
}
const pick = (list) => list[below(list.length)];

const sizes = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U8: 1 };
const dtypes = Object.keys(sizes);
const names = [
  'weight',
  'bias',
  'a.b',
  '',
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  '0',
  '7',
  'é',
  '\u{1f600}',
];
const oddNames = [
  '"\\ud800"',
  '"\\u0061"',
  '"\\u0000"',
  '"a\\nb"',
  '"__metadata__"',
  '"\\udc00\\ud800"',
  '"\\x41"',
  `"${'n'.repeat(3000)}"`,
];
const oddNumbers = [
  '-1',
  '-0',
  '0',
  '1',
  '01',
  '1.0',
  '1.5',
  '1e2',
  '0x10',
  '+1',
  '2147483648',
  '4294967296',
  '9007199254740991',
  '9007199254740992',
  '18446744073709551615',
  '18446744073709551616',
  '1e400',
  'NaN',
  'Infinity',
  '9'.repeat(400),
];
const oddValues = [
  ...oddNumbers,
  'null',
  'true',
  '"4"',
  '""',
  '[]',
  '{}',
  '[[1]]',
  '[1,]',
  '[,1]',
  "'a'",
  'undefined',
  '{"a":1}',
  '\\',
  '"',
];

/** A file as its parts: entries of tokens, so that lies can be told at every one. */
function honest() {
  const entries = [];
  let end = 0;
  const count = below(5);
  for (let i = 0; i < count; i++) {
    const dtype = pick(dtypes);
    const shape = Array.from({ length: below(4) }, () => below(4));
    const begin = end;
    end += shape.reduce((product, n) => product * n, sizes[dtype]);
    const name = pick(names);
    if (entries.some((entry) => entry.name === name)) {
      end = begin;
      continue;
    }
    entries.push({ name, dtype, shape, begin, end });
  }
  const fields = entries.map(({ name, dtype, shape, begin, end: stop }) => [
    JSON.stringify(name),
    [
      ['"dtype"', JSON.stringify(dtype)],
      ['"shape"', shape.map(String)],
      ['"data_offsets"', [String(begin), String(stop)]],
    ],
  ]);
  const metadata = [
    '{}',
    [['"format"', '"pt"']],
    [
      ['"format"', '"pt"'],
      ['"__proto__"', '"x"'],
    ],
  ];
  if (below(4) === 0) fields.unshift(['"__metadata__"', pick(metadata)]);
  const data = Buffer.alloc(end);
  for (let i = 0; i < end; i++) data[i] = below(256);
  return { fields, data, length: undefined, lead: '', tail: ' '.repeat(below(8)) };
}

const someTensor = (file) =>
  pick(file.fields.filter(([name, value]) => name !== '"__metadata__"' && Array.isArray(value)));
const someField = (file) => {
  const tensor = someTensor(file);
  return tensor && pick(tensor[1]);
};
const space = () => pick([' ', '\n', '\t', '\r', '  ', '\u00a0', '\ufeff', '\0', '/**/']);

/** Lies about what the header says. Those that find nothing to lie about do nothing. */
const lies = {
  nothing() {},
  dtype(file) {
    const field = someTensor(file)?.[1].find(([key]) => key === '"dtype"');
    if (field)
      field[1] = pick([
        ...dtypes.map((d) => `"${d}"`),
        '"BOOL"',
        '"F8_E4M3"',
        '"f32"',
        '"__proto__"',
        '"constructor"',
        ...oddValues,
      ]);
  },
  number(file) {
    const field = someField(file);
    if (Array.isArray(field?.[1]) && field[1].length) field[1][below(field[1].length)] = pick(oddValues);
  },
  shift(file) {
    const offsets = someTensor(file)?.[1].find(([key]) => key === '"data_offsets"')?.[1];
    if (!Array.isArray(offsets)) return;
    const by = pick([1, -1, 4, 8, 1000]);
    for (let i = below(2); i < offsets.length; i++) offsets[i] = String(Number(offsets[i]) + by);
  },
  swapOffsets(file) {
    const offsets = someTensor(file)?.[1].find(([key]) => key === '"data_offsets"')?.[1];
    if (Array.isArray(offsets)) offsets.reverse();
  },
  overlap(file) {
    const [a, b] = [someTensor(file), someTensor(file)];
    if (a && a !== b) a[1] = structuredClone(b[1]);
  },
  shapeProduct(file) {
    const shape = someTensor(file)?.[1].find(([key]) => key === '"shape"');
    if (shape)
      shape[1] = pick([
        ['65536', '65536', '65536', '65536'],
        ['0', '9007199254740991'],
        ['9007199254740991', '9007199254740991', '0'],
        Array(64).fill('1'),
        Array(65).fill('1'),
        ['1', '1'],
        Array(5000).fill('1'),
      ]);
  },
  listLength(file) {
    const field = someField(file);
    if (!Array.isArray(field?.[1])) return;
    if (below(2)) field[1].push(pick(['1', '0', ...oddNumbers]));
    else field[1].pop();
  },
  wholeValue(file) {
    const field = someField(file);
    if (field) field[1] = pick(oddValues);
  },
  duplicateTensor(file) {
    const tensor = pick(file.fields);
    if (tensor) file.fields.push(structuredClone(tensor));
  },
  duplicateEscaped(file) {
    const tensor = someTensor(file);
    if (tensor?.[0] === '"weight"') file.fields.push(['"\\u0077eight"', structuredClone(tensor[1])]);
  },
  duplicateField(file) {
    const tensor = someTensor(file);
    if (tensor?.[1].length) tensor[1].push(structuredClone(pick(tensor[1])));
  },
  unknownField(file) {
    someTensor(file)?.[1].push([pick(['"strides"', '"__proto__"', '"Dtype"', '"data_offset"']), pick(oddValues)]);
  },
  missingField(file) {
    const tensor = someTensor(file);
    tensor?.[1].splice(below(tensor[1].length), 1);
  },
  name(file) {
    const tensor = pick(file.fields);
    if (tensor) tensor[0] = pick([...oddNames, ...names.map((n) => JSON.stringify(n))]);
  },
  order(file) {
    file.fields.reverse();
    someTensor(file)?.[1].reverse();
  },
  metadata(file) {
    file.fields.splice(below(file.fields.length + 1), 0, [
      '"__metadata__"',
      pick([
        [],
        [['"a"', pick(oddValues)]],
        [
          ['"a"', '"1"'],
          ['"a"', '"2"'],
        ],
        '[]',
        'null',
        '"x"',
        '{"a":{"b":"c"}}',
      ]),
    ]);
  },
  emptyTensor(file) {
    const at = pick(['0', String(file.data.length), '1', '8']);
    file.fields.push([
      JSON.stringify(`e${below(3)}`),
      [
        ['"dtype"', '"F32"'],
        ['"shape"', ['0', '3']],
        ['"data_offsets"', [at, at]],
      ],
    ]);
  },
  lead(file) {
    file.lead = space();
  },
  tail(file) {
    file.tail = pick([space(), '}', ',', '{}', 'x', '\n\n', '   \t']);
  },
  deep(file) {
    const [open, close] = pick([
      ['[', ']'],
      ['{"a":', '}'],
    ]);
    const depth = pick([3, 100, 20000]);
    const value = open.repeat(depth) + '1' + (below(2) ? close.repeat(depth) : '');
    if (below(2)) file.fields.push(['"deep"', value]);
    else file.fields.push(['"__metadata__"', [['"deep"', value]]]);
  },
  data(file) {
    const n = pick([1, 3, 8, 64]);
    file.data = below(2)
      ? Buffer.concat([file.data, Buffer.alloc(n)])
      : file.data.subarray(0, Math.max(0, file.data.length - n));
  },
  length(file) {
    file.length = pick([
      0n,
      1n,
      7n,
      8n,
      100_000_000n,
      100_000_001n,
      2n ** 31n,
      2n ** 32n,
      2n ** 53n,
      2n ** 63n,
      2n ** 64n - 1n,
      -1n,
      -8n,
      1n,
    ]);
  },
};

const written = (value) => {
  if (typeof value === 'string') return value;
  if (value.every((item) => typeof item === 'string')) return `[${value.join(',')}]`;
  return `{${value.map(([key, item]) => `${key}:${written(item)}`).join(',')}}`;
};

/** Lies about the bytes themselves. */
const blows = {
  flip(bytes) {
    for (let i = 1 + below(3); i > 0 && bytes.length; i--) bytes[below(bytes.length)] ^= 1 << below(8);
    return bytes;
  },
  overwrite(bytes) {
    if (bytes.length > 8)
      bytes[8 + below(bytes.length - 8)] = pick([0, 0x22, 0x2c, 0x5b, 0x5c, 0x5d, 0x7b, 0x7d, 0x80, 0xc0, 0xff]);
    return bytes;
  },
  truncate: (bytes) => bytes.subarray(0, below(bytes.length + 1)),
  cutHeader(bytes) {
    const at = 8 + below(Math.max(1, bytes.length - 8));
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + below(4))]);
  },
  double(bytes) {
    const from = 8 + below(Math.max(1, bytes.length - 8));
    const to = from + below(30);
    return Buffer.concat([bytes.subarray(0, to), bytes.subarray(from)]);
  },
  append: (bytes) => Buffer.concat([bytes, Buffer.alloc(1 + below(9), below(256))]),
};

function assemble(file) {
  const body = written(file.fields.length ? file.fields : []);
  const header = Buffer.from(`${file.lead}${file.fields.length ? body : '{}'}${file.tail}`);
  const bytes = Buffer.alloc(8 + header.length + file.data.length);
  const length = BigInt(header.length);
  // A lie of 1 or 8 about the length is one about its distance from the truth.
  const told = file.length === undefined ? length : file.length < 2n ** 20n ? length + file.length - 4n : file.length;
  bytes.writeBigUInt64LE(BigInt.asUintN(64, told));
  header.copy(bytes, 8);
  file.data.copy(bytes, 8 + header.length);
  return bytes;
}

const utf8 = new util.TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
/** The entries by JSON.parse and second looks at what it hides, or undefined for a file that is not valid. */
function judge(bytes) {
  if (bytes.length < 8) return undefined;
  const length = bytes.readBigUInt64LE();
  if (length > 100_000_000n || length > BigInt(bytes.length - 8) || bytes[8] !== 0x7b) return undefined;
  const dataStart = 8 + Number(length);
  let text, header, again;
  try {
    text = utf8.decode(bytes.subarray(8, dataStart));
    header = JSON.parse(text);
    again = JSON.stringify(header);
  } catch {
    return undefined; // no UTF-8, no JSON, or deeper than a stack
  }
  // Duplicates vanish in parsing, so what is written again is shorter; numbers are compared as they were written.
  let given = 0;
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[ \n\r\t]+|[{}[\],:]|[^"{}[\],:\s]+/gs)) {
    if (token[0] === '"') {
      const read = JSON.parse(token);
      if (!read.isWellFormed()) return undefined;
      given += JSON.stringify(read).length;
    } else if (!/^\s/.test(token)) {
      if (/^[-0-9]/.test(token) && !/^(?:0|[1-9][0-9]*)$/.test(token)) return undefined;
      given += token.length;
    }
  }
  if (given !== again.length) return undefined;
  const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
  const areSizes = (value) => Array.isArray(value) && value.every((n) => Number.isSafeInteger(n));
  if (!isObject(header)) return undefined;
  const found = [];
  for (const [name, info] of Object.entries(header)) {
    if (!isObject(info)) return undefined;
    if (name === '__metadata__') {
      if (!Object.values(info).every((value) => typeof value === 'string')) return undefined;
      continue;
    }
    const { dtype, shape, data_offsets: offsets } = info;
    if (Object.keys(info).sort().join() !== 'data_offsets,dtype,shape') return undefined;
    if (typeof dtype !== 'string' || !Object.hasOwn(sizes, dtype) || !areSizes(shape) || !areSizes(offsets))
      return undefined;
    let bytesNeeded = BigInt(sizes[dtype]);
    for (const n of shape) {
      bytesNeeded *= BigInt(n);
      if (bytesNeeded > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
    }
    if (shape.length > 64 || offsets.length !== 2 || BigInt(offsets[1] - offsets[0]) !== bytesNeeded) return undefined;
    found.push({ name, dtype, shape, bytes: bytes.subarray(dataStart + offsets[0], dataStart + offsets[1]), offsets });
  }
  const ordered = [...found].sort((a, b) => a.offsets[0] - b.offsets[0] || a.offsets[1] - b.offsets[1]);
  const end = ordered.reduce((at, { offsets }) => (offsets[0] === at ? offsets[1] : NaN), 0);
  return end === bytes.length - dataStart ? found : undefined;
}

const ours = {
  F64: 'float64',
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I64: 'int64',
  I32: 'int32',
  I16: 'int16',
  I8: 'int8',
  U8: 'uint8',
};
function agree(expected, { tensors }) {
  if (tensors.size !== expected.length) throw new Error(`${tensors.size} tensors, not ${expected.length}`);
  for (const { name, dtype, shape, bytes } of expected) {
    const tensor = tensors.get(name);
    const got = Buffer.from(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
    if (tensor.dtype !== ours[dtype] || tensor.shape.join() !== shape.join() || !got.equals(bytes)) {
      throw new Error(`tensor ${JSON.stringify(name)} is not what the file says`);
    }
  }
}

const counts = { runs, seed, accepted: 0, refused: 0, told: {}, peakMemory: 0 };
const reasons = new Map();
const tellings = [...Object.entries(lies), ...Object.entries(blows)];
for (let run = 0; run < runs; run++) {
  const file = honest();
  const told = Array.from({ length: below(4) }, () => pick(tellings));
  for (const [name, tell] of told) {
    if (name in lies) tell(file);
    counts.told[name] = (counts.told[name] ?? 0) + 1;
  }
  let bytes = assemble(file);
  for (const [name, tell] of told) if (name in blows) bytes = tell(bytes);
  const expected = judge(bytes);
  try {
    let result;
    try {
      result = parse(bytes);
    } catch (error) {
      if (error?.name !== 'StateError' || error.code !== 'ERR_SAFETENSORS') throw error;
      if (error.message.length > 1500)
        throw new Error(`a message of ${error.message.length} characters`, { cause: error });
      if (expected) throw new Error('a valid file was refused', { cause: error });
      counts.refused++;
      const reason = error.message.replace(/"(?:[^"\\]|\\.)*"|\[[^\]]*\]|\d+/g, '#');
      reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    }
    if (result) {
      if (!expected) throw new Error('a file that is not valid was taken');
      agree(expected, result);
      const again = parse(serialize(result.tensors, { metadata: result.metadata }));
      if (again.tensors.size !== expected.length || again.metadata.size !== result.metadata.size)
        throw new Error('not written back');
      counts.accepted++;
    }
    if (run % 1024 === 0) counts.peakMemory = Math.max(counts.peakMemory, process.memoryUsage.rss());
    if (counts.peakMemory > mostMemory) throw new Error(`${counts.peakMemory} bytes of memory`);
  } catch (error) {
    console.error(
      `run ${run} of seed ${seed}, ${told.map(([name]) => name).join(', ')}: ${bytes.toString('latin1').slice(0, 2000)}`,
    );
    throw error;
  }
}
if (Object.keys(Object.prototype).length || {}.polluted !== undefined) throw new Error('Object.prototype was changed');
console.log(JSON.stringify({ ...counts, reasons: reasons.size }));
if (process.argv.includes('--reasons')) {
  for (const [reason, count] of [...reasons].sort(([, a], [, b]) => b - a))
    console.log(String(count).padStart(8), reason);
}
