// The cases of test/vectors/sync: over threads all of them, in both dtypes on every instruction set; over the other engines
// those of two and three ranks.

import { isa } from '../../lib';
import { arrays, camel, compare } from '../support/entries';
import { vectors } from '../support/files';
import type { Outcome } from '../support/joint';
import { onEveryEngine, runRanks, valuesOf, type Case as Run } from '../support/ranks';
import { readCases, readTensors, type Case, type Data, type Dtype, type Entry } from '../support/vectors';

interface SyncCase extends Omit<Case, 'steps'> {
  world_size: number;
  groups: number[][];
  steps: {
    op: 'forward' | 'backward';
    mode?: 'train' | 'eval';
    inputs?: string[];
    grad_outputs?: string[];
    expect: Record<string, Entry | number>[];
    expect_group_sum?: Record<string, Entry>[];
  }[];
}

const cases = readCases(vectors).filter(({ kind }) => kind === 'sync') as unknown as SyncCase[];
const tensorsOf = new Map(cases.map((test) => [test, readTensors(test as never, vectors)]));
const fields: Record<string, keyof Outcome> = {
  output: 'y',
  grad_input: 'dx',
  grad_weight: 'dweight',
  grad_bias: 'dbias',
  running_mean: 'runningMean',
  running_var: 'runningVar',
};

function runOf(test: SyncCase, dtype: Dtype): Run {
  const tensors = tensorsOf.get(test)!;
  const asInput = (name: string | undefined): { data: unknown; shape: number[] } | undefined =>
    name === undefined
      ? undefined
      : { data: new arrays[dtype](tensors.get(name)!.values), shape: tensors.get(name)!.shape };
  const { num_features: numFeatures, ...options } = test.options;
  const state = Object.entries(test.state).map(([name, value]) => [
    camel(name),
    typeof value === 'number' ? value : tensors.get(value)!.values,
  ]);
  const byRank = Array.from({ length: test.world_size }, (_, rank) => ({
    numFeatures,
    options: { ...Object.fromEntries(Object.entries(options).map(([k, v]) => [camel(k), v])), dtype },
    state: Object.fromEntries(state) as object,
    parts: test.groups.length > 1 ? test.groups : null,
    steps: test.steps.map(({ op, mode, inputs, grad_outputs }) => ({
      op,
      mode,
      input: asInput(inputs?.[rank]),
      gradOutput: asInput(grad_outputs?.[rank]),
    })),
  }));
  return { scenario: ['layers', 'steps'], byRank };
}

function check(test: SyncCase, dtype: Dtype, ranks: Outcome[][]): void {
  const tensors = tensorsOf.get(test)!;
  const shapeOf = (entry: Entry): number[] => (tensors.get(entry.tensor as string) as Data).shape;
  test.steps.forEach((step, s) => {
    step.expect.forEach((expected, rank) => {
      const outcome = ranks[rank]![s]!;
      expect(outcome.error).toBeUndefined();
      for (const [name, entry] of Object.entries(expected)) {
        if (typeof entry === 'number') expect(outcome.numBatchesTracked).toBe(entry);
        else {
          const data = outcome[fields[name]!];
          const shape = name === 'output' || name === 'grad_input' ? outcome.shape! : shapeOf(entry);
          compare(`step ${s}, ${name} of rank ${rank}`, { data, shape }, entry, test, dtype, tensors);
        }
      }
    });
    step.expect_group_sum?.forEach((expected, group) => {
      for (const [name, entry] of Object.entries(expected)) {
        const parts = test.groups[group]!.map((rank) => ranks[rank]![s]![fields[name]!] as Float64Array);
        const data = Float64Array.from(parts[0]!, (_, k) => parts.reduce((sum, part) => sum + part[k]!, 0));
        compare(`step ${s}, ${name} of group ${group}`, { data, shape: shapeOf(entry) }, entry, test, dtype, tensors);
      }
    });
  });
}

it('there are 14', () => expect(cases).toHaveLength(14));

onEveryEngine('vectors of several ranks', (engine) => {
  const isThreads = engine.engine === 'threads';
  const sizes = [...new Set(cases.map((test) => test.world_size))].filter((size) => isThreads || size < 4);
  const isas = isThreads ? isa.supported : [isa.active];
  const all = isas.flatMap((name) => sizes.map((size) => [name, size] as const));
  it.each(all)('%s, %p ranks', async (name, size) => {
    const wanted = cases.flatMap((test) =>
      test.world_size === size ? test.dtypes.map((dtype) => ({ test, dtype })) : [],
    );
    const results = await runRanks(engine, {
      size,
      cases: wanted.map(({ test, dtype }) => runOf(test, dtype)),
      env: { SIMDNORM_ISA: name },
    });
    wanted.forEach(({ test, dtype }, i) => {
      try {
        check(test, dtype, valuesOf(results, i) as Outcome[][]);
      } catch (error) {
        throw new Error(`${test.name}, ${dtype}: ${(error as Error).message}`);
      }
    });
  });
});
