// More than 2^31 elements, in place: every index and count in 64 bits, from TypeScript to the kernels. A script of its
// own, because it needs 8.6 GB; with less than 12 GB free it says that it was skipped.
//
//   node scripts/test-large.mjs
import { availableParallelism, freemem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createRequire } from 'node:module';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const lib = createRequire(import.meta.url)(join(root, 'dist', 'index.js'));

const needed = 12e9;
const free = Math.min(freemem(), process.availableMemory?.() ?? Infinity);
if (free < needed) {
  console.log(`skipped: ${(free / 1e9).toFixed(1)} GB of memory are free, ${needed / 1e9} GB needed`);
  console.log('0 passed, 0 failed, 1 skipped');
  process.exit(0);
}

// x[e] = pattern[e % period]: a prime, so that an index that lost its upper bits finds another value, and each channel
// meets every value.
const size = 2 ** 31 + 16;
const period = 1_000_003;
const pattern = Float32Array.from({ length: period }, (_, i) => Math.sin(i) * 3 + ((i * 7919) % 1000) / 500);
const x = new Float32Array(size);
const at = (e) => pattern[e % period];

function fill() {
  x.set(pattern);
  for (let done = period; done < size; done *= 2) x.copyWithin(done, 0, Math.min(done, size - done));
}

/** Mean and variance of the elements first, first + step, ... of the first `length`, step being no multiple of period. */
function statistics(first, step, length) {
  const count = Math.ceil((length - first) / step);
  const whole = Math.floor(count / period); // times every value of the pattern
  const average = (f) => {
    let [all, rest] = [0, 0];
    if (whole > 0) for (const v of pattern) all += f(v);
    for (let i = whole * period; i < count; i++) rest += f(at(first + i * step));
    return (all * whole + rest) / count;
  };
  const mean = average((v) => v);
  return { mean, variance: average((v) => (v - mean) ** 2), count };
}

const eps = 1e-5;
const normalized = (e, { mean, variance }) => (at(e) - mean) / Math.sqrt(variance + eps);
const near = (a, b) => Math.abs(a - b) <= 3e-6 * (1 + Math.abs(b));

/** Where a sum in 32 bits goes wrong: elements 2^29 to 2^31 are bytes 2^31 to 2^33. */
function* places() {
  for (const edge of [0, 2 ** 29, 2 ** 30, 2 ** 31, size]) {
    for (let e = Math.max(0, edge - 1500); e < Math.min(size, edge + 1500); e++) yield e;
  }
}

/** `run` normalizes x; y(e) is what is expected of it at e. */
function check(name, run, expected) {
  fill();
  const began = Date.now();
  const more = run();
  const seconds = ((Date.now() - began) / 1000).toFixed(1);
  const y = expected();
  let wrong = more;
  for (const e of places()) {
    if (wrong) break;
    if (!near(x[e], y(e))) wrong = `element ${e} is ${x[e]}, expected ${y(e)}`;
  }
  console.log(`${wrong ? 'FAILED' : 'ok'} ${name}, ${seconds} s${wrong ? `: ${wrong}` : ''}`);
  return !wrong;
}

/** One statistic for each of `channels`, over all the rest. */
function batchNorm(shape, channels, step, run) {
  const bn = new lib.BatchNorm1d(channels, { momentum: 1 });
  const own = Array.from({ length: channels }, (_, c) => statistics(c, step, size));
  return check(
    `BatchNorm1d(${channels}) of [${shape}]`,
    () => {
      lib.noGrad(() => run(bn, lib.tensor(x, shape)));
      for (let c = 0; c < channels; c++) {
        const { mean, variance, count } = own[c];
        const [m, v] = [bn.runningMean.data[c], bn.runningVar.data[c]];
        if (!near(m, mean) || !near(v, (variance * count) / (count - 1))) {
          return `channel ${c} has mean ${m} and variance ${v}, expected ${mean} and ${variance}`;
        }
      }
      return null;
    },
    () => (e) => normalized(e, own[e % channels]),
  );
}

const inPlace = (layer, t) => void layer.forward(t, { out: t });
lib.setNumThreads(Math.min(availableParallelism(), 256));

const results = [
  () => batchNorm([1, 1, size], 1, 1, inPlace),
  () => batchNorm([size / 16, 16], 16, 16, inPlace),
  () => {
    const width = 912; // a divisor of 2^31 + 16
    return check(
      `LayerNorm(${width}) of [${size / width}, ${width}]`,
      () => lib.noGrad(() => inPlace(new lib.LayerNorm(width), lib.tensor(x, [size / width, width]))),
      () => {
        const rows = new Map();
        return (e) => {
          const row = Math.floor(e / width);
          if (!rows.has(row)) rows.set(row, statistics(row * width, 1, (row + 1) * width));
          return normalized(e, rows.get(row));
        };
      },
    );
  },
  () => {
    const [channels, inner] = [16, size / 16];
    return check(
      `LocalResponseNorm(3) of [1, ${channels}, ${inner}]`,
      () =>
        lib.noGrad(() => inPlace(new lib.LocalResponseNorm(3, { alpha: 0.3 }), lib.tensor(x, [1, channels, inner]))),
      () => (e) => {
        const [c, s] = [Math.floor(e / inner), e % inner];
        let squares = 0;
        for (let j = Math.max(0, c - 1); j <= Math.min(channels - 1, c + 1); j++) squares += at(j * inner + s) ** 2;
        return at(e) / (1 + (0.3 / 3) * squares) ** 0.75;
      },
    );
  },
].map((test) => test());

const failed = results.filter((ok) => !ok).length;
console.log(`${results.length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
