// What torch does not have: forwards that move no statistics, batches that are not finite, one value per channel.

import {
  BatchNorm1d,
  BatchNorm2d,
  GroupNorm,
  InstanceNorm1d,
  LayerNorm,
  noGrad,
  StateError,
  Tensor,
  tensor,
} from '../../lib';
import { onEveryIsa } from '../support/isa';
import { forms, prepare, values, type AnyLayer } from '../support/shapes';
import { expectSameBits, type Dtype } from '../support/tolerance';

const data = (t: Tensor | null | undefined): Float64Array => t!.data as Float64Array;
const state = (layer: AnyLayer): unknown[] => [
  ...[layer.weight, layer.bias, layer.runningMean, layer.runningVar].map((t) => t && [...data(t)]),
  ...[layer.weight, layer.bias].map((t) => t?.grad && [...data(t.grad)]),
  layer.numBatchesTracked,
];
const tracked = forms.filter(({ name }) => /^(Batch|Instance)Norm/.test(name));

onEveryIsa('statistics that are looked at first', () => {
  it.each(tracked.map((form) => [form.name, form] as const))(
    '%s: the same bits as statistics that are not',
    (_, form) => {
      for (const dtype of ['float32', 'float64'] as Dtype[]) {
        const options = { trackRunningStats: true, momentum: 0.3 };
        const { layer, x, dy } = prepare(form, dtype, { layer: options });
        for (const nonFinite of ['throw', 'skip']) {
          const twin = form.make(dtype, { ...options, nonFinite });
          const plain = form.make(dtype, options);
          for (const l of [twin, plain]) {
            data(l.weight).set(data(layer.weight));
            data(l.bias).set(data(layer.bias));
          }
          for (let step = 0; step < 2; step++) {
            expectSameBits('y', data(twin.forward(x)), data(plain.forward(x)));
            expectSameBits('dx', data(twin.backward(dy)), data(plain.backward(dy)));
          }
          expect(state(twin)).toEqual(state(plain));
          expectSameBits('y inside noGrad', data(noGrad(() => twin.forward(x))), data(noGrad(() => plain.forward(x))));
          expect(state(twin)).toEqual(state(plain));
          expectSameBits('y in eval', data(twin.eval().forward(x)), data(plain.eval().forward(x)));
        }
      }
    },
  );
});

describe('updateStats: false', () => {
  const x = tensor([
    [
      [1, 2, 4],
      [3, 5, 9],
    ],
    [
      [7, 1, 2],
      [0, 2, 9],
    ],
  ]);
  it.each<[string, AnyLayer, AnyLayer]>([
    ['BatchNorm', new BatchNorm1d(2) as unknown as AnyLayer, new BatchNorm1d(2) as unknown as AnyLayer],
    [
      'BatchNorm, cumulative',
      new BatchNorm1d(2, { momentum: null, nonFinite: 'throw' }) as unknown as AnyLayer,
      new BatchNorm1d(2, { momentum: null }) as unknown as AnyLayer,
    ],
    [
      'InstanceNorm',
      new InstanceNorm1d(2, { trackRunningStats: true }) as unknown as AnyLayer,
      new InstanceNorm1d(2, { trackRunningStats: true }) as unknown as AnyLayer,
    ],
  ])('%s: a forward computed again moves nothing, and gives the same', (_, layer, twin) => {
    const first = layer.forward(x);
    twin.forward(x);
    const again = layer.forward(x, { updateStats: false });
    expectSameBits('y', data(again), data(first));
    expect(state(layer)).toEqual(state(twin));
    expectSameBits('dx', data(layer.backward(x)), data(twin.backward(x)));
  });
  it('is an option of every norm, and a boolean', () => {
    const layer = new LayerNorm(3);
    expect(layer.forward(x, { updateStats: false }).toArray()).toEqual(layer.forward(x).toArray());
    expect(() => layer.forward(x, { updateStats: 0 as never })).toThrow(/updateStats must be a boolean, but got 0/);
  });
});

describe('nonFinite', () => {
  const good = tensor([
    [1, 10],
    [2, 20],
    [6, 60],
  ]);
  const spoiled = (v: number): Tensor =>
    tensor([
      [1, 10],
      [2, v],
      [6, 60],
    ]);
  it("'propagate', the default, spoils the running statistics for good, as in torch", () => {
    const bn = new BatchNorm1d(2);
    bn.forward(spoiled(NaN));
    bn.forward(good);
    expect([...data(bn.runningMean)].map(Number.isFinite)).toEqual([true, false]);
    expect(bn.hasNonFiniteState()).toBe(true);
    bn.resetRunningStats();
    expect(bn.hasNonFiniteState()).toBe(false);
    data(bn.weight)[1] = Infinity;
    expect(bn.hasNonFiniteState()).toBe(true);
  });
  it.each([NaN, Infinity, -Infinity])("'skip': %p leaves statistics and counter as without the batch", (v) => {
    for (const options of [{}, { momentum: null }, { dtype: 'float64' as const }]) {
      const [bn, twin, plain] = [
        new BatchNorm1d(2, { ...options, nonFinite: 'skip' }),
        new BatchNorm1d(2, options),
        new BatchNorm1d(2, options),
      ] as unknown as [AnyLayer, AnyLayer, AnyLayer];
      const cast = (t: Tensor): Tensor => (options.dtype ? tensor(Float64Array.from(data(t)), [3, 2]) : t);
      bn.forward(cast(good));
      twin.forward(cast(good));
      expectSameBits('y as with propagate', data(bn.forward(cast(spoiled(v)))), data(plain.forward(cast(spoiled(v)))));
      expectSameBits('dx as with propagate', data(bn.backward(cast(good))), data(plain.backward(cast(good))));
      for (const l of [bn, twin]) {
        l.zeroGrad();
        l.forward(cast(good));
      }
      expect(state(bn)).toEqual(state(twin));
    }
  });
  it.each([true, false])("'throw' names the layer and the channel, and leaves all as it was (noGrad %p)", (quiet) => {
    const bn = new BatchNorm1d(2, { nonFinite: 'throw' });
    bn.forward(good);
    const before = state(bn as unknown as AnyLayer);
    const run = (): unknown => (quiet ? noGrad(() => bn.forward(spoiled(NaN))) : bn.forward(spoiled(NaN)));
    expect(run).toThrow(StateError);
    expect(run).toThrow(
      "BatchNorm1d.forward: the batch has a mean of NaN and a variance of NaN in channel 1; the layer is as it was (nonFinite: 'throw')",
    );
    expect(run).toThrow(expect.objectContaining({ code: 'ERR_NON_FINITE' }));
    expect(state(bn as unknown as AnyLayer)).toEqual(before);
    expectSameBits(
      'dx of the forward before',
      data(bn.backward(good)),
      data(
        (() => {
          const twin = new BatchNorm1d(2);
          twin.forward(good);
          return twin.backward(good);
        })(),
      ),
    );
  });
  it('a variance that float32 cannot hold counts as not finite; float64 holds it', () => {
    const huge = [
      [1e30, 1],
      [-1e30, 2],
    ];
    const bn = new BatchNorm1d(2, { nonFinite: 'throw' });
    expect(() => bn.forward(huge)).toThrow(/a mean of 0 and a variance of Infinity in channel 0/);
    expect(() => new BatchNorm1d(2, { nonFinite: 'throw', dtype: 'float64' }).forward(huge)).not.toThrow();
  });
  it('judges InstanceNorm by sample, masked batches by their valid positions, and nothing in eval', () => {
    const layer = new InstanceNorm1d(2, { trackRunningStats: true, nonFinite: 'throw' });
    const x = tensor([
      [
        [1, 2, 3],
        [4, 5, 7],
      ],
      [
        [1, 2, 9],
        [4, NaN, 7],
      ],
    ]);
    expect(() => layer.forward(x)).toThrow(/in channel 1/);
    expect(data(layer.runningMean)[0]).toBe(0);
    layer.forward(x, {
      mask: [
        [1, 1, 1],
        [1, 0, 1],
      ],
    });
    expect(data(layer.runningMean)[0]).toBeGreaterThan(0);
    expect(() => layer.forward(x, { lengths: [2, 3] })).toThrow(/in channel 1/);
    expect(() => layer.eval().forward(x)).not.toThrow();
  });
  it('an empty batch is finite', () => {
    const bn = new BatchNorm1d(2, { nonFinite: 'throw' });
    bn.forward(tensor(new Float32Array(0), [0, 2]));
    expect(bn.numBatchesTracked).toBe(1);
    bn.forward(tensor(new Float32Array(12), [2, 2, 3]), { lengths: [0, 0] });
    expect([bn.numBatchesTracked, data(bn.runningVar)[0]]).toEqual([2, 1]);
  });
  it('is one of three', () => {
    expect(() => new BatchNorm1d(2, { nonFinite: 'ignore' as never })).toThrow(
      /BatchNorm1d: nonFinite must be one of 'propagate', 'throw', 'skip', but got the string "ignore"/,
    );
    expect(() => new InstanceNorm1d(2, { nonFinite: 1 as never })).toThrow(TypeError);
    expect(() => new GroupNorm(1, 2, { nonFinite: 'skip' } as never)).toThrow(/unknown option/);
  });
});

describe('singleValue', () => {
  const one = tensor([[3, -5]]);
  it("'runningStats' normalizes one value by them, and moves nothing", () => {
    const bn = new BatchNorm1d(2, { singleValue: 'runningStats' });
    bn.forward([
      [1, 2],
      [3, 8],
    ]);
    const before = state(bn as unknown as AnyLayer);
    const y = bn.forward(one);
    const dx = bn.backward([[1, 2]]);
    expect(state(bn as unknown as AnyLayer).slice(0, 4)).toEqual(before.slice(0, 4));
    expect(bn.numBatchesTracked).toBe(1);
    bn.zeroGrad();
    bn.eval();
    expectSameBits('y', data(y), data(bn.forward(one)));
    expectSameBits('dx', data(dx), data(bn.backward([[1, 2]])));
  });
  it('goes with a policy for what is not finite, and with masks', () => {
    const bn = new BatchNorm1d(2, { singleValue: 'runningStats', nonFinite: 'throw' });
    expect(data(bn.forward([[NaN, 1]]))[0]).toBeNaN();
    bn.forward(tensor(new Float32Array(12), [2, 2, 3]), { lengths: [1, 0] });
    expect([bn.numBatchesTracked, data(bn.runningVar)[0]]).toEqual([0, 1]);
  });
  it('two values are a batch as ever', () => {
    const [bn, twin] = [new BatchNorm2d(1, { singleValue: 'runningStats' }), new BatchNorm2d(1)];
    const x = tensor(values(2, 'float32'), [1, 1, 1, 2]);
    expectSameBits('y', data(bn.forward(x)), data(twin.forward(x)));
    expect(state(bn as unknown as AnyLayer)).toEqual(state(twin as unknown as AnyLayer));
  });
  it('throws without running statistics, and by default', () => {
    const bn = new BatchNorm1d(2, { singleValue: 'runningStats', trackRunningStats: false });
    expect(() => bn.forward(one)).toThrow(/Expected more than 1 value per channel when training/);
    expect(() => new BatchNorm1d(2).forward(one)).toThrow(/Expected more than 1 value per channel when training/);
    expect(() => new BatchNorm1d(2, { singleValue: 'x' as never })).toThrow(
      /singleValue must be one of 'throw', 'runningStats'/,
    );
    expect(() => new InstanceNorm1d(2, { singleValue: 'throw' } as never)).toThrow(/unknown option "singleValue"/);
  });
});
