// Every case of test/vectors in each of its dtypes, on every instruction set; those of several ranks are in
// distributed/vectors.test.ts. In `hard` every tensor must be `good`: no worse than torch, or within the floor.

import { join } from 'node:path';
import * as simdnorm from '../lib';
import { isa, type Parameter, type Tensor } from '../lib';
import * as functional from '../lib/functional';
import { arrays, camel, compare } from './support/entries';
import { everyWay } from './support/isa';
import { readSafetensors } from '../lib/io/safetensors';
import { expectSameBits } from './support/tolerance';
import {
  readCases,
  readTensors,
  vectorsRoot,
  type Case,
  type Data,
  type Dtype,
  type SavedModule,
} from './support/vectors';

interface Layer {
  forward(x: { data: Float32Array | Float64Array; shape: number[] }): Tensor;
  backward(dy: { data: Float32Array | Float64Array; shape: number[] }): Tensor;
  train(mode: boolean): void;
  zeroGrad(): void;
  stateDict(): simdnorm.StateDict;
  loadStateDict(state: simdnorm.StateSource, options?: object): object;
  resetRunningStats(): void;
  weight: Parameter | null;
  bias: Parameter | null;
  runningMean: Tensor | null;
  runningVar: Tensor | null;
  numBatchesTracked: number | null;
}

const positional: Record<string, string[]> = {
  GroupNorm: ['num_groups', 'num_channels'],
  LayerNorm: ['normalized_shape'],
  LocalResponseNorm: ['size'],
  RMSNorm: ['normalized_shape'],
};

function make({ module, options: given }: Case | SavedModule, dtype: Dtype): Layer {
  const Class = (simdnorm as unknown as Record<string, new (...args: unknown[]) => Layer>)[module!]!;
  const first = positional[module!] ?? (module!.startsWith('Lazy') ? [] : ['num_features']);
  const rest = Object.entries(given).filter(([name]) => !first.includes(name));
  const options = Object.fromEntries(rest.map(([name, value]) => [camel(name), value]));
  return new Class(...first.map((name) => given[name]), { ...options, dtype });
}

const asInput = (d: Data, dtype: Dtype): { data: Float32Array | Float64Array; shape: number[] } => ({
  data: new arrays[dtype](d.values),
  shape: d.shape,
});

function runSteps(test: Case, dtype: Dtype, tensors: Map<string, Data>): void {
  const layer = make(test, dtype);
  if (test.module!.startsWith('Lazy')) {
    // In evaluation, so that the batch leaves no trace in the running statistics.
    layer.train(false);
    layer.forward(asInput(tensors.get(test.steps.find((step) => step.input)!.input!)!, dtype));
  }
  const fields: Record<string, () => Tensor | null> = {
    weight: () => layer.weight,
    bias: () => layer.bias,
    running_mean: () => layer.runningMean,
    running_var: () => layer.runningVar,
  };
  const assign = (state: Record<string, string | number>): void => {
    for (const [name, value] of Object.entries(state)) {
      if (typeof value === 'number') layer.numBatchesTracked = value;
      else (fields[name]!()!.data as Float64Array).set(tensors.get(value)!.values);
    }
  };
  for (const [name, initial] of Object.entries(test.initial ?? {})) {
    if (typeof initial === 'number') expect(layer.numBatchesTracked).toBe(initial);
    else {
      expect(fields[name]!()!.shape).toEqual(initial.shape);
      expect((fields[name]!()!.data as Float64Array).every((v) => v === initial.fill)).toBe(true);
    }
  }
  assign(test.state);
  test.steps.forEach((step, i) => {
    const results: Record<string, () => Tensor | null> = { ...fields };
    if (step.op === 'set') assign(step.state!);
    if (step.op === 'reset_running_stats') layer.resetRunningStats();
    if (step.op === 'forward') {
      layer.train(step.mode === 'train');
      const y = layer.forward(asInput(tensors.get(step.input!)!, dtype));
      results.output = () => y;
    }
    if (step.op === 'backward') {
      layer.zeroGrad();
      const dx = layer.backward(asInput(tensors.get(step.grad_output!)!, dtype));
      results.grad_input = () => dx;
      results.grad_weight = () => layer.weight!.grad;
      results.grad_bias = () => layer.bias!.grad;
    }
    for (const [name, entry] of Object.entries(step.expect ?? {})) {
      if (typeof entry === 'number') expect(layer.numBatchesTracked).toBe(entry);
      else if (results[name]) compare(`step ${i} ${name}`, results[name]()!, entry, test, dtype, tensors);
      else if (!entry.optional) throw new Error(`step ${i}: nothing to compare ${name} with`);
    }
  });
}

const hasFunction = ({ functional: f }: Case): boolean => f !== undefined && camel(f.name) in functional;

type Numbers = { data: Float32Array | Float64Array; shape: number[] };
type Fn = (...args: unknown[]) => never;
const fn = functional as unknown as Record<string, Fn>;

/** The case's function, its native form, and that one's backward: the same output, then the gradients. */
function runFunction(test: Case, dtype: Dtype, tensors: Map<string, Data>): void {
  const { name, args } = test.functional!;
  const read = (value: unknown): unknown => {
    const named = (value as { tensor?: string } | null)?.tensor;
    return named === undefined ? value : asInput(tensors.get(named)!, dtype);
  };
  const entries = Object.entries(args).map(([key, value]) => [camel(key), read(value)] as const);
  const places = ['numGroups', 'normalizedShape', 'size'];
  const first = entries.filter(([key]) => places.includes(key)).map(([, value]) => value);
  const options = Object.fromEntries(entries.filter(([key]) => !places.includes(key)));
  const copies = (): Record<string, unknown> => ({ ...options, ...moved() });
  const moved = (): Record<string, unknown> =>
    Object.fromEntries(
      ['runningMean', 'runningVar']
        .filter((key) => options[key])
        .map((key) => [key, { ...(options[key] as Numbers), data: (options[key] as Numbers).data.slice() }]),
    );
  const plain = camel(name.replace('native_', ''));
  // InstanceNorm is GroupNorm with a group for each channel.
  const instance = plain === 'instanceNorm';
  const native = instance ? 'nativeGroupNorm' : `native${plain[0]!.toUpperCase()}${plain.slice(1)}`;
  let x: Numbers;
  let kept: { mean?: Tensor; rstd: Tensor };
  for (const [i, step] of test.steps.entries()) {
    const results: Record<string, Tensor | null | undefined> = {};
    if (plain === 'localResponseNorm') {
      if (step.op === 'forward') {
        x = asInput(tensors.get(step.input!)!, dtype);
        results.output = functional.localResponseNorm(x, first[0] as number, options);
      } else {
        const dy = asInput(tensors.get(step.grad_output!)!, dtype);
        results.grad_input = functional.localResponseNormBackward(dy, x!, first[0] as number, options);
      }
    } else if (step.op === 'forward') {
      x = asInput(tensors.get(step.input!)!, dtype);
      const given = copies();
      const output = fn[plain]!(x, ...first, given) as Tensor;
      const { weight, bias, eps } = options;
      const place = instance ? [x.shape[1]] : first;
      const of = instance ? { weight, bias, eps } : copies();
      const result = fn[native]!(x, ...place, of) as { output: Tensor; mean?: Tensor; rstd: Tensor };
      if (!instance || options.useInputStats)
        expectSameBits(plain, output.data as Float64Array, result.output.data as Float64Array);
      kept = result;
      const tensorOf = (value: unknown): Tensor | null =>
        value ? simdnorm.tensor((value as Numbers).data, (value as Numbers).shape) : null;
      Object.assign(results, {
        output,
        running_mean: tensorOf(given.runningMean),
        running_var: tensorOf(given.runningVar),
      });
      if (!instance) Object.assign(results, { mean: result.mean, rstd: result.rstd });
    } else {
      const { weight, training, eps, runningMean, runningVar } = options;
      const { mean, rstd } = kept!;
      const wanted = {
        ...(plain === 'batchNorm'
          ? { training, eps, ...(training ? { mean, rstd } : { runningMean, runningVar }) }
          : { rstd }),
        ...(plain !== 'batchNorm' && mean && { mean }),
        weight,
      };
      const place = instance ? [x!.shape[1]] : first;
      const dy = asInput(tensors.get(step.grad_output!)!, dtype);
      const found = fn[`${native}Backward`]!(dy, x!, ...place, wanted) as functional.Gradients;
      Object.assign(results, { grad_input: found.gradInput, grad_weight: found.gradWeight, grad_bias: found.gradBias });
    }
    for (const [what, entry] of Object.entries(step.expect ?? {})) {
      if (typeof entry === 'number') continue; // the counter is the layer's
      if (results[what])
        compare(`step ${i} ${what}`, results[what], { ...entry, optional: false }, test, dtype, tensors);
      else if (!entry.optional) throw new Error(`step ${i}: nothing to compare ${what} with`);
    }
  }
}

function runFunctionError(test: Case): void {
  const { name, args } = test.functional!;
  const filled = Object.entries(args).map(([key, value]) => {
    const shape = (value as { shape?: number[] } | null)?.shape;
    return [camel(key), shape ? { data: new Float32Array(shape.reduce((p, n) => p * n, 1)), shape } : value] as const;
  });
  const { input, normalizedShape, ...options } = Object.fromEntries(filled);
  expectError(test, () => fn[camel(name)]!(input, ...(normalizedShape ? [normalizedShape] : []), options));
}

/** Holds parts by name, to be loaded only. */
class Tree extends simdnorm.Module {
  override forward(): Tensor {
    throw new Error('not to be run');
  }
  override backward(): Tensor {
    throw new Error('not to be run');
  }
  /** Makes room for a part under a dotted prefix. */
  static plant(root: Tree, prefix: string, part: Layer): void {
    const path = prefix.split('.').slice(0, -1);
    const last = path.pop()!;
    let at = root as unknown as Record<string, Tree>;
    for (const name of path) at = (at[name] ??= new Tree()) as unknown as Record<string, Tree>;
    at[last] = part as never;
  }
}

/** The whole file into one network, strictly; then each layer has the values saved and gives the outputs. */
function runStateDict(test: Case, dtype: Dtype, tensors: Map<string, Data>): void {
  const state = readSafetensors(join(vectorsRoot, test.source, test.file!)).tensors;
  const layers = test.modules!.map((module) => ({ module, layer: make(module, dtype) }));
  const root = new Tree();
  for (const { module, layer } of layers) if (module.prefix !== '') Tree.plant(root, module.prefix, layer);
  const whole = layers[0]!.module.prefix === '' ? layers[0]!.layer : root;
  expect(whole.loadStateDict(state)).toEqual({ missingKeys: [], unexpectedKeys: [] });
  for (const { module, layer } of layers) {
    const entries = layer.stateDict();
    expect([...entries.keys()]).toEqual(Object.keys(module.state));
    for (const [name, value] of Object.entries(module.state)) {
      const expected = typeof value === 'number' ? [BigInt(value)] : [...new arrays[dtype](tensors.get(value)!.values)];
      expect(entries.get(name)!.toArray()).toEqual(expected);
    }
    layer.train(false);
    const output = layer.forward(asInput(tensors.get(module.input)!, dtype));
    compare(`${module.prefix}output`, output, module.expect.output, test, dtype, tensors);
  }
}

function expectError(test: Case, run: () => void): void {
  expect(run).toThrow(new RegExp(test.error!));
}

function runError(test: Case): void {
  if (test.on === 'construct') {
    expectError(test, () => make(test, 'float32'));
    return;
  }
  if (test.on === 'load_state_dict') {
    const ones = (shape: number[]): Tensor =>
      new simdnorm.Tensor(new Float32Array(shape.reduce((product, n) => product * n, 1)).fill(1), shape);
    const state = Object.fromEntries(Object.entries(test.entries!).map(([name, shape]) => [name, ones(shape)]));
    expectError(test, () => make(test, 'float32').loadStateDict(state, { strict: test.strict }));
    return;
  }
  const size = test.input_shape!.reduce((product, n) => product * n, 1);
  const input = { data: new Float32Array(size).fill(1), shape: test.input_shape! };
  expectError(test, () => {
    const layer = make(test, 'float32');
    layer.train(test.mode !== 'eval');
    layer.forward(input);
  });
  if (test.then === 'eval forward of the same input succeeds') {
    const layer = make(test, 'float32');
    expect(() => layer.forward(input)).toThrow();
    layer.train(false);
    expect(layer.forward(input).shape).toEqual(test.input_shape);
  } else if (test.then) throw new Error(`unknown "then": ${test.then}`);
}

const runnable = readCases().filter(({ kind }) => kind !== 'sync');

// One test a case, the instruction sets inside it: the largest inputs take longer to generate than to normalize.
describe.each([...new Set(runnable.map((test) => test.source))])('vectors: %s', (source) => {
  const ofSource = runnable.filter((test) => test.source === source);
  it.each(ofSource.map((test) => [test.name, test] as const))('%s', (_, test) => {
    const tensors = readTensors(test);
    everyWay(() => {
      if (test.kind === 'error') {
        if (test.on === 'functional') runFunctionError(test);
        else runError(test);
        return;
      }
      for (const dtype of test.dtypes) {
        try {
          if (test.kind === 'state_dict') runStateDict(test, dtype, tensors);
          else if (test.kind !== 'functional') runSteps(test, dtype, tensors);
          if (test.kind === 'functional' || hasFunction(test)) runFunction(test, dtype, tensors);
        } catch (error) {
          if (test.or_error && new RegExp(test.or_error).test((error as Error).message)) continue;
          throw new Error(`${isa.active}, ${dtype}: ${(error as Error).message}`);
        }
      }
    }, [2]);
  });
});
