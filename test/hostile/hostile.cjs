// Hostile calls, through the facade and behind its back. A plain script, so that it also runs under AddressSanitizer:
//
//   node test/hostile/hostile.cjs [--calls=N] [--seed=S] [--root=DIR]
//
// Every call must answer (a result, a TypeError, a RangeError or an Error with a code; natively a fault number), and
// a refused one must leave everything as it was. Prints the seed and what it did; exits non-zero on the first violation.
'use strict';

const { join, resolve } = require('node:path');

const option = (name, fallback) =>
  process.argv.find((a) => a.startsWith(`--${name}=`))?.slice(name.length + 3) ?? fallback;
const root = resolve(option('root', join(__dirname, '..', '..')));
const calls = Number(option('calls', 100_000));
const seed = Number(option('seed', Date.now() % 2 ** 31));
console.log(`seed ${seed}`);

const lib = require(join(root, 'dist', 'index.js'));
const functional = require(join(root, 'dist', 'functional', 'index.js'));
const preprocessing = require(join(root, 'dist', 'preprocessing', 'index.js'));
const { addon } = require(join(root, 'dist', 'internal', 'addon.js'));
const { lenders } = require(join(root, 'dist', 'tensor.js'));

// mulberry32
let state = seed >>> 0;
const random = () => {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = Math.imul(state ^ (state >>> 15), state | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
};
const below = (n) => Math.floor(random() * n);
const pick = (list) => list[below(list.length)];
const count = (sizes) => sizes.reduce((a, b) => a * b, 1);

function violation(what, details) {
  console.error(`violation: ${what}`, details);
  console.error(`repeat with --seed=${seed} --calls=${calls}`);
  process.exit(1);
}

/** Uint16Array: 16-bit floats, whose parameters are of float32. */
const arrays = [Float32Array, Float64Array, Uint16Array];
const parametersOf = (Kind) => (Kind === Uint16Array ? Float32Array : Kind);

/** Ends where its pages end: one element further is a fault of the process, for any instruction set. */
function guarded(Kind, length) {
  const bytes = length * Kind.BYTES_PER_ELEMENT;
  const pages = Math.max(1, Math.ceil(bytes / 4096)) * 4096;
  const buffer = new ArrayBuffer(pages, { maxByteLength: pages + 65536 });
  return new Kind(buffer, pages - bytes, length);
}
function make(Kind, length, how = below(4)) {
  if (how === 1) return guarded(Kind, length);
  if (how === 2) return new Kind(new SharedArrayBuffer(length * Kind.BYTES_PER_ELEMENT));
  if (how === 3)
    return new Kind(new ArrayBuffer((length + 7) * Kind.BYTES_PER_ELEMENT), 3 * Kind.BYTES_PER_ELEMENT, length);
  return new Kind(length);
}
function filled(Kind, length) {
  const x = make(Kind, length);
  for (let i = 0; i < length; i++) x[i] = Kind === Uint16Array ? 0x3c00 + below(512) : random() * 4 - 1;
  return x;
}
function detach(x) {
  if (x.buffer instanceof SharedArrayBuffer) return new x.constructor(0);
  structuredClone(x.buffer, { transfer: [x.buffer] });
  return x;
}
function shrink(x) {
  const { length, constructor: Kind, BYTES_PER_ELEMENT: size } = x;
  const buffer = new ArrayBuffer(length * size, { maxByteLength: length * size + 64 });
  const view = new Kind(buffer, 0, length);
  buffer.resize(below(length) * size);
  return view;
}

const hostileValues = () => [
  undefined,
  null,
  true,
  3,
  NaN,
  'x',
  10n,
  Symbol('s'),
  [],
  {},
  () => {},
  new DataView(new ArrayBuffer(64)),
  new ArrayBuffer(64),
  new Proxy(new Float32Array(64), {}),
  Object.create(Float32Array.prototype),
  new Int32Array(64),
  new Uint8Array(64),
  new BigInt64Array(8),
  new Uint8ClampedArray(8),
  new (class extends Float32Array {
    get length() {
      return 1e9;
    }
  })(3),
  { data: new Float32Array(4), shape: 'ab' },
  { length: 3 },
  new Date(),
  /x/,
];

// ---- behind the facade ----

/** A geometry of any of the norms, of a few hundred elements; now and then of enough for the pool. */
function geometry() {
  const large = random() < 0.003 ? 3000 : 0;
  const [n, c, s, g] = [1 + below(4), 1 + below(5), 1 + below(40) + large, 1 + below(3)];
  return pick([
    [1, n, c, s, s, c],
    [1, n * s, c, 1, 1, c],
    [n, 1, c, s, s, c],
    [n, s, c, 1, 1, c],
    [n, 1, g, c * s, s, c * g],
    [n, s, g, c, 1, c * g],
    [n, 1, 1, s, 1, s],
    [n, c, s + 1, 1, s + 1, c],
  ]);
}

/** A number of the block says which arguments there are; `after` are those behind it. */
function saying(args, ...after) {
  const given = args.reduce((sum, a, i) => (a === null ? sum : sum + 2 ** i), 0);
  return args.with(0, Float64Array.of(...args[0], given, ...after));
}
/** How many values are behind a statistic: the geometry's, or more, or nonsense. */
const values = () => pick([0, 0, 0, 1, 1e9, -1, NaN]);

function forwardCall(Kind, g) {
  const [batch, outer, groups, inner, , channels] = g;
  const size = batch * outer * groups * inner;
  const running = batch === 1 && random() < 0.5;
  const saved = random() < 0.3 && !running ? null : make(Float64Array, batch * groups * 5);
  const flags =
    (running && random() < 0.5 ? 4 : pick([0, 1, 2])) + pick([0, 16]) + pick([0, 32]) + (saved ? pick([0, 0, 64]) : 0);
  const block = new Float64Array([...g, 0, 0, 0, 0, 1e-5, 0.1, flags]);
  const Parameters = parametersOf(Kind);
  const optional = (n) => (random() < 0.3 ? null : filled(Parameters, n));
  const add = random() < 0.5 ? null : filled(Kind, size);
  return {
    name: 'forward',
    args: saying(
      [
        block,
        filled(Kind, size),
        make(Kind, size),
        optional(channels),
        optional(channels),
        saved,
        running ? filled(Parameters, groups) : null,
        running ? filled(Parameters, groups) : null,
        add,
      ],
      values(),
    ),
    offsets: [[6, 1], [7, 2], ...(add ? [[9, 8]] : [])],
  };
}

function backwardCall(Kind, g) {
  const [batch, outer, groups, inner, , channels] = g;
  const size = batch * outer * groups * inner;
  const saved = make(Float64Array, batch * groups * 5);
  const block = new Float64Array([...g, 0, 0, 0, 0, 1e-5, 0, 0]);
  addon.forward(...saying([block, filled(Kind, size), new Kind(size), null, null, saved, null, null, null], 0));
  const relu = random() < 0.5;
  const gated = relu && random() < 0.5 ? make(Kind, size) : null;
  const dx = (!relu || gated) && random() < 0.1 ? null : make(Kind, size);
  const Parameters = parametersOf(Kind);
  const optional = (n) => (random() < 0.3 ? null : filled(Parameters, n));
  const add = relu && random() < 0.5 ? filled(Kind, size) : null;
  const part = batch === 1 && groups === channels && random() < 0.5;
  return {
    name: 'backward',
    args: saying(
      [
        new Float64Array([...g, 0, 0, 0, 0, 0, 0, pick([0, 1, 4]) + (relu ? 16 : 0) + pick([0, 32])]),
        filled(Kind, size),
        filled(Kind, size),
        dx,
        optional(channels),
        saved,
        optional(channels),
        optional(channels),
        gated,
        add,
        relu ? optional(channels) : null,
        part ? filled(Float64Array, (dx ? 4 : 2) * channels) : null,
      ],
      values(),
    ),
    offsets: [[8, 1], [6, 2], ...(dx ? [[7, 3]] : []), ...(add ? [[9, 9]] : [])],
  };
}

function momentsCall(Kind, g) {
  const size = count(g.slice(0, 4));
  return {
    name: 'moments',
    args: saying(
      [new Float64Array([...g, 0, 0, 0, 0, 0, 0, below(2)]), filled(Kind, size), make(Float64Array, g[0] * g[2] * 5)],
      0,
    ),
    offsets: [[6, 1]],
  };
}

function updateRunningCall(Data, [batch, , groups]) {
  const Kind = parametersOf(Data);
  return {
    name: 'updateRunning',
    args: saying(
      [
        new Float64Array([batch, 1, groups, 1, 1, groups, 0, 0, 0, 0, 0, 0.1, 0]),
        filled(Kind, groups),
        random() < 0.3 ? null : filled(Kind, groups),
        filled(Float64Array, batch * groups * 5),
        filled(Float64Array, batch),
      ],
      0,
    ),
    offsets: [],
  };
}

function statisticsOfPartsCall(Data, [batch, , groups]) {
  return {
    name: 'statisticsOfParts',
    args: saying(
      [
        new Float64Array([batch, 1, groups, 1, 1, groups, 0, 0, 0, 0, 1e-5, 0, pick([0, 2])]),
        filled(Data, 1 + below(3)),
        filled(Float64Array, batch * groups * 5),
        make(Float64Array, groups * 5),
      ],
      0,
    ),
    offsets: [],
  };
}

/** Three sizes, a reach to both sides, and a response; as addon.cc numbers them. */
function windowBlock() {
  const large = random() < 0.003 ? 3000 : 0;
  const [outer, channels, inner] = [1 + below(4), 1 + below(9), pick([1, 1 + below(40) + large])];
  const reach = () => pick([0, 1, 2, 5, 20, 2 ** 53]);
  return new Float64Array([
    outer,
    channels,
    inner,
    reach(),
    reach(),
    0,
    0,
    0,
    1,
    0.1,
    pick([0.75, 0.6, 0, 2]),
    pick([0, 8, 32]),
  ]);
}

function localResponseCall(Kind) {
  const block = windowBlock();
  const size = count([...block.subarray(0, 3)]);
  const offsets = [
    [5, 1],
    [6, 2],
  ];
  return { name: 'localResponse', args: [block, filled(Kind, size), make(Kind, size)], offsets };
}

function localResponseBackwardCall(Kind) {
  const block = windowBlock();
  const size = count([...block.subarray(0, 3)]);
  const offsets = [
    [7, 1],
    [5, 2],
    [6, 3],
  ];
  const args = [block, filled(Kind, size), filled(Kind, size), make(Kind, size)];
  return { name: 'localResponseBackward', args, offsets };
}

/** As addon.cc numbers them, of a hundred pixels or so; the bytes that an array needs. */
function imageBlock() {
  const [each, height, width, step] = [1 + below(3), 1 + below(5), 1 + below(40), 1 + below(4)];
  const channels = 1 + below(step);
  const rowStride = width * step + pick([0, 0, 5]);
  const imageStride = height * rowStride + pick([0, 3]);
  const order = Array.from({ length: 4 }, (_, c) => (c < step ? c : 0));
  const numbers = [each, height, width, step, rowStride, imageStride, channels, below(2), 0, pick([0, 32])];
  return {
    block: new Float64Array([...numbers, ...order, 1, 2, 3, 4, 5, 6, 7, 8]),
    bytes: (each - 1) * imageStride + (height - 1) * rowStride + width * step,
    elements: each * height * width * channels,
  };
}

function fromImagesCall(Kind) {
  const { block, bytes, elements } = imageBlock();
  const arrays = Array.from({ length: 1 + below(3) }, () => make(Uint8Array, bytes));
  return { name: 'fromImages', args: [block, make(Kind, elements * arrays.length), arrays], offsets: [[8, 1]] };
}

function toImagesCall(Kind) {
  const { block, bytes, elements } = imageBlock();
  return { name: 'toImages', args: [block, filled(Kind, elements), make(Uint8Array, bytes)], offsets: [[8, 1]] };
}

function mergeCall() {
  const [name, each] = pick([
    ['merge', 5],
    ['mergeTallies', 9],
  ]);
  const n = below(4) * each;
  return { name, args: [filled(Float64Array, n), filled(Float64Array, n)], offsets: [] };
}

/** Data [outer][channels][inner] with something behind each outer, and their states. */
function tallyCall(Floats) {
  const Kind = pick([Floats, Uint8Array, Int8Array, Int16Array, Int32Array]);
  const large = random() < 0.003 ? 9000 : 0;
  const [outer, channels, inner] = [1 + below(40) + large, 1 + below(20), pick([1, 1, 1 + below(60)])];
  const stride = channels * inner + pick([0, 0, 3]);
  const weights = random() < 0.5 ? null : filled(Float64Array, outer * inner).map(Math.abs);
  return {
    name: 'tally',
    args: [
      Float64Array.of(outer, channels, inner, stride, 0, pick([0, 32]), weights ? 4 : 0),
      filled(Kind, (outer - 1) * stride + channels * inner),
      weights,
      filled(Float64Array, channels * 9),
    ],
    offsets: [[4, 1]],
  };
}

/** One lie; returns whether the call must be refused. */
function corrupt(call) {
  const { args, offsets, name } = call;
  const present = args.map((a, i) => i).filter((i) => args[i] !== null && (i > 0 || name.startsWith('merge')));
  const i = pick(present);
  // Of a list one array.
  const list = Array.isArray(args[i]) ? args[i] : args;
  const at = list === args ? i : below(list.length);
  const x = list[at];
  const images = name === 'fromImages' || name === 'toImages';
  // An argument whose elements no other has to be like.
  const open = ['moments', 'tally', 'statisticsOfParts'].includes(name) || images;
  const alone = i === 1 && (open || (name === 'updateRunning' && args[2] === null));
  // Only its type is looked at.
  const long = name === 'statisticsOfParts' && i === 1 ? 'maybe' : true;
  switch (below(9)) {
    case 0: {
      if (x.length === 0) return false;
      list[at] = x.slice(0, below(x.length)); // too short
      return long;
    }
    case 1: {
      const { length } = x;
      list[at] = detach(x);
      return length > 0 && long;
    }
    case 2:
      if (x.length === 0) return false;
      list[at] = shrink(x);
      return long;
    case 3:
      list[at] = x instanceof Float64Array ? new Float32Array(x.length) : new Float64Array(x.length); // another dtype
      return alone ? 'maybe' : true;
    case 4: {
      const [slot, of] = pick(offsets.length ? offsets : [[0, 0]]);
      if (!offsets.length) return false;
      args[0][slot] = pick([
        1,
        0.5,
        -1,
        NaN,
        Infinity,
        2 ** 32,
        2 ** 53,
        2 ** 64,
        args[of].length,
        args[of].length + 1,
      ]);
      return true;
    }
    case 5: {
      if (name.startsWith('merge')) return false;
      const slot = below(images ? 14 : name === 'tally' ? 4 : 6);
      const old = args[0][slot];
      args[0][slot] = pick([old + 1, old - 1, old + 0.5, -1, NaN, Infinity, 2 ** 31, 2 ** 53, 2 ** 60, 0]);
      return 'maybe'; // a smaller batch is a good call
    }
    case 6: {
      // overlap: an output that lies over another argument, shifted
      if (images) {
        const [tensor, bytes] = [args[1], i === 2 ? x : [args[2]].flat()[0]];
        const both = new ArrayBuffer(tensor.byteLength + bytes.length);
        args[1] = new tensor.constructor(both, 0, tensor.length);
        const over = new Uint8Array(both, 1, bytes.length);
        if (name === 'toImages') args[2] = over;
        else args[2][i === 2 ? at : 0] = over;
        return true;
      }
      const outputs = {
        forward: [2],
        backward: args[8] && random() < 0.5 ? [8] : args[3] ? [3] : [],
        updateRunning: args[2] ? [2] : [],
        localResponse: [2],
        localResponseBackward: [3],
        moments: [],
        statisticsOfParts: [],
        merge: [],
        mergeTallies: [],
        tally: [],
      }[name];
      if (!outputs.length || args[1].length < 2) return false;
      const length = args[1].length;
      const both = new args[1].constructor(length + 1);
      args[1] = both.subarray(0, length);
      args[outputs[0]] = both.subarray(1);
      return true;
    }
    case 7:
      if (list !== args && random() < 0.3) {
        args[i] = pick([...hostileValues(), list.concat(null), new Array(3)]);
        return Array.isArray(args[i]) ? 'maybe' : true;
      }
      list[at] = pick(hostileValues());
      return list[at] == null || list[at] instanceof Float32Array || (open && i === 1) || images ? 'maybe' : true;
    default:
      args.length = i; // missing from here on
      return 'maybe';
  }
}

const isArray = (a) =>
  ArrayBuffer.isView(a) &&
  !(a instanceof DataView) &&
  Object.getPrototypeOf(a.constructor ?? Object).name === 'TypedArray';
const snapshot = (args) => args.flat().map((a) => (isArray(a) ? (a.length ? Array.from(a) : []) : null));
const equal = (a, b) =>
  a === b || (a !== null && b !== null && a.length === b.length && a.every((v, i) => Object.is(v, b[i])));

const tally = {
  native: 0,
  corrupted: 0,
  refused: 0,
  accepted: 0,
  facade: 0,
  thrown: 0,
  returned: 0,
  lent: 0,
  async: 0,
};

function nativeRound() {
  const Kind = pick(arrays);
  const g = geometry();
  const calls = [
    forwardCall,
    forwardCall,
    backwardCall,
    backwardCall,
    momentsCall,
    mergeCall,
    updateRunningCall,
    statisticsOfPartsCall,
    localResponseCall,
    localResponseBackwardCall,
    tallyCall,
    fromImagesCall,
    toImagesCall,
  ];
  const call = pick(calls)(Kind, g);
  const lie = random() < 0.95;
  const must = lie ? corrupt(call) : 'accept';
  const before = snapshot(call.args);
  const fault = addon[call.name](...call.args);
  tally.native++;
  if (must !== false && must !== 'accept') tally.corrupted++;
  if (!Number.isInteger(fault) || fault < 0 || fault > 127) violation('a fault that is none', { call, fault });
  if (fault === 0) {
    tally.accepted++;
    if (must === true) violation('a call with a lie was accepted', call);
    return;
  }
  tally.refused++;
  if (must === 'accept') violation(`a good call was refused with ${fault}`, call);
  const after = snapshot(call.args);
  if (!before.every((b, i) => equal(b, after[i]))) violation('a refused call has written', call);
}

/** What the two functions about memory are given: buffers that are written to, or anything. */
function memoryRound() {
  const length = pick([0, 1, 64, 4096, 5 * 2 ** 20]);
  const filled = new Uint8Array(length).fill(7, 0, pick([0, length]));
  const buffer = pick([
    () => filled.buffer,
    () => detach(new Uint8Array(length)).buffer,
    () => shrink(new Uint8Array(length + 1)).buffer,
    () => new SharedArrayBuffer(length),
    () => pick(hostileValues()),
  ])();
  const [fault, line] = [addon.adviseHugePages(buffer), addon.bytesToCacheLine(buffer)];
  const good = buffer instanceof ArrayBuffer;
  if (fault !== (good ? 0 : 16)) violation('a fault that is none', { buffer, fault });
  if (!Number.isInteger(line) || line < (good ? 0 : -1) || line > (good ? 63 : -1))
    violation('no line', { buffer, line });
  if (buffer === filled.buffer && filled.some((v) => v !== filled[0])) violation('advice has written', buffer);
  tally.native++;
}

// ---- through the facade ----

// Outputs that a pool has lent, and what is in them: nobody else may write there. Some are still lent when this ends.
const pool = new lib.OutputPool({ maxBytes: 20_000 });
const lent = [];
function hold(y) {
  lent.push({ y, before: Array.from(y.data) });
  tally.lent++;
  if (lent.length < 20) return;
  const [{ y: old, before }] = lent.splice(below(20), 1);
  if (random() < 0.1) detach(old.data);
  else if (!equal(before, Array.from(old.data))) violation('lent memory was written to', old);
  old.dispose();
  if (old.data.length !== 0 || pool.lentBytes + pool.idleBytes > pool.maxBytes) violation('not given back', pool);
}

const classes = [
  () => [new lib.BatchNorm1d(1 + below(5), options()), 2 + below(2)],
  () => [new lib.BatchNorm2d(1 + below(5), options()), 4],
  () => [new lib.SyncBatchNorm(1 + below(5), options()), 2 + below(4)],
  () => [new lib.LazyBatchNorm1d(options()), 2 + below(2)],
  () => [new lib.LazyInstanceNorm1d(options()), 3],
  () => [new lib.InstanceNorm1d(1 + below(5), { ...options(), trackRunningStats: random() < 0.5 }), 3],
  () => [new lib.InstanceNorm2d(1 + below(5), options()), 4],
  () => [new lib.GroupNorm(1, 1 + below(5), { dtype: pick(['float32', 'float64']) }), 2 + below(3)],
  () => [new lib.LayerNorm(1 + below(5), { dtype: pick(['float32', 'float64']), relu: random() < 0.5 }), 1 + below(3)],
  () => [new lib.LayerNorm(1 + below(5), { dtype: pick(['float32', 'float64']), axis: 0 }), 1 + below(3)],
  () => [new lib.RMSNorm([1 + below(3), 1 + below(3)], { dtype: pick(['float32', 'float64']) }), 2 + below(2)],
  () => [new lib.LocalResponseNorm(1 + below(9), { dtype: pick(['float32', 'float64']) }), 3 + below(2)],
];
const options = () => ({
  dtype: pick(['float32', 'float64']),
  affine: random() < 0.7,
  momentum: pick([0.1, null, 0, 1]),
  nonFinite: pick(['propagate', 'throw', 'skip']),
  relu: random() < 0.3,
});

function goodShape(layer, rank) {
  const shape = Array.from({ length: rank }, () => 1 + below(6));
  if (layer.normalizedShape)
    shape.splice(Math.max(0, rank - layer.normalizedShape.length), rank, ...layer.normalizedShape);
  else shape[1] = layer.numFeatures ?? layer.numChannels ?? shape[1];
  // A lazy layer takes any number of channels.
  if (shape[1] === 0) shape[1] = 1 + below(5);
  return shape;
}

function hostileTensor(layer, shape) {
  const Kind = layer.dtype === 'float64' ? Float64Array : Float32Array;
  const size = count(shape);
  const good = () => filled(Kind, size);
  return pick([
    () => pick(hostileValues()),
    () => ({ data: filled(Kind, Math.max(0, size - 1)), shape }),
    () => ({ data: filled(Kind, size + 1), shape }),
    () => ({ data: good(), shape: [...shape, 2] }),
    () => ({ data: good(), shape: shape.slice(1) }),
    () => ({ data: good(), shape: shape.map((n, i) => (i === 1 ? n + 1 : n)) }),
    () => ({ data: good(), shape: shape.map(() => pick([NaN, -1, 1.5, '3', 2 ** 53, Infinity, null])) }),
    () => ({ data: detach(good()), shape }),
    () => ({ data: shrink(filled(Kind, size + 1)), shape }),
    () => {
      const t = new lib.Tensor(good(), shape);
      detach(t.data);
      return t;
    },
    () => ({ data: good(), shape, strides: shape.map(() => pick([0, 1, -1, 1e9, NaN, size])) }),
    () => ({ data: good(), shape, offset: pick([1, -1, NaN, size, 2 ** 40, 0.5]) }),
    () => ({ data: Kind === Float32Array ? new Float64Array(size) : new Float32Array(size), shape }),
    () => ({
      get data() {
        return good();
      },
      get shape() {
        throw new TypeError('a getter');
      },
    }),
    () => {
      const data = good();
      return {
        data,
        get shape() {
          detach(data);
          return shape;
        },
      };
    },
    () => ({ data: new Uint8Array(size), shape }),
    () => ({ data: good(), shape }),
    () => ({ data: filled(Uint16Array, size), shape, dtype: pick(['float16', 'bfloat16', 'float32']) }),
    () => new lib.Tensor(good(), shape),
  ])();
}

/** Images that may be none. */
function hostileImages() {
  const [height, width, channels] = [1 + below(5), 1 + below(20), 1 + below(4)];
  const good = () => make(Uint8Array, height * width * channels);
  const image = (fields) => ({ data: good(), height, width, channels, ...fields });
  return pick([
    () => pick(hostileValues()),
    () => image(),
    () => image({ data: detach(good()) }),
    () => image({ data: shrink(good()) }),
    () => image({ rowStride: pick([1, -1, NaN, width * channels, 2 ** 40, 'x']) }),
    () => image({ [pick(['width', 'height', 'channels'])]: pick([0, 2, 0.5, -1, NaN, 2 ** 31, 2 ** 53, '3', null]) }),
    () => [image(), image({ data: pick([good, () => detach(good())])() })],
    () => [image(), pick(hostileValues())],
    () => new lib.Tensor(good(), [height, width, channels]),
    () => new lib.Tensor(detach(good()), [height, width, channels]),
    () => {
      const t = new lib.Tensor(good(), [1, height, width, channels]);
      detach(t.data);
      return t;
    },
    () => {
      const data = good();
      return [
        image({ data }),
        {
          height,
          width,
          channels,
          get data() {
            detach(data);
            return good();
          },
        },
      ];
    },
  ])();
}

/** A state dict of the layer with lies in it. */
function hostileState(layer) {
  if (random() < 0.1) return pick(hostileValues());
  const state = layer.stateDict();
  for (const [key, { dtype }] of state) {
    if (random() < 0.4) state.set(key, hostileTensor({ dtype }, pick([[], [1], [layer.numFeatures ?? 3], [2, 3]])));
    if (random() < 0.05) state.delete(key);
  }
  if (random() < 0.1) state.set(pick(['more', '__proto__', 'weight.deep', '']), hostileTensor(layer, [2]));
  return pick([state, new Map(state), Object.fromEntries(state)]);
}

const layerState = (layer) => {
  const of = (t) => {
    try {
      return t ? Array.from(t.data) : null;
    } catch (error) {
      return [error.code];
    }
  };
  return [
    of(layer.weight),
    of(layer.bias),
    of(layer.runningMean),
    of(layer.runningVar),
    of(layer.weight?.grad),
    of(layer.bias?.grad),
  ];
};

let current = pick(classes)();
function facadeRound() {
  if (random() < 0.1) current = pick(classes)();
  const [layer, rank] = current;
  const shape = goodShape(layer, rank);
  const before = layerState(layer);
  const counter = layer.numBatchesTracked;
  const { lentBytes } = pool;
  tally.facade++;
  try {
    // Now and then a good call, so that outputs are lent.
    const good = random() < 0.2;
    const Kind = layer.dtype === 'float64' ? Float64Array : Float32Array;
    const x = good ? new lib.Tensor(filled(Kind, count(shape)), shape) : hostileTensor(layer, shape);
    const outs = [
      undefined,
      undefined,
      pick(hostileValues()),
      new Float32Array(count(shape)),
      detach(new Float32Array(8)),
      x,
      x?.data,
      Object.create(lib.OutputPool.prototype),
    ];
    const opts = pick([
      ...(good ? new Array(40).fill({ out: pool }) : []),
      undefined,
      {},
      { out: pick(outs) },
      { out: pool },
      { out: pool },
      { context: pick([layer.context(), {}, null]) },
      { add: hostileTensor(layer, shape) },
      { gradAdd: pick(outs) },
      { saveInput: pick(['copy', 'x']) },
      { updateStats: pick([false, 0]) },
      { mask: pick([...hostileValues(), new Uint8Array(count(shape)).fill(1), [[true]], [[1, [0]]]]) },
      { lengths: pick([...hostileValues(), shape.map(() => 1), new Int32Array(shape[0]), [1e9], [NaN]]) },
      5,
      { ot: 1 },
    ]);
    const y = pick([
      () => layer.forward(x, opts),
      () => layer.forward(x, opts),
      () => lib.noGrad(() => layer.forward(x, opts)),
      () => layer.backward(x, opts),
      () => functional.batchNorm(x, { training: random() < 0.5, runningMean: pick(hostileValues()), ...opts }),
      () => functional.nativeGroupNormBackward(x, x, 1, { mean: pick(hostileValues()), rstd: [1], ...opts }),
      () => functional.layerNorm(x, pick([shape.at(-1), ...hostileValues()]), opts),
      () => preprocessing.imagesToTensor(hostileImages(), opts),
      () => preprocessing.imagesToTensor(hostileImages(), { mean: pick([0.5, [0.5], NaN, 'x']), layout: 'hwc' }),
      () =>
        preprocessing.tensorToImages(x, pick([undefined, { layout: 'hwc' }, { out: new Uint8Array(count(shape)) }])),
      () => functional.moments(x, pick([0, [0, 1], ...hostileValues()])),
      () => functional.normalize(x, pick([undefined, { p: pick([1, 2, NaN, 'x']), dim: pick([0, -1, 9, 0.5]) }])),
      () =>
        layer.loadStateDict(hostileState(layer), pick([undefined, undefined, { strict: false }, { strict: 1 }, null])),
      () => Object.assign(layer, { [pick(['eps', 'momentum', 'trackRunningStats'])]: pick([null, NaN, 'x', 1, true]) }),
      () => layer.train(pick([true, false, 1, 'no', undefined])),
      () =>
        new lib.BatchNorm1d(
          pick([3, -1, NaN, '3', 1.5, null]),
          pick([undefined, null, 5, { eps: NaN }, { eps: '1' }, { momentum: 'x' }, { afine: true }, { affine: 1 }]),
        ),
      () => new lib.GroupNorm(pick([0, 3, -1, NaN]), pick([4, NaN, null])),
      () => new lib.LayerNorm(pick([[], [-1], 'x', NaN, [1.5], null, { length: 2 }])),
    ])();
    tally.returned++;
    if (y instanceof lib.Tensor && lenders.has(y.data.buffer)) hold(y);
  } catch (error) {
    tally.thrown++;
    const kind = error instanceof TypeError || error instanceof RangeError || typeof error?.code === 'string';
    if (!kind) violation('an error of another kind', error);
    if (error.message === 'a getter') return;
    const after = layerState(layer);
    if (!before.every((b, i) => equal(b, after[i])) || counter !== layer.numBatchesTracked) {
      violation('a refused call has changed the layer', { error, layer: String(layer) });
    }
    if (pool.lentBytes !== lentBytes) violation('a refused call has kept what it was lent', error);
  }
}

// ---- forwards on another thread ----

/** What JavaScript may do to memory that a forward is reading or writing on another thread. */
function disturb(data) {
  if (!isArray(data) || data.length === 0) return;
  if (data.buffer instanceof SharedArrayBuffer) return; // to be left alone until the promise settles, as documented
  pick([
    () => data.fill(data instanceof BigInt64Array ? 7n : 7),
    () => detach(data),
    () => data.buffer.resizable && data.buffer.resize(0),
    () => undefined,
  ])();
}

/** A good one must give what forward gives, whatever happens before and while another thread is at work. */
async function asyncRound() {
  const [layer, rank] = pick(classes)();
  const shape = goodShape(layer, rank);
  // Some that a thread is busy with for a while.
  if (random() < 0.1) shape[0] *= 1 + Math.floor(2e5 / count(shape));
  const Kind = layer.dtype === 'float64' ? Float64Array : Float32Array;
  // In evaluation mode a forward leaves nothing behind, which would make the second one another.
  layer.eval();
  const good = random() < 0.7;
  const x = good ? new lib.Tensor(filled(Kind, count(shape)), shape) : hostileTensor(layer, shape);
  const out = pick([undefined, undefined, make(Kind, count(shape)), good ? x : undefined, pick(hostileValues()), pool]);
  let expected = null;
  try {
    if (good) expected = Array.from(layer.forward(new lib.Tensor(Kind.from(x.data), shape)).data);
  } catch {
    // A lazy layer, or too few values to normalize.
  }
  const before = layerState(layer);
  const answer = layer.forwardAsync(x, { out }).then(
    (y) => ({ y }),
    (error) => ({ error }),
  );
  if (good && out !== x) disturb(x.data);
  if (random() < 0.5) disturb(out);
  for (let i = 0; i < 5; i++) await null; // now the thread has it
  disturb(out);
  const owned = expected ? [layer.weight, layer.bias, layer.runningMean, layer.runningVar] : [];
  const parameters = owned.filter((t) => t && random() < 0.3);
  for (const { data } of parameters) data.fill(3);
  for (let i = below(3); i > 0; i--) nativeRound();
  const settled = await answer;
  if ('error' in settled) {
    const { error } = settled;
    tally.thrown++;
    const kind = error instanceof TypeError || error instanceof RangeError || typeof error?.code === 'string';
    if (!kind) violation('an error of another kind', error);
    if (good && expected && out === undefined && error.code !== 'ERR_NO_ASYNC') {
      violation('a good call was refused', { layer: String(layer), error });
    }
    const after = layerState(layer);
    if (parameters.length === 0 && !before.every((b, i) => equal(b, after[i]))) {
      violation('a refused call has changed the layer', { error });
    }
    return;
  }
  tally.async++;
  if (good && !(expected && equal(expected, Array.from(settled.y.data)))) {
    violation('not what forward gives', { layer: String(layer) });
  }
}

/** The same of images. */
async function asyncImagesRound() {
  const [height, width] = [1 + below(40), 1 + below(200)];
  const images = Array.from({ length: 1 + below(3) }, () => {
    const data = make(Uint8Array, height * width * 3);
    data.forEach((_, i) => (data[i] = below(256)));
    return { data, height, width, channels: 3 };
  });
  const out = pick([undefined, undefined, make(Float32Array, images.length * height * width * 3)]);
  const expected = Array.from(preprocessing.imagesToTensor(images).data);
  const answer = preprocessing.imagesToTensorAsync(images, { out }).then(
    (y) => ({ y }),
    (error) => ({ error }),
  );
  for (const { data } of images) disturb(data);
  if (random() < 0.5) disturb(out);
  for (let i = 0; i < 5; i++) await null;
  disturb(out);
  const { y, error } = await answer;
  tally.async++;
  if (error && (!out || !(error instanceof RangeError))) violation('good images were refused', error);
  if (y && !equal(expected, Array.from(y.data))) violation('not what imagesToTensor gives', images);
}

async function main() {
  for (let i = 0; i < calls; i++) {
    if (i % 499 === 0) addon.setThreads(1 + below(7));
    if (i % 997 === 0)
      addon.isaUse(pick([...lib.isa.supported.keys()].map((k) => lib.isa.all.indexOf(lib.isa.supported[k]))));
    if (random() < 0.002) memoryRound();
    else if (random() < 0.01) await pick([asyncRound, asyncImagesRound])();
    else if (random() < 0.65) nativeRound();
    else facadeRound();
  }
  if (calls >= 1000 && tally.corrupted < calls / 2)
    violation('too few calls reached the native side with a lie', tally);
  if (calls >= 1000 && tally.lent < calls / 200) violation('too few outputs were lent', tally);
  if (calls >= 10_000 && tally.async < calls / 1000) violation('too few forwards ran on another thread', tally);
  console.log(JSON.stringify(tally));
  process.exitCode = 0;
}
process.exitCode = 1; // of a promise that never settles
main();
