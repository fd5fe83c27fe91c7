// SyncBatchNorm in groups of some ranks, in networks, with values that are none, and used twice before backward.

import { serialize } from 'node:v8';
import * as simdnorm from '../../lib';
import {
  batch,
  expectAlike,
  part,
  sizes,
  starts,
  stepsOf,
  whole,
  type Input,
  type Outcome,
  type Step,
} from '../support/joint';
import { onEveryEngine, runRanks, valuesOf, type Case, type Result } from '../support/ranks';
import { expectClose, expectSameBits, unitRoundoff } from '../support/tolerance';

const nchw = { c: 3, inner: [5, 6] };

onEveryEngine('SyncBatchNorm of four ranks', (engine) => {
  const four = [3, 1, 4, 2];
  const n = 10;
  const from = starts(four);
  const data = (seed: number): Input => batch(nchw, n, 1, 2, seed);
  const own = (x: Input, rank: number): Input => part(x, from[rank]!, from[rank]! + four[rank]!);
  const train = (input: Input): Step => ({ op: 'forward', mode: 'train', input });

  // Two groups of two.
  const parts = [
    [0, 2],
    [1, 3],
  ];
  const grouped: Step[] = [train(data(1)), { op: 'backward', gradOutput: data(2) }];
  // Values that are none, on rank 2 only.
  const spoilt = data(3);
  spoilt.data[from[2]! * 90 + 5] = NaN;
  const policies = ['propagate', 'skip', 'throw'] as const;
  // Two forwards before their backwards.
  const twice: Step[] = [
    { ...train(data(4)), context: 'a' },
    { ...train(data(5)), context: 'b' },
    { op: 'backward', gradOutput: data(6), context: 'b' },
    { op: 'backward', gradOutput: data(7), context: 'a' },
  ];
  const network = [8, 9, 10].map((seed) => batch({ c: 4, inner: [3, 3] }, n, 1, 2, seed));
  const gradients = [11, 12, 13].map((seed) => batch({ c: 36 }, n, 0, 1, seed));
  const networkOf = (rank: number | null, asynchronous: boolean): object => ({
    inputs: network.map((x) => (rank === null ? x : own(x, rank))),
    gradOutputs: gradients.map((x) => (rank === null ? x : own(x, rank))),
    asynchronous,
    explicit: asynchronous,
  });

  const steps = (each: (rank: number) => object): Case => ({
    scenario: ['layers', 'steps'],
    byRank: four.map((_, rank) => ({ numFeatures: 3, ...each(rank) })),
  });
  const shared = (all: Step[]) => (rank: number) => ({ steps: stepsOf(all, four, rank) });
  const jobs: Case[] = [
    steps((rank) => ({ parts, ...shared(grouped)(rank) })),
    ...policies.map((nonFinite) =>
      steps((rank) => ({ options: { nonFinite }, ...shared([train(spoilt), train(data(1))])(rank) })),
    ),
    steps(shared(twice)),
    steps((rank) => ({
      options: { trackRunningStats: false },
      ...shared([{ op: 'forward', mode: 'eval', input: data(1) }])(rank),
    })),
    ...[false, true].map((asynchronous): Case => ({
      scenario: ['layers', 'network'],
      byRank: four.map((_, rank) => networkOf(rank, asynchronous)),
    })),
  ];
  let results: (Result[] | null)[];
  beforeAll(async () => {
    results = await runRanks(engine, { size: 4, cases: jobs });
  });
  const of = (i: number): Outcome[][] => valuesOf(results, i) as Outcome[][];
  const compare = (what: string, rank: number, got: Outcome, all: Outcome, x: Input, dy: Input | null): void => {
    const size = sizes(nchw, x, dy, { weight: null, bias: null, eps: 1e-5 });
    for (const name of ['y', 'dx'] as const) {
      if (!all[name]) continue;
      const at = [from[rank]! * 90, (from[rank]! + four[rank]!) * 90] as const;
      expectAlike(`${what}, ${name} of ${rank}`, got[name]!, all[name].slice(...at), size[name].subarray(...at));
    }
  };

  it('two groups of two normalize each on its own', async () => {
    for (const ranks of parts) {
      const joined = grouped.map((step) => {
        const name = step.op === 'forward' ? 'input' : 'gradOutput';
        const pieces = ranks.map((rank) => own(step[name]!, rank));
        const size = pieces.reduce((sum, piece) => sum + piece.data.length, 0);
        const all = new Float32Array(size);
        let at = 0;
        for (const piece of pieces) {
          all.set(piece.data as Float32Array, at);
          at += piece.data.length;
        }
        return { ...step, [name]: { data: all, shape: [size / 90, 3, 5, 6] } };
      });
      const expected = await whole(simdnorm, nchw, { numFeatures: 3, steps: joined });
      const size = sizes(nchw, joined[0]!.input!, joined[1]!.gradOutput!, { weight: null, bias: null, eps: 1e-5 });
      let at = 0;
      for (const rank of ranks) {
        const end = at + four[rank]! * 90;
        const [forward, backward] = of(0)[rank]! as [Outcome, Outcome];
        expectAlike('y', forward.y!, expected[0]!.y!.slice(at, end), size.y.subarray(at, end));
        expectAlike('dx', backward.dx!, expected[1]!.dx!.slice(at, end), size.dx.subarray(at, end));
        at = end;
      }
    }
  });

  it.each(policies.map((policy, i) => [policy, i + 1] as const))(
    'what is not a number on one rank: %s',
    async (policy, i) => {
      const options = { nonFinite: policy };
      const expected = await whole(simdnorm, nchw, {
        numFeatures: 3,
        options,
        steps: [train(spoilt), train(data(1))],
      });
      of(i).forEach((outcomes) => {
        outcomes.forEach((outcome, s) => {
          expect(outcome.error?.name).toBe(expected[s]!.error?.name);
          expect(outcome.numBatchesTracked).toBe(expected[s]!.numBatchesTracked);
          const isFinite = Array.from(outcome.runningMean as Float32Array, Number.isFinite);
          expect(isFinite).toEqual(Array.from(expected[s]!.runningMean as Float32Array, Number.isFinite));
        });
      });
    },
  );

  it('two forwards before their backwards', async () => {
    const expected = await whole(simdnorm, nchw, { numFeatures: 3, steps: twice });
    const inputs = [0, 1, 1, 0].map((i) => twice[i]!.input!);
    of(4).forEach((outcomes, rank) =>
      outcomes.forEach((outcome, s) =>
        compare(`step ${s}`, rank, outcome, expected[s]!, inputs[s]!, twice[s]!.gradOutput ?? null),
      ),
    );
  });

  it('evaluation without running statistics goes by the own batch', async () => {
    for (const [rank, [outcome]] of of(5).entries()) {
      const alone: Step[] = stepsOf([{ op: 'forward', mode: 'eval', input: data(1) }], four, rank);
      const [expected] = await whole(simdnorm, nchw, {
        numFeatures: 3,
        options: { trackRunningStats: false },
        steps: alone,
      });
      expectSameBits('y', outcome!.y as Float32Array, expected!.y as Float32Array);
    }
  });

  it('a network that was converted trains alike on all ranks, blocking or not', () => {
    interface Trained {
      names: string[];
      results: { y: Float32Array; dx: Float32Array; own: Float32Array[]; averaged: Float32Array[] }[];
      state: [string, Float32Array][];
    }
    const [blocking, waiting] = [6, 7].map((i) => valuesOf(results, i) as Trained[]) as [Trained[], Trained[]];
    blocking.forEach((trained, rank) => {
      expect(trained.names).toEqual(['0', '1.1', '3']);
      expect(serialize(trained.state).equals(serialize(blocking[0]!.state))).toBe(true);
      expect(serialize(trained).equals(serialize(waiting[rank]!))).toBe(true);
    });
    for (const [step, { averaged }] of blocking[0]!.results.entries()) {
      for (const [p, average] of averaged.entries()) {
        const parts = blocking.map((trained) => trained.results[step]!.own[p]!);
        const mean = Float64Array.from(average, (_, k) => parts.reduce((sum, part) => sum + part[k]!, 0) / 4);
        const size = parts.reduce((most, part) => part.reduce((m, v) => Math.max(m, Math.abs(v)), most), 0);
        expectClose(`step ${step}, gradient ${p}`, average, mean, 4 * unitRoundoff.float32 * size, 'float32');
      }
    }
  });
});
