// Runs the cases of test/vectors against a package it is given: the one of these sources under jest, an installed one in
// test/golden. Needs no jest, no disk and no part of lib/.

import type * as Simdnorm from 'simdnorm';
import type { Parameter, Tensor } from 'simdnorm';
import type * as Functional from 'simdnorm/functional';
import type * as Safetensors from 'simdnorm/safetensors';
import { expectEqual, expectThrow } from './check';
import { arrays, camel, compare } from './entries';
import type { Files } from './files';
import { expectSameBits } from './tolerance';
import { readCases, readTensors, type Case, type Data, type Dtype, type SavedModule } from './vectors';

/** What the cases call. */
export interface Api {
  simdnorm: typeof Simdnorm;
  functional: typeof Functional;
  safetensors: Pick<typeof Safetensors, 'parse'>;
}

interface Layer {
  forward(x: { data: Float32Array | Float64Array; shape: number[] }): Tensor;
  backward(dy: { data: Float32Array | Float64Array; shape: number[] }): Tensor;
  train(mode: boolean): void;
  zeroGrad(): void;
  stateDict(): Simdnorm.StateDict;
  loadStateDict(state: Simdnorm.StateSource, options?: object): object;
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

function make(api: Api, { module, options: given }: Case | SavedModule, dtype: Dtype): Layer {
  const Class = (api.simdnorm as unknown as Record<string, new (...args: unknown[]) => Layer>)[module!]!;
  const first = positional[module!] ?? (module!.startsWith('Lazy') ? [] : ['num_features']);
  const rest = Object.entries(given).filter(([name]) => !first.includes(name));
  const options = Object.fromEntries(rest.map(([name, value]) => [camel(name), value]));
  return new Class(...first.map((name) => given[name]), { ...options, dtype });
}

const asInput = (d: Data, dtype: Dtype): { data: Float32Array | Float64Array; shape: number[] } => ({
  data: new arrays[dtype](d.values),
  shape: d.shape,
});

function runSteps(api: Api, test: Case, dtype: Dtype, tensors: Map<string, Data>): void {
  const layer = make(api, test, dtype);
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
    if (typeof initial === 'number') expectEqual(name, layer.numBatchesTracked, initial);
    else {
      const { shape, data } = fields[name]!()!;
      expectEqual(`initial ${name}: shape`, shape, initial.shape);
      expectEqual(`initial ${name}: fill`, [...new Set(data as Float64Array)], shape.includes(0) ? [] : [initial.fill]);
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
      if (typeof entry === 'number') expectEqual(`step ${i} ${name}`, layer.numBatchesTracked, entry);
      else if (results[name]) compare(`step ${i} ${name}`, results[name]()!, entry, test, dtype, tensors);
      else if (!entry.optional) throw new Error(`step ${i}: nothing to compare ${name} with`);
    }
  });
}

const hasFunction = (api: Api, { functional: f }: Case): boolean => f !== undefined && camel(f.name) in api.functional;

type Numbers = { data: Float32Array | Float64Array; shape: number[] };
type Fn = (...args: unknown[]) => never;
const functionsOf = (api: Api): Record<string, Fn> => api.functional as unknown as Record<string, Fn>;

/** The case's function, its native form, and that one's backward: the same output, then the gradients. */
function runFunction(api: Api, test: Case, dtype: Dtype, tensors: Map<string, Data>): void {
  const { simdnorm, functional } = api;
  const fn = functionsOf(api);
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
      const found = fn[`${native}Backward`]!(dy, x!, ...place, wanted) as Functional.Gradients;
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

function runFunctionError(api: Api, test: Case): void {
  const { name, args } = test.functional!;
  const filled = Object.entries(args).map(([key, value]) => {
    const shape = (value as { shape?: number[] } | null)?.shape;
    return [camel(key), shape ? { data: new Float32Array(shape.reduce((p, n) => p * n, 1)), shape } : value] as const;
  });
  const { input, normalizedShape, ...options } = Object.fromEntries(filled);
  expectError(test, () =>
    functionsOf(api)[camel(name)]!(input, ...(normalizedShape ? [normalizedShape] : []), options),
  );
}

/** Makes what holds parts by name, to be loaded only. */
function treesOf({ simdnorm }: Api): () => Tree {
  class Parts extends simdnorm.Module {
    override forward(): Tensor {
      throw new Error('not to be run');
    }
    override backward(): Tensor {
      throw new Error('not to be run');
    }
  }
  return () => new Parts();
}
type Tree = Simdnorm.Module;

/** Makes room for a part under a dotted prefix. */
function plant(newTree: () => Tree, root: Tree, prefix: string, part: Layer): void {
  const path = prefix.split('.').slice(0, -1);
  const last = path.pop()!;
  let at = root as unknown as Record<string, Tree>;
  for (const name of path) at = (at[name] ??= newTree()) as unknown as Record<string, Tree>;
  at[last] = part as never;
}

/** The whole file into one network, strictly; then each layer has the values saved and gives the outputs. */
function runStateDict(api: Api, files: Files, test: Case, dtype: Dtype, tensors: Map<string, Data>): void {
  const state = api.safetensors.parse(files.read(`${test.source}/${test.file!}`)).tensors;
  const layers = test.modules!.map((module) => ({ module, layer: make(api, module, dtype) }));
  const newTree = treesOf(api);
  const root = newTree();
  for (const { module, layer } of layers) if (module.prefix !== '') plant(newTree, root, module.prefix, layer);
  const whole = layers[0]!.module.prefix === '' ? layers[0]!.layer : root;
  expectEqual('loaded', whole.loadStateDict(state), { missingKeys: [], unexpectedKeys: [] });
  for (const { module, layer } of layers) {
    const entries = layer.stateDict();
    expectEqual('keys', [...entries.keys()], Object.keys(module.state));
    for (const [name, value] of Object.entries(module.state)) {
      const expected = typeof value === 'number' ? [BigInt(value)] : [...new arrays[dtype](tensors.get(value)!.values)];
      expectEqual(name, entries.get(name)!.toArray(), expected);
    }
    layer.train(false);
    const output = layer.forward(asInput(tensors.get(module.input)!, dtype));
    compare(`${module.prefix}output`, output, module.expect.output, test, dtype, tensors);
  }
}

function expectError(test: Case, run: () => void): void {
  expectThrow(test.on!, run, new RegExp(test.error!));
}

function runError(api: Api, test: Case): void {
  const { simdnorm } = api;
  if (test.on === 'construct') {
    expectError(test, () => make(api, test, 'float32'));
    return;
  }
  if (test.on === 'load_state_dict') {
    const ones = (shape: number[]): Tensor =>
      new simdnorm.Tensor(new Float32Array(shape.reduce((product, n) => product * n, 1)).fill(1), shape);
    const state = Object.fromEntries(Object.entries(test.entries!).map(([name, shape]) => [name, ones(shape)]));
    expectError(test, () => make(api, test, 'float32').loadStateDict(state, { strict: test.strict }));
    return;
  }
  const size = test.input_shape!.reduce((product, n) => product * n, 1);
  const input = { data: new Float32Array(size).fill(1), shape: test.input_shape! };
  expectError(test, () => {
    const layer = make(api, test, 'float32');
    layer.train(test.mode !== 'eval');
    layer.forward(input);
  });
  if (test.then === 'eval forward of the same input succeeds') {
    const layer = make(api, test, 'float32');
    expectError(test, () => layer.forward(input));
    layer.train(false);
    expectEqual('shape', layer.forward(input).shape, test.input_shape);
  } else if (test.then) throw new Error(`unknown "then": ${test.then}`);
}

/** All but those of several ranks, which need a process group. */
export const casesOf = (files: Files): Case[] => readCases(files).filter(({ kind }) => kind !== 'sync');

/**
 * Runs the case in each of its dtypes, on the instruction set in use. In `hard` every tensor must be `good`: no worse
 * than torch, or within the floor.
 */
export function prepareCase(api: Api, files: Files, test: Case): () => void {
  const tensors = readTensors(test, files);
  return () => {
    if (test.kind === 'error') {
      if (test.on === 'functional') runFunctionError(api, test);
      else runError(api, test);
      return;
    }
    for (const dtype of test.dtypes) {
      try {
        if (test.kind === 'state_dict') runStateDict(api, files, test, dtype, tensors);
        else if (test.kind !== 'functional') runSteps(api, test, dtype, tensors);
        if (test.kind === 'functional' || hasFunction(api, test)) runFunction(api, test, dtype, tensors);
      } catch (error) {
        if (test.or_error && new RegExp(test.or_error).test((error as Error).message)) continue;
        throw new Error(`${api.simdnorm.isa.active}, ${dtype}: ${(error as Error).message}`);
      }
    }
  };
}
