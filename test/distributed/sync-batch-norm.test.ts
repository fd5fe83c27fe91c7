// SyncBatchNorm of several ranks against a BatchNorm of the whole batch, over every engine, and with threads on every
// instruction set and number of threads.

import { serialize } from 'node:v8';
import * as simdnorm from '../../lib';
import { isa } from '../../lib';
import {
  batch,
  dtypeOf,
  expectAlike,
  sizes,
  starts,
  stepsOf,
  whole,
  type Form,
  type Input,
  type Outcome,
  type Step,
} from '../support/joint';
import { onEveryEngine, runRanks, valuesOf, type Case, type EngineHere, type Result } from '../support/ranks';
import { values } from '../support/shapes';
import { expectClose, expectSameBits, unitRoundoff } from '../support/tolerance';

interface Row {
  title: string;
  form: Form;
  splits: number[];
  options?: object;
  /** The bits of the whole batch: every rank's part is a complete part of its reduction. */
  exact?: boolean;
  /** Of a batch, what a forward and a backward do besides. */
  forward?: Partial<Step> | ((n: number) => Partial<Step>);
  backward?: Partial<Step>;
  /** false: evaluation goes by each rank's own batch. */
  evaluates?: boolean;
  /** What a rank does in its own way. */
  own?: (rank: number) => Partial<Step>;
}

const uneven = [3, 1, 4, 2];
const nc = { c: 5 };
const ncl = { c: 4, inner: [7] };
const nchw = { c: 3, inner: [5, 6] };
const nhwc = { ...nchw, channelsLast: true };
const f64 = { dtype: 'float64' as const };
const half = { half: true };

const rows: Row[] = [
  { title: '(N, C)', form: nc, splits: uneven },
  { title: '(N, C), float64', form: { ...nc, ...f64 }, splits: uneven },
  { title: '(N, C, L)', form: ncl, splits: uneven },
  { title: '(N, C, L), float64', form: { ...ncl, ...f64 }, splits: uneven },
  { title: '(N, C, H, W)', form: nchw, splits: uneven },
  { title: '(N, C, H, W), float64', form: { ...nchw, ...f64 }, splits: uneven },
  { title: '(N, C, D, H, W)', form: { c: 3, inner: [2, 3, 5] }, splits: uneven },
  { title: 'channels last', form: nhwc, splits: uneven },
  { title: 'channels last, float64', form: { ...nhwc, ...f64 }, splits: uneven },
  { title: 'float16', form: { ...nchw, ...half }, splits: uneven },
  { title: 'float16, channels last', form: { ...nhwc, ...half }, splits: uneven },
  { title: 'long rows in uneven parts', form: { c: 2, inner: [97, 101] }, splits: [2, 5, 1, 3] },
  { title: 'many rows in uneven parts', form: { c: 37 }, splits: [411, 97, 1500, 3] },
  { title: 'a rank without samples', form: nchw, splits: [3, 0, 2, 1] },
  { title: 'all but one without samples, channels last', form: nhwc, splits: [0, 0, 3, 0] },
  { title: 'no samples at all', form: nchw, splits: [0, 0, 0, 0], exact: true },
  { title: 'no samples at all, (N, C)', form: nc, splits: [0, 0, 0, 0], exact: true },
  { title: 'one value on each rank', form: nc, splits: [1, 1, 1, 1] },
  { title: 'one value on two ranks', form: { ...nc, ...f64 }, splits: [0, 1, 0, 1] },
  { title: 'one value in all', form: nc, splits: [0, 0, 1, 0], exact: true },
  { title: 'ReLU', form: nchw, splits: uneven, options: { relu: true } },
  { title: 'ReLU, channels last, float64', form: { ...nhwc, ...f64 }, splits: uneven, options: { relu: true } },
  {
    title: 'ReLU behind an addition',
    form: nchw,
    splits: uneven,
    options: { relu: true },
    forward: (n) => ({ add: batch(nchw, n, 0, 1, 77) }),
    backward: { gradAdd: true },
  },
  {
    title: 'an addition alone',
    form: nhwc,
    splits: uneven,
    forward: (n) => ({ add: batch(nhwc, n, 0, 1, 78) }),
    backward: { gradAdd: true },
  },
  {
    title: 'lengths',
    form: ncl,
    splits: uneven,
    forward: (n) => ({ options: { lengths: Array.from({ length: n }, (_, i) => [7, 3, 0, 5][i % 4]) } }),
  },
  {
    title: 'a mask that is nothing on one rank',
    form: { ...ncl, ...f64 },
    splits: uneven,
    forward: (n) => ({
      options: {
        mask: Array.from({ length: n }, (_, i) => Array.from({ length: 7 }, (_, j) => i !== 3 && (i * j) % 3 !== 1)),
      },
    }),
  },
  { title: 'no affine', form: nchw, splits: uneven, options: { affine: false } },
  { title: 'no bias, other eps', form: nchw, splits: uneven, options: { bias: false, eps: 0.1 } },
  { title: 'no running statistics', form: nchw, splits: uneven, options: { trackRunningStats: false }, evaluates: false }, // prettier-ignore
  { title: 'a cumulative average', form: ncl, splits: uneven, options: { momentum: null } },
  { title: 'momentum 1', form: ncl, splits: uneven, options: { momentum: 1 } },
  { title: 'singleValue runningStats', form: nc, splits: [1, 1, 1, 1], options: { singleValue: 'runningStats' } },
  { title: 'out', form: nchw, splits: uneven, forward: { out: true }, backward: { out: true } },
  { title: 'out over the gradient', form: nchw, splits: uneven, backward: { out: 'dy' }, options: { relu: true } },
  { title: 'without gradients', form: nchw, splits: uneven, forward: { noGrad: true } },
  { title: 'without keeping statistics', form: nchw, splits: uneven, forward: { options: { updateStats: false } } },
  { title: 'a copy of the input', form: nchw, splits: uneven, forward: { options: { saveInput: 'copy' } } },
  { title: 'asynchronous', form: nchw, splits: uneven, own: () => ({ async: true }) },
  { title: 'asynchronous, ReLU, a rank without samples', form: { ...nc, ...f64 }, splits: [3, 0, 2, 9], options: { relu: true }, own: () => ({ async: true }) }, // prettier-ignore
  { title: 'asynchronous, out', form: nhwc, splits: uneven, forward: { out: true }, backward: { out: true }, own: () => ({ async: true }) }, // prettier-ignore
  {
    title: 'asynchronous, one value in all',
    form: nc,
    splits: [0, 0, 1, 0],
    exact: true,
    own: () => ({ async: true }),
  },
  {
    title: 'ranks that wait and ranks that do not',
    form: nchw,
    splits: uneven,
    own: (rank) => ({ async: rank % 2 === 1 }),
  },
  {
    title: 'ranks that come one after the other',
    form: nchw,
    splits: uneven,
    own: (rank) => ({ late: [30, 0, 60, 15][rank]! }),
  },

  { title: 'whole units, planes of a block', form: { c: 2, inner: [64, 64] }, splits: [16, 16, 16, 5], exact: true },
  { title: 'whole units, planes of two blocks, float64', form: { c: 1, inner: [8192], ...f64 }, splits: [16, 16, 16, 3], exact: true }, // prettier-ignore
  { title: 'whole units, small planes', form: { c: 2, inner: [20, 20] }, splits: [160, 160, 160, 7], exact: true, options: { relu: true } }, // prettier-ignore
  { title: 'whole units, float16', form: { c: 1, inner: [64, 64], ...half }, splits: [16, 16, 16, 16], exact: true },
  { title: 'whole units, (N, C)', form: { c: 5 }, splits: [256, 256, 256, 100], exact: true },
  { title: 'whole units, (N, C), float64', form: { c: 3, ...f64 }, splits: [1024, 1024, 1024, 1024], exact: true },
  { title: 'whole units, many rows', form: { c: 2 }, splits: [16384, 16384, 16384, 200], exact: true },
  { title: 'whole units, channels last', form: { c: 3, inner: [16, 16], channelsLast: true }, splits: [1, 1, 1, 1], exact: true }, // prettier-ignore
  { title: 'whole units, channels last, float64', form: { c: 3, inner: [16, 16], channelsLast: true, ...f64 }, splits: [4, 4, 4, 4], exact: true, own: () => ({ async: true }) }, // prettier-ignore
];

/** Two batches in training, the second with other data, and one in evaluation. */
function prepare(
  row: Row,
  seed: number,
): {
  whole: { numFeatures: number; options: object; state: object; steps: Step[] };
  ranks: object[];
} {
  const { form, splits, options = {}, forward = {}, backward = {}, evaluates = true, own = () => ({}) } = row;
  const n = splits.reduce((sum, k) => sum + k, 0);
  const doing = typeof forward === 'function' ? forward(n) : forward;
  const train = (i: number): Step[] => {
    const input = batch(form, n, 1, 2, seed + 10 * i);
    return [
      { op: 'forward', mode: 'train', input, ...doing },
      { op: 'backward', gradOutput: batch(form, n, 0.1, 1, seed + 10 * i + 1), ...backward },
    ];
  };
  const evaluation: Step = { op: 'forward', mode: 'eval', input: batch(form, n, 1, 2, seed + 5), ...doing };
  const steps = [...train(0), ...train(1), ...(evaluates ? [evaluation] : [])];
  const { affine, bias } = options as { affine?: boolean; bias?: boolean };
  const state = {
    ...(affine !== false && { weight: values(form.c, dtypeOf(form), 1, 0.3, seed + 2) }),
    ...(affine !== false && bias !== false && { bias: values(form.c, dtypeOf(form), 0, 0.5, seed + 3) }),
  };
  const all = { numFeatures: form.c, options: { dtype: dtypeOf(form), ...options }, state };
  return {
    whole: { ...all, steps },
    ranks: splits.map((_, rank) => ({
      ...all,
      steps: stepsOf(steps, splits, rank).map((step) => ({ ...step, ...own(rank) })),
    })),
  };
}

const prepared = rows.map((row, i) => prepare(row, 1000 * (i + 1)));
const cases: Case[] = prepared.map(({ ranks }) => ({ scenario: ['layers', 'steps'], byRank: ranks }));
const references = rows.map((row, i) => {
  let reference: Promise<Outcome[]> | undefined;
  return () => (reference ??= whole(simdnorm, row.form, prepared[i]!.whole));
});

/** Throws unless the ranks' outcomes are those of the whole batch. */
async function check(i: number, ranks: Outcome[][]): Promise<void> {
  const { form, splits, exact = false } = rows[i]!;
  const { options, state, steps } = prepared[i]!.whole as { options: { eps?: number; momentum?: number }; state: Record<string, Float64Array>; steps: Step[] }; // prettier-ignore
  const reference = await references[i]!();
  const parameters = { weight: state.weight ?? null, bias: state.bias ?? null, eps: options.eps ?? 1e-5 };
  const u = unitRoundoff[dtypeOf(form)];
  steps.forEach((step, s) => {
    const expected = reference[s]!;
    const got = ranks.map((outcomes) => outcomes[s]!);
    const says = (what: string): string => `step ${s}, ${what}`;
    if (expected.error) {
      for (const { error } of got) {
        expect(error).toMatchObject({ name: expected.error.name });
        if (step.op === 'forward' && step.mode === 'train')
          expect(error!.message).toMatch(/got 1 on all 4 ranks together/);
      }
    } else for (const { error } of got) expect(error).toBeUndefined();

    for (const name of ['runningMean', 'runningVar'] as const) {
      for (const outcome of got) {
        if (!expected[name]) expect(outcome[name]).toBeNull();
        else {
          expectSameBits(says(`${name} of all ranks`), outcome[name] as Float64Array, got[0]![name] as Float64Array);
          const size = Float64Array.from(expected[name], (v) => Math.max(Math.abs(v), name === 'runningMean' ? 1 : 0));
          expectAlike(says(name), outcome[name]!, expected[name], exact ? null : size);
        }
      }
    }
    for (const outcome of got) expect(outcome.numBatchesTracked).toBe(expected.numBatchesTracked);
    if (expected.error) return;

    const x = (step.op === 'forward' ? step : steps[s - 1]!).input!;
    const size = exact || splits.every((n) => n === 0) ? null : sizes(form, x, step.gradOutput ?? null, parameters);
    for (const name of ['y', 'dx', 'gradAdd'] as const) {
      const all = expected[name];
      if (!all) continue;
      const n = splits.reduce((sum, k) => sum + k, 0);
      const each = n === 0 ? 0 : all.length / n;
      starts(splits).forEach((from, rank) => {
        const at = [from * each, (from + splits[rank]!) * each] as const;
        // The ReLU's gradient is dy or 0.
        const limit = name === 'gradAdd' ? null : size && size[name].subarray(...at);
        expectAlike(says(`${name} of rank ${rank}`), got[rank]![name]!, all.slice(...at), limit);
      });
    }
    for (const name of ['dweight', 'dbias'] as const) {
      if (!expected[name]) continue;
      const parts = got.map((outcome) => outcome[name]!);
      const sums = Float64Array.from(parts[0]!, (_, k) => parts.reduce((sum, p) => sum + p[k]!, 0));
      const { data } = step.gradOutput as Input;
      const terms = (10 * data.length) / form.c;
      expectClose(says(name), sums, expected[name] as Float64Array, 32 * u * terms, dtypeOf(form));
    }
  });
}

const ways = (engine: EngineHere): [string, { env: Record<string, string>; numThreads?: number }][] =>
  engine.engine !== 'threads'
    ? [['', { env: {} }]]
    : isa.supported.flatMap(
        (name) =>
        [1, 2].map((numThreads) => [`, ${name}, ${numThreads} threads`, { env: { SIMDNORM_ISA: name }, numThreads }] as [string, { env: Record<string, string>; numThreads: number }]), // prettier-ignore
      );

/** Of the first engine and way: what all others must give to the bit. */
const first = new Map<number, Outcome[][]>();

onEveryEngine('SyncBatchNorm of four ranks', (engine) => {
  describe.each(ways(engine))('against the whole batch%s', (_, way) => {
    let results: (Result[] | null)[];
    beforeAll(async () => {
      results = await runRanks(engine, { size: 4, cases, ...way });
    });
    it.each(rows.map(({ title }, i) => [title, i] as const))('%s', async (_, i) => {
      const outcomes = valuesOf(results, i) as Outcome[][];
      const other = first.get(i);
      if (other) expect(serialize(outcomes).equals(serialize(other))).toBe(true);
      else {
        await check(i, outcomes);
        first.set(i, outcomes);
      }
    });
  });
});
