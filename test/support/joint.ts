// Batches that are divided among ranks, and what they may differ by from the whole batch in one BatchNorm.

import { tensor } from '../../lib';
import { values } from './shapes';
import { expectClose, expectSameBits, type Dtype } from './tolerance';
const layers = require('../distributed/scenarios/layers.cjs') as {
  steps: (context: object) => Promise<Outcome[]>;
};

export type Numbers = Float32Array | Float64Array | Uint16Array;
export interface Input {
  data: Numbers;
  shape: number[];
  dtype?: 'float16';
  permute?: number[];
}
/** Of test/distributed/scenarios/layers.cjs; inputs and gradients are of the whole batch, or a rank's. */
export interface Step {
  op: 'forward' | 'backward' | 'set' | 'reset';
  mode?: 'train' | 'eval';
  input?: Input;
  add?: Input;
  gradOutput?: Input;
  options?: object;
  async?: boolean;
  late?: number;
  out?: boolean | 'dy';
  context?: string;
  noGrad?: boolean;
  gradAdd?: boolean;
  state?: Record<string, ArrayLike<number> | number>;
}
export interface Outcome {
  y?: Numbers;
  dx?: Numbers;
  shape?: number[];
  dweight?: Numbers | null;
  dbias?: Numbers | null;
  gradAdd?: Numbers;
  error?: { name: string; code?: string; message: string };
  runningMean: Numbers | null;
  runningVar: Numbers | null;
  numBatchesTracked: number | null;
}

/** What a batch looks like without its number of samples. */
export interface Form {
  c: number;
  inner?: number[];
  dtype?: Dtype;
  half?: boolean;
  channelsLast?: boolean;
}
export const dtypeOf = ({ dtype = 'float32' }: Form): Dtype => dtype;
const innerSize = ({ inner = [] }: Form): number => inner.reduce((p, n) => p * n, 1);

/** Seeded data of n samples. */
export function batch(form: Form, n: number, mean: number, spread: number, seed: number): Input {
  const { c, inner = [], half, channelsLast } = form;
  const data = values(n * c * innerSize(form), dtypeOf(form), mean, spread, seed);
  const stored = half ? (tensor(data).to('float16').data as Uint16Array) : data;
  const axes = inner.map((_, i) => i + 1);
  const layout = channelsLast
    ? { shape: [n, ...inner, c], permute: [0, inner.length + 1, ...axes] }
    : { shape: [n, c, ...inner] };
  return { data: stored, ...layout, ...(half && { dtype: 'float16' as const }) };
}

/** A rank's samples. */
export function part(x: Input, from: number, to: number): Input {
  const [n, ...rest] = x.shape as [number, ...number[]];
  const each = n === 0 ? 0 : x.data.length / n;
  return { ...x, data: x.data.slice(from * each, to * each), shape: [to - from, ...rest] };
}

export const starts = (splits: readonly number[]): number[] =>
  splits.map((_, rank) => splits.slice(0, rank).reduce((sum, n) => sum + n, 0));

/** The steps that a rank takes of those of all. */
export function stepsOf(steps: readonly Step[], splits: readonly number[], rank: number): Step[] {
  const from = starts(splits)[rank]!;
  const to = from + splits[rank]!;
  return steps.map((step): Step => {
    const own = { ...step };
    for (const name of ['input', 'add', 'gradOutput'] as const) {
      if (step[name]) own[name] = part(step[name], from, to);
    }
    const { lengths, mask } = (step.options ?? {}) as { lengths?: number[]; mask?: unknown[] };
    if (lengths) own.options = { ...step.options, lengths: lengths.slice(from, to) };
    if (mask) own.options = { ...step.options, mask: mask.slice(from, to) };
    return own;
  });
}

/** What one BatchNorm of this process makes of the whole batch. */
export function whole(simdnorm: object, form: Form, args: object): Promise<Outcome[]> {
  const module = { 0: 'BatchNorm1d', 1: 'BatchNorm1d', 2: 'BatchNorm2d', 3: 'BatchNorm3d' }[form.inner?.length ?? 0];
  return layers.steps({ simdnorm, args: { module, ...args }, assert: { equal: () => {} } });
}

/** Elements as numbers. */
const wide = (x: Numbers): Float64Array =>
  (x.BYTES_PER_ELEMENT === 2 ? tensor(x, [x.length], { dtype: 'float16' }).to('float32').data : x) as Float64Array;

// Bound here for the same reason as in support/vectors.ts.
const { abs, floor, log2, max, sqrt } = Math;
const { MIN_VALUE } = Number;

/** One unit in the last place, of `bits` behind the point, at a value of this size. */
const ulp = (size: number, bits: number): number =>
  2 ** (max({ 10: -14, 23: -126, 52: -1022 }[bits]!, floor(log2(size || MIN_VALUE))) - bits);
const bitsOf = (x: Numbers): number => ({ 2: 10, 4: 23, 8: 52 })[x.BYTES_PER_ELEMENT as 2 | 4 | 8];

/** Elements of x in the order of (N, C, ...), and their channels. */
function inOrder(form: Form, x: Input): { values: Float64Array; channel: Int32Array } {
  const s = innerSize(form);
  const from = wide(x.data);
  const { c, channelsLast } = form;
  const sorted = new Float64Array(from.length);
  const channel = new Int32Array(from.length);
  for (let at = 0; at < sorted.length; at += c * s) {
    for (let k = 0; k < c; k++) {
      for (let i = 0; i < s; i++) {
        sorted[at + k * s + i] = from[at + (channelsLast ? i * c + k : k * s + i)]!;
        channel[at + k * s + i] = k;
      }
    }
  }
  return { values: sorted, channel };
}

interface Parameters {
  weight: ArrayLike<number> | null;
  bias: ArrayLike<number> | null;
  eps: number;
}

/**
 * By element, how much is added up to y = xHat * weight + bias, and to dx = weight * rstd * (dy - mean(dy) - xHat *
 * mean(dy * xHat)): errors are counted in ulp of that, so that cancellation is neither punished nor hidden. The mean has
 * an error of the size of the deviations, which is 1 beside xHat.
 */
export function sizes(
  form: Form,
  x: Input,
  dy: Input | null,
  { weight, bias, eps }: Parameters,
): Record<'y' | 'dx', Float64Array> {
  const { values: xs, channel } = inOrder(form, x);
  const count = xs.length / form.c;
  const meanOf = (f: (i: number, k: number) => number): Float64Array => {
    const sums = new Float64Array(form.c);
    for (let i = 0; i < xs.length; i++) sums[channel[i]!]! += f(i, channel[i]!) / count;
    return sums;
  };
  const mean = meanOf((i) => xs[i]!);
  const rstd = meanOf((i, k) => (xs[i]! - mean[k]!) ** 2).map((v) => 1 / sqrt(v + eps));
  const xHat = (i: number, k: number): number => abs(xs[i]! - mean[k]!) * rstd[k]!;
  const w = (k: number): number => abs(weight?.[k] ?? 1);
  const each = (f: (i: number, k: number) => number): Float64Array => xs.map((_, i) => f(i, channel[i]!));
  const y = each((i, k) => w(k) * (1 + xHat(i, k)) + abs(bias?.[k] ?? 0));
  if (!dy) return { y, dx: y };
  const { values: dys } = inOrder(form, dy);
  const [plain, along] = [meanOf((i) => abs(dys[i]!)), meanOf((i, k) => abs(dys[i]!) * xHat(i, k))];
  return { y, dx: each((i, k) => w(k) * rstd[k]! * (abs(dys[i]!) + plain[k]! + (1 + xHat(i, k)) * along[k]!)) };
}

/** Throws unless `actual` are the bits expected, or with `size` within 2 ulp of what was added up. */
export function expectAlike(what: string, actual: Numbers, expected: Numbers, size: ArrayLike<number> | null): void {
  if (sameBytes(actual, expected)) return;
  const [a, e] = [wide(actual), wide(expected)];
  if (!size) return expectSameBits(what, a, e);
  const bits = bitsOf(actual);
  const allowed = e.map((v, i) => 2 * ulp(max(abs(v), size[i]!), bits));
  expectClose(what, a, e, allowed, bits === 52 ? 'float64' : 'float32');
}

const bytesOf = (x: Numbers): Buffer => Buffer.from(x.buffer, x.byteOffset, x.byteLength);
const sameBytes = (a: Numbers, b: Numbers): boolean => bytesOf(a).equals(bytesOf(b));
