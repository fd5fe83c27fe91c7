// Layers that learn their number of channels: before, while, after, and everything that must not initialize them.

import * as simdnorm from '../../lib';
import {
  BatchNorm1d,
  InstanceNorm1d,
  LazyBatchNorm1d,
  LazyBatchNorm2d,
  LazyInstanceNorm1d,
  LazyInstanceNorm2d,
  noGrad,
  Sequential,
  StateError,
  Tensor,
  tensor,
  type InstanceNormOptions,
} from '../../lib';
import { everyWay } from '../support/isa';
import { values } from '../support/shapes';

type Lazy = new (options?: InstanceNormOptions) => BatchNorm1d;
type Plain = new (numFeatures: number, options?: InstanceNormOptions) => BatchNorm1d;
const families = ['BatchNorm', 'InstanceNorm'].flatMap((family) =>
  [1, 2, 3].map((d) => {
    const all = simdnorm as unknown as Record<string, unknown>;
    return [`Lazy${family}${d}d`, all[`Lazy${family}${d}d`] as Lazy, all[`${family}${d}d`] as Plain, d] as const;
  }),
);
const random = (...shape: number[]): Tensor =>
  tensor(
    values(
      shape.reduce((p, n) => p * n, 1),
      'float32',
    ),
    shape,
  );
const numbers = (t: Tensor | null | undefined): number[] => t!.toArray() as number[];
const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return (error as StateError).code;
  }
  return 'nothing was thrown';
};

describe.each(families)('%s', (name, LazyClass, PlainClass, d) => {
  const shape = [2, 3, ...[5, 4, 6].slice(0, d)];

  it('tells that it is lazy, with affine and tracking unless told otherwise', () => {
    const layer = new LazyClass();
    expect(String(layer)).toBe(`${name}(0, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)`);
    expect([layer.numFeatures, layer.numBatchesTracked]).toEqual([0, 0]);
    const bare = new LazyClass({ affine: false, trackRunningStats: false });
    expect([bare.weight, bare.bias, bare.runningMean, bare.runningVar, bare.numBatchesTracked]).toEqual(
      Array(5).fill(null),
    );
    expect(new LazyClass({ affine: undefined }).affine).toBe(true);
    expect(layer).toBeInstanceOf(LazyClass);
    expect(layer).toBeInstanceOf(PlainClass);
  });

  it('becomes the plain layer with its first input, and computes the same bits', () => {
    everyWay(() => {
      const [lazy, plain] = [new LazyClass(), new PlainClass(3, { affine: true, trackRunningStats: true })];
      const [x, dy] = [random(...shape), random(...shape)];
      for (let step = 0; step < 2; step++) {
        expect(lazy.forward(x).data).toEqual(plain.forward(x).data);
        expect(lazy.backward(dy).data).toEqual(plain.backward(dy).data);
      }
      expect(String(lazy)).toBe(String(plain));
      expect([lazy.constructor, lazy.numFeatures]).toEqual([PlainClass, 3]);
      expect(lazy).not.toBeInstanceOf(LazyClass);
      expect(lazy.stateDict()).toEqual(plain.stateDict());
      expect(lazy.weight!.grad).toEqual(plain.weight!.grad);
    }, [2]);
  });

  it('in evaluation too, without a trace in the statistics; with neither affine nor tracking too', () => {
    const layer = new LazyClass().eval() as BatchNorm1d;
    noGrad(() => layer.forward(random(...shape)));
    expect([layer.constructor, layer.training, layer.numBatchesTracked]).toEqual([PlainClass, false, 0]);
    expect([numbers(layer.weight), numbers(layer.runningMean), numbers(layer.runningVar)]).toEqual([
      [1, 1, 1],
      [0, 0, 0],
      [1, 1, 1],
    ]);
    const bare = new LazyClass({ affine: false, trackRunningStats: false });
    bare.forward(random(...shape));
    expect([bare.constructor, bare.numFeatures]).toEqual([PlainClass, 3]);
  });

  it('stays lazy after an input that it refuses', () => {
    const layer = new LazyClass();
    const before = [String(layer), layer.weight] as const;
    const spoiled: [() => unknown, RegExp][] = [
      [() => layer.forward(random(2)), new RegExp(`${name}\\.forward: expected .* input \\(got 1D input\\)`)],
      [() => layer.forward(tensor(new Float64Array(2 * 3 * 4), [2, 3, 4])), /mixed dtype|expected/],
      [() => layer.forward(tensor(new Float64Array(shape.reduce((p, n) => p * n)), shape)), /mixed dtype/],
      [() => layer.forward(random(1, 3, ...Array<number>(d).fill(1))), /Expected more than 1 (value|spatial)/],
      [() => layer.forward(random(...shape), { out: new Float32Array(1) }), /out must be/],
      [() => layer.forward(random(...shape), { oops: 1 } as never), /unknown option/],
      [() => layer.forward('x' as never), /input must be a tensor/],
      [() => layer.backward(random(...shape)), /no forward to go back through/],
    ];
    for (const [run, message] of spoiled) {
      expect(run).toThrow(message);
      expect(layer).toBeInstanceOf(LazyClass);
      expect([String(layer), layer.weight === before[1], layer.numFeatures]).toEqual([before[0], true, 0]);
      expect(codeOf(() => layer.weight!.shape)).toBe('ERR_UNINITIALIZED');
    }
    layer.forward(random(...shape));
    expect(layer.numFeatures).toBe(3);
  });

  it('is initialized by a state dict: numFeatures, class and all', () => {
    const trained = new PlainClass(3, { affine: true, trackRunningStats: true });
    trained.forward(random(...shape));
    const layer = new LazyClass();
    const { weight } = layer;
    expect(layer.loadStateDict(trained.stateDict())).toEqual({ missingKeys: [], unexpectedKeys: [] });
    expect([String(layer), layer.constructor, layer.weight]).toEqual([String(trained), PlainClass, weight]);
    expect(layer.stateDict()).toEqual(trained.stateDict());
    const x = random(...shape);
    expect(layer.eval().forward(x).data).toEqual(trained.eval().forward(x).data);
    expect(() => layer.forward(random(2, 4, ...shape.slice(2)))).toThrow(RangeError);
  });
});

describe('before it is initialized', () => {
  it('hands out the parameters that will be trained, so that an optimizer may be made first', () => {
    const net = new Sequential(new LazyBatchNorm1d());
    const parameters = net.parameters();
    net.zeroGrad();
    parameters[1]!.requiresGrad = false;
    expect(net.namedParameters().map(([name]) => name)).toEqual(['0.weight', '0.bias']);
    net.forward(random(4, 3));
    net.backward(random(4, 3));
    expect(net.parameters()).toEqual(parameters);
    expect([parameters[0]!.shape, parameters[0]!.grad!.shape, parameters[1]!.grad]).toEqual([[3], [3], null]);
  });

  it("says so in torch's words wherever its shape is asked for", () => {
    const { weight, runningVar } = new LazyBatchNorm2d();
    const words =
      /^LazyBatchNorm2d: Can't access the shape of an uninitialized parameter or buffer: weight is initialized/;
    expect(() => weight!.shape).toThrow(words);
    for (const look of [
      () => weight!.data,
      () => weight!.size,
      () => weight!.isContiguous,
      () => weight!.toArray(),
      () => String(weight),
      () => runningVar!.offset,
      () => runningVar!.strides,
    ]) {
      expect(codeOf(look)).toBe('ERR_UNINITIALIZED');
    }
    expect([weight!.dtype, new LazyBatchNorm1d({ dtype: 'float64' }).weight!.dtype]).toEqual(['float32', 'float64']);
  });

  it('has nothing to reset but its count', () => {
    const layer = new LazyBatchNorm1d();
    layer.numBatchesTracked = 3;
    layer.resetParameters();
    expect([layer.numBatchesTracked, layer.constructor]).toEqual([0, LazyBatchNorm1d]);
    new LazyBatchNorm1d({ trackRunningStats: false }).resetRunningStats();
  });

  it('refuses what the plain layer refuses', () => {
    expect(() => new LazyBatchNorm1d(64 as never)).toThrow(/LazyBatchNorm1d: options must be an object, but got 64/);
    expect(() => new LazyBatchNorm1d(null as never)).toThrow(/options must be an object, but got null/);
    expect(() => new LazyBatchNorm1d({ affine: null as never })).toThrow(/affine must be a boolean/);
    expect(() => new LazyBatchNorm1d({ numFeatures: 3 } as never)).toThrow(/unknown option "numFeatures"/);
  });

  it('keeps its contexts, and may stand twice in a Sequential', () => {
    const layer = new LazyBatchNorm1d();
    const context = layer.context();
    const [x, dy] = [random(4, 3), random(4, 3)];
    layer.forward(x, { context });
    const plain = new BatchNorm1d(3);
    plain.forward(x);
    expect(layer.backward(dy, { context }).data).toEqual(plain.backward(dy).data);
    const twice = new LazyBatchNorm1d();
    const net = new Sequential(twice, twice);
    net.forward(x);
    expect(net.backward(dy).shape).toEqual([4, 3]);
    expect(twice.numBatchesTracked).toBe(2);
  });
});

describe('state dicts', () => {
  const line = (name: string): string =>
    `\tWhile copying the parameter named "${name}", an exception occurred : LazyBatchNorm1d: Can't access the shape of an ` +
    `uninitialized parameter or buffer: ${name} is initialized by the first forward, or by loading a state dict.`;

  it('of a lazy layer cannot be loaded into one that is not', () => {
    const state = new LazyBatchNorm1d().stateDict();
    expect([...state.keys()]).toEqual(['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']);
    expect(() => new BatchNorm1d(3).loadStateDict(state)).toThrow(
      ['Error(s) in loading state_dict for BatchNorm1d:', ...['weight', 'bias', 'running_mean', 'running_var'].map(line)].join('\n'), // prettier-ignore
    );
  });

  it('of a lazy layer can be loaded into a lazy one, and shows what becomes of it', () => {
    const [from, into] = [new LazyBatchNorm1d(), new LazyBatchNorm1d()];
    from.numBatchesTracked = 4;
    const state = from.stateDict();
    into.loadStateDict(state);
    expect([into.constructor, into.numBatchesTracked]).toEqual([LazyBatchNorm1d, 4]);
    from.forward(random(4, 3));
    expect(state.get('weight')!.shape).toEqual([3]);
  });

  it('that leave things out initialize the rest as usual, if not strict', () => {
    const layer = new LazyBatchNorm1d();
    const { missingKeys } = layer.loadStateDict({ running_mean: [7, 8] }, { strict: false });
    expect(missingKeys).toEqual(['weight', 'bias', 'running_var']);
    expect([layer.constructor, numbers(layer.weight), numbers(layer.runningMean), numbers(layer.runningVar)]).toEqual([
      BatchNorm1d,
      [1, 1],
      [7, 8],
      [1, 1],
    ]);
    const empty = new LazyBatchNorm1d();
    empty.loadStateDict({}, { strict: false });
    expect(empty).toBeInstanceOf(LazyBatchNorm1d);
  });

  it('that do not agree with themselves leave it lazy', () => {
    const layer = new LazyBatchNorm1d();
    const load = (): unknown => layer.loadStateDict({ weight: [1, 2, 3], bias: [1, 2] }, { strict: false });
    expect(load).toThrow(/size mismatch for bias: .* torch\.Size\(\[2\]\) from checkpoint, .* torch\.Size\(\[3\]\)\./);
    expect([layer.constructor, codeOf(() => layer.bias!.shape)]).toEqual([LazyBatchNorm1d, 'ERR_UNINITIALIZED']);
    layer.forward(random(4, 5));
    expect(layer.numFeatures).toBe(5);
  });

  it('initialize a lazy layer that stands in two places once', () => {
    const layer = new LazyInstanceNorm1d({ trackRunningStats: false });
    const net = new Sequential(layer, layer);
    net.loadStateDict({ '0.weight': [1, 2], '0.bias': [3, 4], '1.weight': [5, 6], '1.bias': [7, 8] });
    expect([layer.constructor, numbers(layer.weight)]).toEqual([InstanceNorm1d, [5, 6]]);
    const wrong = new LazyInstanceNorm2d({ trackRunningStats: false });
    const both = new Sequential(wrong, wrong);
    const load = (): unknown =>
      both.loadStateDict({ '0.weight': [1, 2], '0.bias': [3, 4], '1.weight': [5, 6], '1.bias': [7] });
    expect(load).toThrow(/size mismatch for 1\.bias/);
    expect(wrong.constructor).toBe(LazyInstanceNorm2d);
  });
});

describe('an unbatched input of InstanceNorm', () => {
  it.each(families.filter(([name]) => name.startsWith('LazyInstance')))(
    '%s has its channels in dimension 0',
    (_, LazyClass, PlainClass, d) => {
      const x = random(3, ...[5, 4, 6].slice(0, d));
      const [lazy, plain] = [new LazyClass(), new PlainClass(3, { affine: true, trackRunningStats: true })];
      expect(lazy.forward(x).data).toEqual(plain.forward(x).data);
      expect([lazy.numFeatures, lazy.constructor]).toEqual([3, PlainClass]);
    },
  );
});
