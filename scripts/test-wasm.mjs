// The WebAssembly build against the native addon: the same bits from the same calls, in one process, through the facade
// and below it; faults, memory, its fallback in Node and the module for browsers. Makes the build first, where it is
// missing or of other sources. Needs dist/ and a native addon.
//
//   node scripts/test-wasm.mjs [calls]    so many random calls below the facade (20000)
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ensureWasm } from './build-wasm.mjs';
import { finish, holds, root, temporary } from './checks.mjs';
import { facade } from './facade.mjs';

const require = createRequire(import.meta.url);
const calls = Number(process.argv[2] ?? 20000);
await ensureWasm();

// Every instance that is made, to see its memory.
const instances = [];
const { Instance } = WebAssembly;
WebAssembly.Instance = class extends Instance {
  constructor(...all) {
    super(...all);
    instances.push(this.exports);
  }
};

const native = facade('');
const wasm = facade('wasm');

// --- the same bits

/** What came of a call, as something to compare: arrays by their bits, where all NaNs are one; errors by their words. */
function bitsOf(value) {
  if (ArrayBuffer.isView(value)) {
    const copy = value.slice();
    if (copy instanceof Float32Array || copy instanceof Float64Array) {
      for (let i = 0; i < copy.length; i++) if (Number.isNaN(copy[i])) copy[i] = NaN;
    }
    return `${copy.constructor.name} ${Buffer.from(copy.buffer, copy.byteOffset, copy.byteLength).toString('base64')}`;
  }
  if (value === null || typeof value !== 'object') return String(value);
  if (Array.isArray(value)) return value.map(bitsOf).join();
  if ('strides' in value) {
    const { dtype, shape, strides, offset, data } = value;
    return `${dtype} ${shape} ${strides} ${offset} ${bitsOf(noNaN(dtype, data))}`;
  }
  return Object.entries(value)
    .map(([key, one]) => `${key}: ${bitsOf(one)}`)
    .join();
}
function noNaN(dtype, data) {
  const infinity = { float16: 0x7c00, bfloat16: 0x7f80 }[dtype];
  return infinity === undefined ? data : data.map((bits) => ((bits & 0x7fff) > infinity ? 0x7fff : bits));
}
const outcome = (run) => {
  try {
    return bitsOf(run());
  } catch (error) {
    return `thrown: ${error.name} ${error.code ?? ''} ${error.message}`;
  }
};
function same(name, run, isRefused = false) {
  const [here, there] = [outcome(() => run(native)), outcome(() => run(wasm))];
  const ok = here === there && here.startsWith('thrown') === isRefused;
  holds(name, ok, `\n  native ${here.slice(0, 300)}\n  wasm   ${there.slice(0, 300)}`);
}

let seed = 1;
const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
const whole = (below) => Math.floor(random() * below);
const pick = (list) => list[whole(list.length)];
const product = (shape) => shape.reduce((p, n) => p * n, 1);
const numbers = (length, of = () => (random() - 0.5) * 4) => Array.from({ length }, of);

/** What data may be like: ordinary, far from zero, beyond the range of squares, subnormal, constant, with NaN. */
const kinds = {
  ordinary: () => (random() - 0.5) * 4,
  'far from zero': () => 1e4 + random(),
  huge: () => (random() - 0.5) * 1e300,
  tiny: () => random() * 1e-310,
  constant: () => 0.1,
  'not finite': () => (random() < 0.02 ? pick([NaN, Infinity, -Infinity]) : random()),
};
const dtypes = ['float32', 'float64', 'float16', 'bfloat16'];
const parameters = (dtype) => (dtype === 'float64' ? 'float64' : 'float32');

/** x of that dtype, from float64 values, in channels-last memory if so. */
function input(s, dtype, shape, values, channelsLast = false) {
  const x = s.tensor(Float64Array.from(values), shape);
  if (!channelsLast) return x.to(dtype);
  const axes = shape.map((_, i) => i);
  return x
    .permute(0, ...axes.slice(2), 1)
    .copy()
    .to(dtype)
    .permute(0, axes.length - 1, ...axes.slice(1, -1));
}

function steps(layer, x, dy, s, add) {
  const found = {};
  found.y = layer.forward(x, add ? { add } : {});
  found.dx = layer.backward(dy, add ? { gradAdd: (found.gradAdd = x.copy()) } : {});
  for (const parameter of layer.parameters?.() ?? []) found[parameter.name ?? 'grad'] = parameter.grad ?? 'none';
  if (layer.runningMean) {
    found.mean = layer.runningMean.copy();
    found.variance = layer.runningVar.copy();
    layer.eval();
    found.evaluated = layer.forward(x);
    found.evaluatedDx = layer.backward(dy);
    layer.train();
  }
  if (!add) {
    const inPlace = x.copy();
    s.noGrad(() => layer.forward(inPlace, { out: inPlace }));
    found.inPlace = inPlace;
  }
  return found;
}

const spatials = [[], [1], [2], [15], [16], [17], [33], [257], [3, 5], [4, 4], [2, 3, 4], [5003]];
const channels = [1, 2, 3, 15, 16, 17, 33];
for (const dtype of dtypes) {
  const options = { dtype: parameters(dtype) };
  for (const spatial of spatials) {
    for (const c of spatial[0] === 5003 ? [3] : channels) {
      const dims = spatial.length;
      const shape = [3, c, ...spatial];
      const name = (layer) => `${layer} ${shape.join('x')} ${dtype}`;
      const values = numbers(product(shape));
      const grads = numbers(product(shape));
      const groups = pick([1, c, ...[3, 5].filter((g) => c % g === 0)]);
      const Dims = dims <= 1 ? '1d' : `${dims}d`;
      const layers = {
        batch: (s) => new s[`BatchNorm${Dims}`](c, options),
        'batch average': (s) => new s[`BatchNorm${Dims}`](c, { ...options, momentum: null, affine: false }),
        group: (s) => new s.GroupNorm(groups, c, options),
        layer: (s) => new s.LayerNorm(shape.slice(1), options),
        'layer last': (s) => new s.LayerNorm(shape.at(-1), options),
        'layer over channels': (s) => new s.LayerNorm(c, { ...options, axis: 1 }),
        rms: (s) => new s.RMSNorm(shape.at(-1), options),
        ...(dims > 0 && {
          response: (s) => new s.LocalResponseNorm(3, options),
          'endless response': (s) => new s.LocalResponseNorm(2 ** 40 + 1, options),
        }),
        ...(dims === 2 && { 'cross map': (s) => new s.CrossMapLRN2d(2, options) }),
        ...(product(spatial) > 1 && {
          instance: (s) => new s[`InstanceNorm${Dims}`](c, { ...options, affine: true, trackRunningStats: true }),
        }),
      };
      for (const [kind, make] of Object.entries(layers)) {
        for (const channelsLast of dims > 0 ? [false, true] : [false]) {
          same(name(kind) + (channelsLast ? ' channels-last' : ''), (s) => {
            const layer = make(s);
            for (const parameter of layer.parameters?.() ?? []) {
              parameter.data.set(parameter.data.map((_, i) => 0.5 + ((i * 7) % 11) / 8));
            }
            const [x, dy] = [values, grads].map((v) => input(s, dtype, shape, v, channelsLast));
            return steps(layer, x, dy, s);
          });
        }
      }
      same(name('relu and add'), (s) => {
        const [x, dy, add] = [values, grads, [...grads].reverse()].map((v) => input(s, dtype, shape, v));
        return steps(new s.GroupNorm(groups, c, { ...options, relu: true }), x, dy, s, add);
      });
      same(name('moments'), (s) => {
        const x = input(s, dtype, shape, values);
        return [s.functional.moments(x), s.functional.moments(x, 0), s.functional.moments(x, [0, shape.length - 1])];
      });
      same(name('functions'), (s) => {
        const x = input(s, dtype, shape, values);
        const f = s.functional;
        const { output, mean, rstd } = f.nativeLayerNorm(x, shape.slice(1));
        const back = f.nativeLayerNormBackward(output, x, shape.slice(1), { mean, rstd });
        return [output, mean, rstd, back, f.rmsNorm(x, shape.at(-1)), f.normalize(x, { dim: 1 })];
      });
    }
  }
  for (const [kind, of] of Object.entries(kinds)) {
    const shape = [4, 19, 37];
    const [values, grads] = [numbers(product(shape), of), numbers(product(shape))];
    for (const make of [
      (s) => new s.BatchNorm1d(19, options),
      (s) => new s.GroupNorm(1, 19, options),
      (s) => new s.LayerNorm(37, options),
      (s) => new s.RMSNorm(37, options),
      (s) => new s.LocalResponseNorm(5, options),
    ]) {
      same(`${kind} ${dtype}`, (s) => {
        const [x, dy] = [values, grads].map((v) => input(s, dtype, shape, v));
        return steps(make(s), x, dy, s);
      });
    }
  }
  const [masked, lent] = [numbers(5 * 7 * 9), numbers(6400)];
  same(`masks ${dtype}`, (s) => {
    const bn = new s.BatchNorm1d(7, options);
    const mask = Array.from({ length: 5 }, (_, n) => Array.from({ length: 9 }, (_, i) => i < 3 + n));
    const x = input(s, dtype, [5, 7, 9], masked);
    return [bn.forward(x, { mask }), bn.backward(x), bn.runningMean, bn.runningVar];
  });
  same(`an output pool ${dtype}`, (s) => {
    const pool = new s.OutputPool();
    const ln = new s.LayerNorm(64, options);
    const x = input(s, dtype, [100, 64], lent);
    return [0, 1, 2].map(() => {
      const y = ln.forward(x, { out: pool });
      const copy = y.copy();
      y.dispose();
      return copy;
    });
  });
}

for (const dtype of ['float32', 'float64', 'float16', 'bfloat16', 'int8', 'uint8', 'int16', 'int32']) {
  for (const [rows, features] of [
    [1, 1],
    [7, 3],
    [100, 17],
    [3000, 33],
  ]) {
    const values = numbers(rows * features, () => whole(100) - (dtype === 'uint8' ? 0 : 50));
    same(`tally ${dtype} ${rows}x${features}`, (s) => {
      const of = (from, to) =>
        s.tensor(Float64Array.from(values.slice(from * features, to * features)), [to - from, features]).to(dtype);
      const { RunningMoments, StandardScaler } = s.preprocessing;
      const [one, two] = [new RunningMoments(features), new RunningMoments(features)];
      one.update(of(0, Math.ceil(rows / 2)));
      two.update(of(Math.floor(rows / 2), rows));
      one.merge(two);
      const scaler = new StandardScaler().fit(of(0, rows));
      return [JSON.stringify(one), one.mean, one.m2, scaler.mean, scaler.var];
    });
  }
}
for (const [channelsIn, layout, dtype] of [
  [3, 'chw', 'float32'],
  [4, 'chw', 'float16'],
  [3, 'hwc', 'bfloat16'],
  [1, 'chw', 'float64'],
]) {
  const [width, height] = [19, 7];
  const images = [0, 1, 2].map(() => Uint8Array.from(numbers(width * height * channelsIn, () => whole(256))));
  same(`images of ${channelsIn} ${layout} ${dtype}`, (s) => {
    const { imagesToTensor, tensorToImages } = s.preprocessing;
    const of = images.map((data) => ({ data, width, height, channels: channelsIn }));
    const mean = [0.4, 0.5, 0.6, 0.7].slice(0, Math.min(channelsIn, 3));
    const settings = { mean, std: mean.map((m) => m / 2), layout, dtype };
    const x = imagesToTensor(of, settings);
    return [x, tensorToImages(x, { mean, std: settings.std, layout })];
  });
}

{
  const pixels = Uint8Array.from(numbers(200_000 * 3, () => whole(256)));
  same('200,000 images in one call', (s) => {
    const of = Array.from({ length: 200_000 }, (_, i) => pixels.subarray(3 * i, 3 * i + 3));
    return s.preprocessing.imagesToTensor(of.map((data) => ({ data, width: 1, height: 1, channels: 3 })));
  });
}

const settled = async (run) => {
  try {
    return bitsOf(await run());
  } catch (error) {
    return `${error.name} ${error.message}`;
  }
};
for (const dtype of dtypes) {
  const values = numbers(6 * 50);
  const [here, there] = await Promise.all(
    [native, wasm].map((s) =>
      settled(async () => {
        const bn = new s.BatchNorm1d(50, { dtype: parameters(dtype) });
        const x = input(s, dtype, [6, 50], values);
        const context = bn.context();
        const y = await bn.forwardAsync(x, { context });
        return [y, bn.backward(y, { context }), bn.runningMean, bn.runningVar];
      }),
    ),
  );
  holds(
    `forwardAsync ${dtype}`,
    here === there && !here.includes('Error'),
    `\n  ${here.slice(0, 200)}\n  ${there.slice(0, 200)}`,
  );
}

// --- below the facade: random arguments, good and bad, give the same answers and leave the same memory

const arrays = [Float32Array, Float64Array, Uint16Array, Uint8Array, Int32Array];
const names = {
  forward: 9,
  backward: 12,
  localResponse: 3,
  localResponseBackward: 4,
  moments: 3,
  statisticsOfParts: 4,
  updateRunning: 5,
  fromImages: 3,
  toImages: 3,
  tally: 4,
  merge: 2,
  mergeTallies: 2,
};
const size = () => pick([0, 1, 1, 2, 3, 4, 5, 8, 16, 17]);
const geometry = () => {
  const [batch, outer, groups, inner] = [size() || 1, pick([1, 1, 2, 3]), size() || 1, pick([1, 1, 2, 4, 16, 33])];
  return pick([
    [batch, outer, groups, inner, inner, groups],
    [batch, outer, groups, inner, 1, groups * inner],
    [batch, outer, groups, 1, groups, outer],
    [batch, outer, groups, inner, size(), size()],
  ]);
};
function blockOf(name) {
  const g = geometry();
  const offsets = () => pick([0, 0, 0, 1, 3, 1000, -1, 0.5]);
  if (name.startsWith('localResponse')) {
    return {
      block: [...g.slice(0, 3), whole(3), whole(3), offsets(), offsets(), offsets(), 1, 1e-4, 0.75, 0],
      n: g[0] * g[1] * g[2],
    };
  }
  if (name === 'fromImages' || name === 'toImages') {
    const [count, height, width, step] = [1 + whole(2), 1 + whole(5), 1 + whole(20), 1 + whole(4)];
    const row = width * step + whole(3);
    const image = height * row + whole(3);
    const taken = 1 + whole(step);
    const order = [0, 1, 2, 3].map((c) => c % step);
    return {
      block: [
        count,
        height,
        width,
        step,
        row,
        image,
        taken,
        whole(2),
        offsets(),
        0,
        ...order,
        ...[1, 2, 3, 4],
        ...[1, 2, 3, 4],
      ],
      n: count * image,
    };
  }
  if (name === 'tally') {
    const [outer, c, inner] = [size(), size(), size()];
    return { block: [outer, c, inner, c * inner + whole(2), offsets(), 0, pick([0, 4])], n: outer * (c * inner + 1) };
  }
  const flags = pick([0, 1, 2, 8, 16, 24, 64, 4]);
  const given = pick([0b111111111, 0b111111111, 0b111000, 0, 0b11111111000, 0b1000, 0b100000000, 0b111111111000]);
  return {
    block: [...g, offsets(), offsets(), offsets(), offsets(), 1e-5, 0.1, flags, given, 0],
    n: product(g.slice(0, 4)),
    g,
  };
}
/** Arrays in a few buffers, where they may overlap. */
function argumentsOf(name) {
  const { block, n, g = [1, 1, 1, 1, 1, 1] } = blockOf(name);
  const buffers = [0, 1, 2].map(() => {
    const floats = Float64Array.from({ length: 700 }, () => random() - 0.25);
    return random() < 0.5 ? floats.buffer : new Float32Array(1400).map(() => random()).buffer;
  });
  const Kind = pick([Float32Array, Float64Array, Uint16Array]);
  const lengths = [n, n, n, n, 5 * g[0] * g[2], g[5], g[2], 4 * g[5], 9 * n].map((l) =>
    Math.max(0, Math.floor(l || 0)),
  );
  const args = [Float64Array.from(block.map((b) => (random() < 0.003 ? pick([NaN, -1, 1e300]) : b)))];
  for (let i = 1; i < names[name]; i++) {
    const doubles = {
      forward: [5],
      backward: [5, 11],
      moments: [2],
      statisticsOfParts: [2, 3],
      updateRunning: [3, 4],
      tally: [2, 3],
    }[name];
    const K = random() < 0.02 ? pick(arrays) : doubles?.includes(i) ? Float64Array : Kind;
    const perName = { forward: [0, 0, 0, 5, 5, 4, 6, 6, 0], backward: [0, 0, 0, 0, 5, 4, 5, 5, 0, 0, 5, 7] }[name]?.[i];
    const length = random() < 0.9 && perName !== undefined ? lengths[perName] : pick(lengths);
    const buffer = pick(buffers);
    const room = Math.floor(buffer.byteLength / K.BYTES_PER_ELEMENT);
    const from = random() < 0.7 ? whole(Math.max(1, room - length)) : 0;
    args.push(
      random() < 0.02
        ? pick([null, undefined, 3, 'text', new ArrayBuffer(8), []])
        : length <= room - from && random() < 0.6
          ? new K(buffer, from * K.BYTES_PER_ELEMENT, length)
          : new K(length + whole(2)).fill(1),
    );
  }
  if (name === 'fromImages')
    args[2] = [0, 1].map(() => new Uint8Array(pick(buffers), whole(50), Math.min(4000, n + whole(2))));
  if (name === 'toImages') args[2] = new Uint8Array(pick(buffers), whole(50), Math.min(4000, n + whole(2)));
  if (name.startsWith('merge')) {
    args[0] = new Float64Array(pick(buffers), 8 * whole(5), pick([45, 45, 90, 7]));
    args[1] = new Float64Array(pick(buffers), 8 * whole(5), args[0].length);
  }
  return args;
}
const answers = new Map();
for (let i = 0; i < calls; i++) {
  const name = pick(Object.keys(names));
  const args = argumentsOf(name);
  // One copy keeps the arrays that share a buffer together.
  const copy = structuredClone(args);
  const [here, there] = [native.addon[name](...args), wasm.addon[name](...copy)];
  const kind = here >> 4;
  answers.set(kind, (answers.get(kind) ?? 0) + 1);
  if (here !== there) holds(`call ${i}, ${name}: native ${here}, wasm ${there}`, false);
  else {
    const buffers = [args, copy].map((list) =>
      list
        .flat()
        .filter((arg) => ArrayBuffer.isView(arg))
        .map((a) => a.buffer),
    );
    const equal = buffers[0].every((buffer, k) => sameMemory(buffer, buffers[1][k]));
    holds(`call ${i}, ${name} (${here}): the memory differs`, equal);
  }
}
/** All of it, so that what a call wrote beside its output shows. The bits of NaNs are the processor's own affair. */
function sameMemory(a, b) {
  const bytes = [a, b].map((buffer) => Buffer.from(buffer));
  if (bytes[0].equals(bytes[1])) return true;
  const isNaNIn = ([Kind, isNaN], at) =>
    [a, b].every((buffer) => {
      const first = at - (at % Kind.BYTES_PER_ELEMENT);
      return first + Kind.BYTES_PER_ELEMENT <= buffer.byteLength && isNaN(new Kind(buffer, first, 1)[0]);
    });
  const floats = [
    [Float32Array, Number.isNaN],
    [Float64Array, Number.isNaN],
    [Uint16Array, (bits) => (bits & 0x7fff) > 0x7c00], // of either kind
  ];
  return bytes[0].every((byte, at) => byte === bytes[1][at] || floats.some((kind) => isNaNIn(kind, at)));
}
console.log(
  `random calls by kind of fault: ${[...answers]
    .sort()
    .map(([kind, n]) => `${kind}: ${n}`)
    .join(', ')}`,
);
holds(
  'random calls met success and every fault but out of memory',
  [0, 1, 2, 3, 4, 5].every((kind) => answers.get(kind) > 20),
);

// --- memory

const memory = () => instances.at(-1).memory.buffer.byteLength;
{
  const ln = new wasm.LayerNorm(1024);
  const x = wasm.tensor(new Float32Array(1024 * 256).map(random), [256, 1024]);
  const y = new Float32Array(x.size);
  const round = () => {
    ln.forward(x, { out: y });
    ln.backward(x, { out: y });
    ln.zeroGrad();
  };
  for (let i = 0; i < 10; i++) round();
  const before = memory();
  for (let i = 0; i < 3000; i++) round();
  holds('3000 training steps of 1 MiB do not grow the memory', memory() === before, `${before} -> ${memory()}`);
  for (let i = 0; i < 3000; i++) {
    wasm.addon.forward(new Float64Array(15), x.data, x.data, null, null, null, null, null, null);
    wasm.addon.moments(
      Float64Array.of(256, 1, 1, 1024, 1, 1024, 0, 0, 0, 0, 0, 0, 0, 0, 0),
      x.data,
      new Float64Array(3),
    );
  }
  holds('nor do 6000 faults', memory() === before, `${before} -> ${memory()}`);

  // The stack ends in the middle of a call.
  const made = instances.length;
  const small = wasm.tensor(new Float32Array(64).map(random), [1, 64]);
  const norm = new wasm.LayerNorm(64);
  const first = bitsOf(norm.forward(small));
  const deep = () => {
    norm.forward(small);
    return 1 + deep();
  };
  for (let i = 0; i < 20; i++) {
    let thrown;
    try {
      deep();
    } catch (error) {
      thrown = error;
    }
    if (!(thrown instanceof RangeError)) holds('the stack ends with a RangeError', false, String(thrown));
  }
  holds('the same bits after 20 ends of the stack', bitsOf(norm.forward(small)) === first);
  holds('an instance that ended in a call is replaced', instances.length >= made && memory() <= before);

  // No memory for the arrays, and no memory for what the op needs beside them.
  const error = (run) => {
    try {
      run();
    } catch (thrown) {
      return thrown.code;
    }
  };
  const { malloc, free } = instances.at(-1);
  const room = malloc(2 ** 19);
  const taken = [];
  for (let bytes = 2 ** 30; bytes >= 2 ** 16; bytes /= 2) {
    for (let place; (place = malloc(bytes) >>> 0) > 0;) taken.push(place);
  }
  const kept = new Float32Array(y);
  holds(
    'no memory for the arrays',
    error(() => new wasm.LayerNorm(1024).forward(x, { out: y })) === 'ERR_OUT_OF_MEMORY',
  );
  holds('the output is as it was', Buffer.from(kept.buffer).equals(Buffer.from(y.buffer)));
  const wide = wasm.tensor(new Float32Array(2 * 6000).fill(1), [2, 6000]);
  const fits = () => new wasm.BatchNorm1d(6000).forward(wide);
  free(room);
  holds('no memory for the op', error(fits) === 'ERR_OUT_OF_MEMORY');
  for (const place of taken) free(place);
  holds('and then there is', error(fits) === undefined);
  holds(
    'more than there can be',
    error(() =>
      wasm.functional.moments(wasm.tensor(new Uint16Array(2 ** 28 + 1), [2 ** 28 + 1], { dtype: 'float16' })),
    ) === 'ERR_OUT_OF_MEMORY',
  );
}

// --- what there is of it

holds('one instruction set', wasm.isa.all.join() === 'simd128' && wasm.isa.active === 'simd128');
wasm.setNumThreads(4);
holds('one thread', wasm.getNumThreads() === 1);
same('numbers of threads are checked', (s) => s.setNumThreads(0), true);

// --- the fallback in Node

function child(code, env) {
  const { SIMDNORM_ADDON: _, ...inherited } = process.env;
  const { stdout, stderr } = spawnSync(process.execPath, ['--no-warnings', '-e', code], {
    cwd: root,
    encoding: 'utf8',
    timeout: 120_000,
    killSignal: 'SIGKILL',
    env: { ...inherited, ...env },
  });
  return stdout + stderr;
}
const script = `
  process.on('warning', ({ code, message }) => console.log('warning', code, message));
  const s = require('./dist');
  new s.LayerNorm(4).forward([[1, 2, 3, 4]]);
  setImmediate(() => console.log('isa', s.isa.active));`;
const elsewhere = "Object.defineProperty(process, 'arch', { value: 'riscv64' });";
const fellBack = child(elsewhere + script, { PREBUILDS_ONLY: '1' });
holds(
  'where no prebuild fits it is WebAssembly, with one warning',
  /^warning SIMDNORM_WASM simdnorm has no native addon for \w+-riscv64.*\nisa simd128\n$/.test(fellBack),
  fellBack,
);
holds(
  'asked for, without a warning',
  child(script, { SIMDNORM_ADDON: 'wasm' }) === 'isa simd128\n',
  child(script, { SIMDNORM_ADDON: 'wasm' }),
);
for (const name of ['broken.node', 'broken.wasm']) {
  writeFileSync(join(temporary, name), 'not a binary');
  const said = child(script, { SIMDNORM_ADDON: join(temporary, name) });
  holds(`${name} is an error`, said.includes('ERR_ADDON_NOT_FOUND') && said.includes(name), said);
}

// --- process groups: over threads as ever, over MPI refused

const training = `
  const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
  const { createThreadGroup, initProcessGroup } = require('./dist/distributed');
  const s = require('./dist');
  if (isMainThread) {
    const memory = createThreadGroup(3);
    const said = [];
    for (let rank = 0; rank < 3; rank++) {
      new Worker(CODE, { eval: true, workerData: { engine: 'threads', memory, rank } }).on('message', (text) => {
        said[rank] = text;
        if (Object.keys(said).length === 3) console.log(said.join(' '));
      });
    }
  } else {
    initProcessGroup(workerData).then((group) => {
      const bn = new s.SyncBatchNorm(5);
      const x = s.tensor(Float32Array.from({ length: 4 * 5 * 7 }, (_, i) => Math.sin(i * (workerData.rank + 2))), [4, 5, 7]);
      const y = bn.forward(x);
      const all = [y, bn.backward(y), bn.runningVar].map(({ data }) => Buffer.from(data.buffer).toString('base64'));
      parentPort.postMessage(all.join(' '));
      group.close();
    });
  }`;
const ranks = (env) => child(`const CODE = ${JSON.stringify(`const CODE = '';${training}`)};${training}`, env);
const byNative = ranks({});
holds(
  'three ranks over threads',
  byNative.split(' ').length === 9 && byNative === ranks({ SIMDNORM_ADDON: 'wasm' }),
  byNative,
);
const mpi = child(`require('./dist/distributed').initProcessGroup({ engine: 'mpi' })`, { SIMDNORM_ADDON: 'wasm' });
holds('MPI is refused', mpi.includes('ERR_ENGINE_NOT_FOUND') && mpi.includes('WebAssembly'), mpi);

// --- the module

const web = await import(pathToFileURL(join(root, 'dist', 'wasm', 'index.mjs')).href);
const publicNames = Object.keys(require(join(root, 'dist')));
holds(
  'simdnorm/wasm has all names of simdnorm',
  publicNames.every((name) => name in web),
  publicNames.filter((name) => !(name in web)).join(),
);
holds(
  'and their classes are called so',
  publicNames.every((name) => typeof web[name] !== 'function' || web[name].name === native[name].name),
);
holds(
  'and the functions',
  Object.keys(native.functional).every((name) => name in web.functional),
);
for (const dtype of dtypes) {
  const values = numbers(4 * 6 * 5 * 7);
  const step = (s) => {
    const x = input(s, dtype, [4, 6, 5, 7], values);
    return steps(new s.BatchNorm2d(6, { dtype: parameters(dtype) }), x, x, s);
  };
  holds(
    `its bits, ${dtype}`,
    outcome(() => step(web)) === outcome(() => step(native)) && !outcome(() => step(web)).startsWith('thrown'),
  );
}

finish();
