// The worked examples that the project started from, as calls of the layers. Each is named as its figures in
// test/vectors/seeds, and fails unless output, statistics and gradients are those (the rule is in test/vectors/README.md).

import { readFileSync } from 'node:fs';
import {
  BatchNorm1d,
  BatchNorm2d,
  BatchNorm3d,
  GroupNorm,
  InstanceNorm1d,
  InstanceNorm2d,
  InstanceNorm3d,
  LayerNorm,
  LazyBatchNorm3d,
  LazyInstanceNorm1d,
  LazyInstanceNorm2d,
  LocalResponseNorm,
  tensor,
  type Module,
  type Tensor,
} from 'simdnorm';
import { readSafetensors } from 'simdnorm/safetensors';
import { generate, type Case, type Entry } from '../test/support/vectors.js';
import { floats } from './mnist/floats.mjs';

const layers: Record<string, Module> = {
  bn1d_100: new BatchNorm1d(100),
  bn1d_100_no_affine: new BatchNorm1d(100, { affine: false }),
  bn2d_2x2x2x2_integers: new BatchNorm2d(2, { affine: false }),
  bn2d_2x2x2x2_integers_affine: new BatchNorm2d(2),
  bn3d_100: new BatchNorm3d(100),
  bn3d_100_no_affine: new BatchNorm3d(100, { affine: false }),
  gn_1_6_20x6x10x10: new GroupNorm(1, 6),
  gn_2_4: new GroupNorm(2, 4),
  gn_3_6: new GroupNorm(3, 6),
  gn_3_6_20x6x10x10: new GroupNorm(3, 6),
  gn_6_6_20x6x10x10: new GroupNorm(6, 6),
  gn_equals_in_6: new InstanceNorm2d(6),
  gn_equals_ln_6x10x10: new LayerNorm([6, 10, 10], { elementwiseAffine: false }),
  in1d_100_affine: new InstanceNorm1d(100, { affine: true }),
  in2d_100: new InstanceNorm2d(100),
  in2d_100_affine: new InstanceNorm2d(100, { affine: true }),
  in2d_2x2x2x2_integers: new InstanceNorm2d(2),
  in2d_affine: new InstanceNorm2d(3, { affine: true }),
  in3d_100_affine: new InstanceNorm3d(100, { affine: true }),
  lazy_bn3d: new LazyBatchNorm3d(),
  lazy_in1d: new LazyInstanceNorm1d({ affine: false, trackRunningStats: false }),
  lazy_in2d: new LazyInstanceNorm2d({ affine: false, trackRunningStats: false }),
  lrn_2_signal_4d: new LocalResponseNorm(2),
};

const folder = new URL('../../test/vectors/seeds/', import.meta.url);

/** The largest difference as a share of what is allowed. */
function off(got: Tensor, entry: Entry, stored: Map<string, Tensor>): number {
  const numbers = (of: string | number[]): ArrayLike<number> =>
    typeof of === 'string' ? (stored.get(of)!.data as Float64Array) : of;
  const actual = floats(got);
  // A large result is sampled.
  const expected = numbers((entry.tensor as string | undefined) ?? entry.values!);
  const at = entry.index ? numbers(entry.index) : null;
  let most = 0;
  for (let i = 0; i < expected.length; i++) {
    const wanted = expected[i]!;
    const share = Math.abs(actual[at ? Number(at[i]) : i]! - wanted) / (2e-6 * (Math.abs(wanted) + entry.scale));
    most = share <= most ? most : share;
  }
  return most;
}

function run(name: string, layer: Module): void {
  const example = JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8')) as Case;
  const { tensors: stored } = readSafetensors(new URL(`${name}.safetensors`, folder));
  const given = (tensorName: string): Tensor => {
    const made = example.generated?.[tensorName];
    if (!made) return stored.get(tensorName)!.to('float32');
    return tensor(new Float32Array(generate(made.gen, made.shape).values), made.shape);
  };
  if (name.startsWith('lazy')) layer.eval().forward(given(example.steps[0]!.input!));
  const state = Object.entries(example.state).filter(([, value]) => typeof value === 'string');
  layer.loadStateDict(Object.fromEntries(state.map(([key, value]) => [key, given(value as string)])), {
    strict: false,
  });

  const checked: string[] = [];
  let shape: readonly number[] = [];
  for (const step of example.steps) {
    const found = new Map<string, Tensor | null>();
    if (step.op === 'forward') {
      const x = given(step.input!);
      shape = x.shape;
      found.set('output', layer.train(step.mode === 'train').forward(x));
      for (const [key, value] of layer.stateDict()) found.set(key, value);
    } else {
      found.set('grad_input', layer.zeroGrad().backward(given(step.grad_output!)));
      for (const [key, { grad }] of layer.namedParameters()) found.set(`grad_${key}`, grad);
    }
    for (const [key, entry] of Object.entries(step.expect!)) {
      const share =
        typeof entry === 'number'
          ? Math.abs(Number(found.get(key)!.data[0]) - entry)
          : off(found.get(key)!, entry, stored);
      if (!(share <= 1)) throw new Error(`${name}: ${key} is off by ${share} times what is allowed`);
      checked.push(key);
    }
  }
  console.log(`${name.padEnd(29)}${layer.constructor.name}(${shape.join('x')})  ${[...new Set(checked)].join(' ')}`);
}

for (const [name, layer] of Object.entries(layers)) run(name, layer);
