// A layer takes the plan of its latest forward again, and arrays that nobody needs any more: a call after others must be
// what it would have been as the first.

import * as lib from '../../lib';
import {
  BatchNorm1d,
  BatchNorm2d,
  GroupNorm,
  InstanceNorm1d,
  LayerNorm,
  noGrad,
  RMSNorm,
  Tensor,
  tensor,
} from '../../lib';
import type { Norm, NormForwardOptions } from '../../lib/layers/norm';
import type { TrackedNorm } from '../../lib/layers/tracked-norm';
import { nativeBatchNorm } from '../../lib/functional';
import { values } from '../support/shapes';

const float32 = (length: number, seed = 1): Float32Array => values(length, 'float32', 0, 1, seed) as Float32Array;
const input = (shape: number[], seed = 1): Tensor =>
  tensor(
    float32(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  );

/** All that a forward and its backward do, errors included. */
function outcome(layer: Norm, x: Tensor, options: NormForwardOptions): unknown {
  const state = (): unknown => [...layer.stateDict()].map(([key, t]) => [key, t.toArray()]);
  try {
    const y = layer.forward(x, options);
    const dx = layer.backward(new Tensor(float32(y.size, 7), y.shape));
    const grads = layer.parameters().map(({ grad }) => grad && grad.toArray());
    return [y.toArray(), y.strides, dx.toArray(), grads, state()];
  } catch (error) {
    return [(error as Error).name, (error as Error).message];
  }
}

interface Change {
  layer?: (layer: Norm) => void;
  x?: (x: Tensor) => Tensor;
  options?: NormForwardOptions;
}
const set =
  (fields: object) =>
  (layer: Norm): void =>
    void Object.assign(layer, fields);
const detach = (t: Tensor | null): void =>
  void structuredClone(t!.data.buffer, { transfer: [t!.data.buffer as ArrayBuffer] });
const ofEach = (size: number, at = 2): Tensor => new lib.Parameter(float32(size, at).map(Math.abs), [size]);

const everywhere: Record<string, Change> = {
  nothing: {},
  'other values in the weight': { layer: (l) => void l.weight?.data.fill(3 as never) },
  'other values in the bias': { layer: (l) => void l.bias?.data.fill(3 as never) },
  'another weight': { layer: (l) => void Object.assign(l, { weight: ofEach(l.weight!.size) }) },
  'a weight of another size': { layer: (l) => void Object.assign(l, { weight: ofEach(l.weight!.size + 1) }) },
  'another bias': { layer: (l) => void (l.bias && Object.assign(l, { bias: ofEach(l.bias.size) })) },
  'no weight': { layer: set({ weight: null }) },
  'a weight that is none': { layer: set({ weight: 'weight' }) },
  'a weight of integers': { layer: (l) => void Object.assign(l, { weight: tensor(new Int32Array(l.weight!.size)) }) },
  'a detached weight': { layer: (l) => detach(l.weight) },
  'integers in the weight': { layer: (l) => void Object.assign(l.weight!, { data: new Int32Array(l.weight!.size) }) },
  relu: { layer: set({ relu: true }) },
  eps: { layer: set({ eps: 0.5 }) },
  frozen: { layer: (l) => void l.freeze() },
  evaluation: { layer: (l) => void l.eval() },
  'another batch': { x: () => input([3, 4, 6]) },
  'another shape of as many elements': { x: () => input([4, 4, 3]) },
  'other channels': { x: () => input([2, 6, 4]) },
  'another rank': { x: () => input([2, 4, 3, 2]) },
  'other strides': { x: () => input([2, 6, 4]).permute(0, 2, 1) },
  'gaps between elements': { x: (x) => new Tensor(float32(96), x.shape, { strides: [48, 12, 2] }) },
  'an offset': { x: (x) => new Tensor(float32(53), x.shape, { strides: [24, 6, 1], offset: 5 }) },
  'a detached input': { x: (x) => (detach(x), x) },
  bfloat16: { x: (x) => x.to('bfloat16') },
  float64: { x: (x) => x.to('float64') },
  mask: {
    options: {
      mask: [
        [1, 1, 1, 1],
        [1, 1, 0, 0],
      ],
    },
  },
  add: { options: { add: input([2, 4, 6], 5) } },
  'no update': { options: { updateStats: false } },
  out: { options: { out: new Float32Array(48) } },
  'out of another size': { options: { out: new Float32Array(47) } },
  'a copy': { options: { saveInput: 'copy' } },
};
const channels: Record<string, Change> = {
  momentum: { layer: set({ momentum: 0.7 }) },
  'no momentum': { layer: set({ momentum: null }) },
  'no tracking': { layer: set({ trackRunningStats: false }) },
  'no tracking in evaluation': { layer: (l) => void Object.assign(l.eval(), { trackRunningStats: false }) },
  'another running mean': { layer: (l) => set({ runningMean: ofEach(4) })(l) },
  'a running mean of another size': { layer: (l) => set({ runningMean: ofEach(3) })(l) },
  'another running variance': { layer: (l) => set({ runningVar: ofEach(4) })(l) },
  'no running variance': { layer: set({ runningVar: null }) },
  'no running variance in evaluation': { layer: (l) => void Object.assign(l.eval(), { runningVar: null }) },
  'other values in the running mean': { layer: (l) => void (l as TrackedNorm).runningMean!.data.fill(2 as never) },
  'a detached running variance': { layer: (l) => detach((l as TrackedNorm).runningVar) },
  'another number of channels': { layer: set({ numFeatures: 5 }) },
  'nonFinite: throw': { layer: set({ nonFinite: 'throw' }), x: () => tensor(float32(48).fill(Infinity), [2, 4, 6]) },
  'nonFinite: skip': { layer: set({ nonFinite: 'skip' }), x: () => tensor(float32(48).fill(NaN), [2, 4, 6]) },
  'a collector': { layer: (l) => (l as TrackedNorm).collect(() => {}) },
};
const batches: Record<string, Change> = {
  'a count': { layer: set({ numBatchesTracked: 5, momentum: null }) },
  'a count that is none': { layer: set({ numBatchesTracked: -1 }) },
  'singleValue: runningStats': { layer: set({ singleValue: 'runningStats' }), x: () => input([1, 4, 1]) },
};
const trailing: Record<string, Change> = { 'another shape': { layer: set({ normalizedShape: [4, 6] }) } };

const families: [string, () => Norm, Record<string, Change>][] = [
  ['BatchNorm1d', () => new BatchNorm1d(4), { ...everywhere, ...channels, ...batches }],
  ['BatchNorm1d without momentum', () => new BatchNorm1d(4, { momentum: null }), { ...everywhere, ...batches }],
  [
    'InstanceNorm1d',
    () => new InstanceNorm1d(4, { affine: true, trackRunningStats: true }),
    { ...everywhere, ...channels },
  ],
  [
    'GroupNorm',
    () => new GroupNorm(2, 4),
    { ...everywhere, groups: { layer: set({ numGroups: 4 }) }, channels: { layer: set({ numChannels: 8 }) } },
  ],
  [
    'LayerNorm',
    () => new LayerNorm(6),
    { ...everywhere, ...trailing, axis: { layer: set({ axis: 2 }) }, 'another axis': { layer: set({ axis: 1 }) } },
  ],
  ['RMSNorm', () => new RMSNorm(6), { ...everywhere, ...trailing }],
];

describe.each(families)('%s after other calls', (_, make, changes) => {
  it.each(Object.entries(changes))('%s', (_, { layer: change, x: other, options = {} }) => {
    const after = (calls: number): unknown => {
      const layer = make();
      layer.weight!.data.set(float32(layer.weight!.size, 3) as never);
      const x = input([2, 4, 6]);
      const start = [...layer.stateDict()].map(([key, t]) => [key, t.copy()] as const);
      for (let i = 0; i < calls; i++) layer.forward(input([2, 4, 6], 10 + i));
      if (calls > 0) layer.backward(input([2, 4, 6]));
      layer.loadStateDict(new Map(start));
      layer.zeroGrad();
      change?.(layer);
      const results = [outcome(layer, other ? other(x) : x, options)];
      // And back, where what was changed is the call and not the layer.
      if (!change) results.push(outcome(layer, input([2, 4, 6]), {}));
      return results;
    };
    expect(after(3)).toEqual(after(0));
  });
});

it('memory in channels-last order after row-major, and the other way', () => {
  const bn = new BatchNorm2d(3).eval();
  const x = input([2, 4, 5, 3]).permute(0, 3, 1, 2);
  for (const each of [x, x.contiguous(), x, x.contiguous()]) {
    const y = bn.forward(each);
    expect(y.strides).toEqual(each.strides);
    expect(y.toArray()).toEqual(new BatchNorm2d(3).eval().forward(each).toArray());
  }
});

describe('statistics are kept as long as they are needed', () => {
  const x = [1, 2, 3].map((seed) => input([4, 5, 6], seed));
  const dy = input([4, 5, 6], 9);
  const alone = (t: Tensor): unknown => {
    const layer = new LayerNorm(6);
    layer.forward(t);
    return layer.backward(dy).toArray();
  };

  it('of several contexts', () => {
    const layer = new LayerNorm(6);
    for (let round = 0; round < 3; round++) {
      const contexts = x.map((t) => {
        const context = layer.context();
        layer.forward(t, { context });
        return context;
      });
      layer.forward(x[0]!);
      layer.forward(x[1]!);
      const order = [1, 0, 2];
      for (const i of order) expect(layer.backward(dy, { context: contexts[i] }).toArray()).toEqual(alone(x[i]!));
      expect(layer.backward(dy).toArray()).toEqual(alone(x[1]!));
    }
  });

  it('over a forward that fails, or keeps nothing', () => {
    const make = (): BatchNorm1d => new BatchNorm1d(5, { nonFinite: 'throw' });
    const [layer, same] = [make(), make()];
    for (const l of [layer, same]) l.forward(x[0]!);
    for (const l of [layer, same]) l.forward(x[1]!);
    expect(() => layer.forward(input([4, 5, 6]), { out: new Float32Array(1) })).toThrow(RangeError);
    const bad = tensor(float32(120).fill(NaN), [4, 5, 6]);
    expect(() => layer.forward(bad)).toThrow('has a mean of NaN');
    noGrad(() => layer.eval().forward(x[2]!));
    layer.train();
    expect(layer.backward(dy).toArray()).toEqual(same.backward(dy).toArray());
  });

  it('over a backward that fails, and one whose options run a forward', () => {
    const layer = new LayerNorm(6);
    layer.forward(x[0]!);
    layer.forward(x[1]!);
    expect(() => layer.backward(dy, { out: new Float32Array(1) })).toThrow(RangeError);
    const dx = layer.backward(dy, {
      get out() {
        layer.forward(x[2]!);
        return undefined;
      },
    });
    expect(dx.toArray()).toEqual(alone(x[1]!));
    expect(layer.backward(dy).toArray()).toEqual(alone(x[2]!));
  });

  it('that a collector was given', () => {
    const bn = new BatchNorm1d(5);
    const kept: (readonly { statistics: Float64Array }[])[] = [];
    bn.collect((parts) => kept.push(parts));
    for (const t of x) bn.forward(t);
    expect(new Set(kept.map((parts) => parts[0]!.statistics)).size).toBe(3);
    const means = kept.map((parts) => parts[0]!.statistics[0]);
    expect(new Set(means).size).toBe(3);
  });

  it('that a function has returned', () => {
    const [first, second] = [x[0]!, x[1]!].map((t) => nativeBatchNorm(t, { training: true }));
    expect(first!.mean.toArray()).toEqual(nativeBatchNorm(x[0]!, { training: true }).mean.toArray());
    expect(first!.mean.toArray()).not.toEqual(second!.mean.toArray());
  });
});

it('messages name a lazy layer by what it has become', () => {
  const bn = new lib.LazyBatchNorm1d();
  expect(() => bn.forward(tensor([1, 2]))).toThrow(/^LazyBatchNorm1d.forward/);
  bn.forward(input([2, 4, 6]));
  expect(() => bn.forward(tensor([1, 2]))).toThrow(/^BatchNorm1d.forward/);
});

it('option names are checked in every call', () => {
  const layer = new LayerNorm(6);
  const x = input([2, 6]);
  for (const options of [{}, { out: undefined }]) layer.forward(x, options);
  expect(() => layer.forward(x, { ouT: x } as never)).toThrow('did you mean "out"?');
  // Inherited names are no options.
  expect(layer.forward(x, Object.create({ anything: 1 }) as object).shape).toEqual([2, 6]);
});
