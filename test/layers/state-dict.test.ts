// Saving and loading: keys, order, versions, torch's messages word for word, and that a failing load changes nothing.

import {
  BatchNorm1d,
  BatchNorm2d,
  GroupNorm,
  InstanceNorm1d,
  InstanceNorm2d,
  LayerNorm,
  LazyBatchNorm1d,
  Module,
  Parameter,
  RMSNorm,
  Sequential,
  StateDict,
  StateError,
  Tensor,
  tensor,
  type ModuleLike,
  type StateEntry,
  type StateSource,
} from '../../lib';

const ones = (...shape: number[]): Tensor => tensor(new Float32Array(shape.reduce((p, n) => p * n, 1)).fill(1), shape);
const numbers = (t: Tensor | null | undefined): number[] => t!.toArray() as number[];

class Net extends Module {
  encoder = new Sequential(new BatchNorm1d(2), new LayerNorm(2));
  head = new RMSNorm(2);
  scale = new Parameter(new Float32Array([3]), [1]);
  override forward(x: Tensor): Tensor {
    return this.head.forward(this.encoder.forward(x));
  }
  override backward(dy: Tensor): Tensor {
    return this.encoder.backward(this.head.backward(dy));
  }
}
const keysOfNet = [
  'scale',
  'encoder.0.weight',
  'encoder.0.bias',
  'encoder.0.running_mean',
  'encoder.0.running_var',
  'encoder.0.num_batches_tracked',
  'encoder.1.weight',
  'encoder.1.bias',
  'head.weight',
];

/** The state of a network with every tensor copied and changed. */
function another(net: Module): StateDict {
  const state = net.stateDict();
  let next = 1;
  for (const [key, value] of state) {
    const copy = value.copy();
    for (let i = 0; i < copy.size; i++) copy.data[i] = copy.dtype === 'int64' ? BigInt(next++) : next++;
    state.set(key, copy);
  }
  return state;
}

const messageOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(StateError);
    expect((error as StateError).code).toBe('ERR_STATE_DICT');
    return (error as Error).message;
  }
  throw new Error('nothing was thrown');
};

describe('stateDict', () => {
  it.each([
    [new BatchNorm2d(3), 2, ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']],
    [new BatchNorm1d(3, { affine: false }), 2, ['running_mean', 'running_var', 'num_batches_tracked']],
    [new BatchNorm1d(3, { bias: false, trackRunningStats: false }), 2, ['weight']],
    [new InstanceNorm2d(3), 2, []],
    [
      new InstanceNorm1d(3, { affine: true, trackRunningStats: true }),
      2,
      ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'],
    ],
    [new LayerNorm([3, 4]), 1, ['weight', 'bias']],
    [new GroupNorm(1, 3), 1, ['weight', 'bias']],
    [new RMSNorm(3), 1, ['weight']],
  ] as [Module, number, string[]][])('%s has the keys and the version of torch', (layer, version, keys) => {
    const state = layer.stateDict();
    expect([...state.keys()]).toEqual(keys);
    expect([...state.metadata]).toEqual([['', { version }]]);
  });

  it('has dotted keys and a version for each module, its own parameters before its parts', () => {
    const state = new Net().stateDict();
    expect([...state.keys()]).toEqual(keysOfNet);
    expect([...state.metadata]).toEqual([
      ['', { version: 1 }],
      ['encoder', { version: 1 }],
      ['encoder.0', { version: 2 }],
      ['encoder.1', { version: 1 }],
      ['head', { version: 1 }],
    ]);
  });

  it('shares memory with the layer, but for the count, which is an int64 of shape []', () => {
    const bn = new BatchNorm1d(2);
    const state = bn.stateDict();
    bn.forward([
      [1, 2],
      [3, 5],
    ]);
    expect(state.get('weight')!.data).toBe(bn.weight!.data);
    expect(state.get('weight')).not.toBeInstanceOf(Parameter);
    expect(numbers(state.get('running_mean'))).toEqual(numbers(bn.runningMean));
    const count = state.get('num_batches_tracked')!;
    expect([count.dtype, count.shape, count.toArray()]).toEqual(['int64', [], [0n]]);
    expect(bn.stateDict().get('num_batches_tracked')!.toArray()).toEqual([1n]);
  });

  it('has a layer that stands in two places under both names', () => {
    const ln = new LayerNorm(1);
    expect([...new Sequential(ln, ln).stateDict().keys()]).toEqual(['0.weight', '0.bias', '1.weight', '1.bias']);
  });

  it('refuses a count that is none', () => {
    const bn = new BatchNorm1d(1);
    bn.numBatchesTracked = 1.5;
    expect(() => bn.stateDict()).toThrow(/BatchNorm1d: numBatchesTracked must be an integer/);
  });
});

describe('loadStateDict', () => {
  it('brings back what was saved, into the tensors that are there', () => {
    const [net, other] = [new Net(), new Net()];
    const { data } = other.head.weight!;
    const state = another(net);
    expect(other.loadStateDict(state)).toEqual({ missingKeys: [], unexpectedKeys: [] });
    const loaded = other.stateDict();
    for (const [key, value] of state) expect([key, loaded.get(key)!.toArray()]).toEqual([key, value.toArray()]);
    expect(other.head.weight!.data).toBe(data);
    expect((other.encoder.at(0) as BatchNorm1d).numBatchesTracked).toBe(10);
    // Torch's own metadata are kept by none of these, and need not be.
    for (const source of [new Map(state), Object.fromEntries(state), structuredClone(state) as StateSource]) {
      const third = new Net();
      third.loadStateDict(source);
      expect(numbers(third.scale)).toEqual([1]);
    }
  });

  it('takes tensors of any kind and keeps the dtype of the layer', () => {
    const single = new LayerNorm([2, 3]);
    single.loadStateDict({
      weight: new Tensor(new Float64Array([1 / 3, 2, 3, 4, 5, 1e300]), [3, 2]).permute(1, 0),
      bias: { data: BigInt64Array.of(0n, 1n, 2n, 3n, 4n, 5n, 6n), shape: [2, 3], strides: [3, 1], offset: 1 },
    });
    expect([single.weight!.dtype, numbers(single.weight)]).toEqual([
      'float32',
      [1 / 3, 3, 5, 2, 4, 1e300].map(Math.fround),
    ]);
    expect(numbers(single.bias)).toEqual([1, 2, 3, 4, 5, 6]);
    const double = new LayerNorm(2, { dtype: 'float64' });
    double.loadStateDict({ weight: [1 / 3, 2], bias: { data: new Uint8Array([7, 9]), dims: [2] } });
    expect([numbers(double.weight), numbers(double.bias)]).toEqual([
      [1 / 3, 2],
      [7, 9],
    ]);
  });

  it('writes through the strides and the offset of the tensor that is there', () => {
    const ln = new LayerNorm([2, 2]);
    const data = new Float32Array(7);
    Object.assign(ln, { weight: new Parameter(data, [2, 2], { strides: [1, 3], offset: 1 }) });
    ln.loadStateDict({ weight: tensor([[1, 2], [3, 4]]), bias: ones(2, 2) }); // prettier-ignore
    expect([...data]).toEqual([0, 1, 3, 0, 2, 4, 0]);
    Object.assign(ln, { weight: new Parameter(data, [2, 2], { offset: 3 }) });
    ln.loadStateDict({ weight: ones(2, 2), bias: ones(2, 2) });
    expect([...data]).toEqual([0, 1, 3, 1, 1, 1, 1]);
  });

  it('reads everything before it writes: tensors that change places', () => {
    const ln = new LayerNorm(2);
    const { weight, bias } = Object.fromEntries(ln.stateDict()) as { weight: Tensor; bias: Tensor };
    ln.loadStateDict({ weight: bias, bias: weight });
    expect([numbers(ln.weight), numbers(ln.bias)]).toEqual([
      [0, 0],
      [1, 1],
    ]);
  });

  it.each([
    ['int64', tensor(BigInt64Array.of(7n), [])],
    ['int64 of shape [1]', tensor(BigInt64Array.of(7n), [1])],
    ['a whole float', tensor(new Float32Array([7]), [])],
    ['a number', 7],
    ['a bigint', 7n as never],
  ])('the count may be %s', (_, count) => {
    const bn = new BatchNorm1d(1, { affine: false });
    bn.loadStateDict({ running_mean: [0], running_var: [1], num_batches_tracked: count });
    expect(bn.numBatchesTracked).toBe(7);
  });
  it.each([
    [tensor(new Float64Array([1.5]), []), '1.5'],
    [-1, '-1'],
    [NaN, 'NaN'],
    [tensor(BigInt64Array.of(2n ** 53n + 1n), []), '9007199254740992'],
  ])('the count must be a whole number: %s', (count, came) => {
    const bn = new BatchNorm1d(1, { affine: false });
    const state = { running_mean: [5], running_var: [1], num_batches_tracked: count };
    expect(messageOf(() => bn.loadStateDict(state))).toBe(
      'Error(s) in loading state_dict for BatchNorm1d:\n\tWhile copying the parameter named "num_batches_tracked", an ' +
        `exception occurred : it must be a whole number from 0 to 2^53 - 1, but got ${came}.`,
    );
    expect([bn.numBatchesTracked, numbers(bn.runningMean)]).toEqual([0, [0]]);
  });

  it("uses torch's words, for the whole tree at once, missing keys first", () => {
    const net = new Sequential(new BatchNorm2d(3), new LayerNorm(2));
    const state = new Map<string, Tensor>([
      ['foo', ones(1)],
      ['0.weight', ones(4)],
      ['0.bar', ones(1)],
      ['0.bias', ones(3, 1)],
      ['0.num_batches_tracked', ones(2)],
      ['1.weight.deep', ones(1)],
      ['1.bias', ones(2)],
      ['2.weight', ones(1)],
    ]);
    expect(messageOf(() => net.loadStateDict(state))).toBe(
      'Error(s) in loading state_dict for Sequential:\n' +
        '\tMissing key(s) in state_dict: "0.running_mean", "0.running_var", "1.weight". \n' +
        '\tUnexpected key(s) in state_dict: "foo", "2.weight", "0.bar", "1.weight.deep". \n' +
        '\tsize mismatch for 0.weight: copying a param with shape torch.Size([4]) from checkpoint, ' +
        'the shape in current model is torch.Size([3]).\n' +
        '\tsize mismatch for 0.bias: copying a param with shape torch.Size([3, 1]) from checkpoint, ' +
        'the shape in current model is torch.Size([3]).\n' +
        '\tsize mismatch for 0.num_batches_tracked: copying a param with shape torch.Size([2]) from checkpoint, ' +
        'the shape in current model is torch.Size([]).',
    );
  });

  it.each<[unknown, string]>([
    ['a', 'expected torch.Tensor or Tensor-like object from checkpoint but received the string "a"'],
    [null, 'expected torch.Tensor or Tensor-like object from checkpoint but received null'],
    [{}, 'an exception occurred : state_dict: weight must be a tensor, {data, shape}, {data, dims} or nested arrays, but got an object.'], // prettier-ignore
    [new Float32Array(1), 'an exception occurred : state_dict: weight must be a tensor, {data, shape}, {data, dims} or nested arrays, but got a Float32Array.'], // prettier-ignore
    [{ data: new Float32Array(2), shape: [1] }, 'an exception occurred : state_dict: weight: data has 2 elements, shape [1] needs 1.'], // prettier-ignore
  ])('says what is no tensor: %p', (weight, line) => {
    expect(messageOf(() => new RMSNorm(1).loadStateDict({ weight: weight as Tensor }))).toBe(
      `Error(s) in loading state_dict for RMSNorm:\n\tWhile copying the parameter named "weight", ${line}`,
    );
  });

  it('strict false returns what strict calls an error, and loads the rest; a wrong size is one all the same', () => {
    const bn = new BatchNorm1d(2);
    const state = { weight: [4, 5], foo: ones(1), 'bar.weight': ones(1) };
    expect(bn.loadStateDict(state, { strict: false })).toEqual({
      missingKeys: ['bias', 'running_mean', 'running_var'],
      unexpectedKeys: ['foo', 'bar.weight'],
    });
    expect(numbers(bn.weight)).toEqual([4, 5]);
    expect(messageOf(() => bn.loadStateDict({ weight: ones(3) }, { strict: false }))).toBe(
      'Error(s) in loading state_dict for BatchNorm1d:\n\tsize mismatch for weight: copying a param with shape ' +
        'torch.Size([3]) from checkpoint, the shape in current model is torch.Size([2]).',
    );
  });

  describe('other versions', () => {
    it('num_batches_tracked may be missing without metadata or with version 1: the layer keeps its own', () => {
      const state = new BatchNorm1d(2).stateDict();
      state.delete('num_batches_tracked');
      const bn = new BatchNorm1d(2);
      bn.numBatchesTracked = 5;
      bn.loadStateDict(new Map(state));
      state.metadata.set('', { version: 1 });
      bn.loadStateDict(state);
      expect(bn.numBatchesTracked).toBe(5);
      state.metadata.set('', { version: 2 });
      expect(messageOf(() => bn.loadStateDict(state))).toBe(
        'Error(s) in loading state_dict for BatchNorm1d:\n\tMissing key(s) in state_dict: "num_batches_tracked". ',
      );
    });

    it('running statistics for an InstanceNorm that keeps none', () => {
      const state = new InstanceNorm2d(2, { trackRunningStats: true }).stateDict();
      const net = new Sequential(new InstanceNorm2d(2));
      const plain = new Map([...state].map(([key, value]) => [`0.${key}`, value]));
      expect(messageOf(() => net.loadStateDict(plain, { strict: false }))).toBe(
        'Error(s) in loading state_dict for Sequential:\n\tUnexpected running stats buffer(s) "0.running_mean" and ' +
          '"0.running_var" for InstanceNorm2d with track_running_stats=False. If state_dict is a checkpoint saved ' +
          'before 0.4.0, this may be expected because InstanceNorm2d does not track running stats by default since ' +
          '0.4.0. Please remove these keys from state_dict. If the running stats are actually needed, instead set ' +
          'track_running_stats=True in InstanceNorm2d to enable them. See the documentation of InstanceNorm2d for details.',
      );
      expect(messageOf(() => new InstanceNorm2d(2).loadStateDict(state))).toBe(
        'Error(s) in loading state_dict for InstanceNorm2d:\n\tUnexpected key(s) in state_dict: "running_mean", ' +
          '"running_var", "num_batches_tracked". ',
      );
      plain.delete('0.running_mean');
      expect(messageOf(() => net.loadStateDict(plain))).toMatch(
        /for Sequential:\n\tUnexpected key\(s\) in state_dict: "0\.num_batches_tracked"\. \n\tUnexpected running stats buffer\(s\) "0\.running_var" for/,
      );
    });
  });

  it.each<[unknown, RegExp]>([
    [null, /Expected state_dict to be dict-like, got null\./],
    [[1], /Expected state_dict to be dict-like, got an array\./],
    ['weight', /got the string "weight"\./],
    [new Float32Array(1), /got a Float32Array\./],
    [ones(1), /got an object\./],
    [new Map([[1, ones(1)]]), /strings for keys, got 1/],
  ])('takes a Map or an object: %p', (state, message) => {
    const load = (): unknown => new RMSNorm(1).loadStateDict(state as never);
    expect(load).toThrow(TypeError);
    expect(load).toThrow(message);
  });
  it('checks its options', () => {
    expect(() => new RMSNorm(1).loadStateDict({ weight: [1] }, { strict: 1 as never })).toThrow(
      /strict must be a boolean/,
    );
    expect(() => new RMSNorm(1).loadStateDict({ weight: [1] }, { srtict: true } as never)).toThrow(/unknown option/);
  });

  it('sees own keys only, and sets none', () => {
    const polluted = JSON.parse('{"__proto__": [1], "constructor": [1], "weight": [2]}') as Record<string, number[]>;
    const rms = new RMSNorm(1);
    expect(rms.loadStateDict(polluted, { strict: false }).unexpectedKeys).toEqual(['__proto__', 'constructor']);
    expect([numbers(rms.weight), rms.constructor, Object.getPrototypeOf(rms)]).toEqual([
      [2],
      RMSNorm,
      RMSNorm.prototype,
    ]);
    const inherited = Object.create({ weight: [3] }) as Record<string, number[]>;
    expect(messageOf(() => rms.loadStateDict(inherited))).toMatch(/Missing key\(s\) in state_dict: "weight"/);
    const bare = Object.assign(Object.create(null) as Record<string, number[]>, { weight: [4] });
    rms.loadStateDict(bare);
    expect(numbers(rms.weight)).toEqual([4]);
    expect(({} as Record<string, unknown>)['weight']).toBeUndefined();
  });
});

describe('all or nothing', () => {
  /** Counts by itself and can be told to refuse. */
  class Foreign implements ModuleLike {
    seen = 1;
    values = ones(2);
    refuses = false;
    forward = (x: Tensor): Tensor => x;
    backward = (dy: Tensor): Tensor => dy;
    stateDict(): StateSource {
      return { seen: this.seen, values: this.values };
    }
    loadStateDict(state: Map<string, Tensor>): void {
      if (this.refuses) throw new Error('not today');
      this.seen = Number(state.get('seen')!.toArray()[0]);
      this.values = state.get('values')!;
    }
  }
  const make = () => {
    const foreign = [new Foreign(), new Foreign()] as const;
    const lazy = new LazyBatchNorm1d();
    const net = new Sequential(new BatchNorm1d(2), foreign[0], lazy, foreign[1], new LayerNorm([2, 3]));
    const state = new Map(net.stateDict());
    for (const key of ['weight', 'bias', 'running_mean', 'running_var']) state.set(`2.${key}`, ones(4));
    for (const key of ['1.seen', '3.seen', '0.num_batches_tracked']) state.set(key, tensor([9], []));
    for (const key of ['1.values', '3.values', '0.weight']) state.set(key, tensor([8, 9]));
    const seen = (): unknown => [
      String(net),
      ...net.parameters().slice(0, 2).map((p) => numbers(p)), // prettier-ignore
      numbers((net.at(4) as LayerNorm).weight),
      (net.at(0) as BatchNorm1d).numBatchesTracked,
      ...foreign.map((part) => [part.seen, numbers(part.values)]),
    ];
    return { net, state, foreign, lazy, seen };
  };

  it('a whole load reaches every kind of part', () => {
    const { net, state, seen } = make();
    net.loadStateDict(state);
    expect(seen()).toEqual([
      expect.stringContaining('(2): BatchNorm1d(4, '),
      [8, 9],
      [0, 0],
      Array(6).fill(1),
      9,
      [9, [8, 9]],
      [9, [8, 9]],
    ]);
  });

  it.each<[string, (state: Map<string, Tensor>) => unknown]>([
    ['a missing key', (state) => state.delete('4.bias')],
    ['an unexpected key', (state) => state.set('4.more', ones(1))],
    ['an unexpected key of a foreign part', (state) => state.set('3.more', ones(1))],
    ['a wrong size at the end', (state) => state.set('4.bias', ones(3, 2))],
    ['a wrong size in a foreign part', (state) => state.set('3.values', ones(3))],
    ['a wrong size in a lazy layer', (state) => state.set('2.running_var', ones(3))],
    ['no vector in a lazy layer', (state) => state.set('2.weight', ones(1, 4))],
    ['a fraction as a count', (state) => state.set('2.num_batches_tracked', tensor([0.5], []))],
    ['no tensor', (state) => state.set('4.bias', 'x' as never)],
    [
      'a getter that takes the memory of a layer away',
      (state) => state.set('4.bias', { data: new Float32Array(1), get shape(): number[] { throw new Error('gone'); } } as never), // prettier-ignore
    ],
  ])('%s changes nothing', (_, spoil) => {
    const { net, state, lazy, seen } = make();
    const before = seen();
    spoil(state);
    messageOf(() => net.loadStateDict(state));
    expect(seen()).toEqual(before);
    expect(lazy).toBeInstanceOf(LazyBatchNorm1d);
    expect(() => lazy.weight!.shape).toThrow(/uninitialized/);
  });

  it('a foreign part that refuses undoes the others', () => {
    const { net, state, foreign, seen } = make();
    foreign[1].refuses = true;
    const before = seen();
    expect(() => net.loadStateDict(state)).toThrow('not today');
    expect(seen()).toEqual(before);
  });

  it('a getter that detaches what is to be loaded into is found in time', () => {
    const ln = new LayerNorm(2);
    const state = {
      weight: [5, 6],
      get bias() {
        structuredClone(0, { transfer: [ln.bias!.data.buffer as ArrayBuffer] });
        return ones(2);
      },
    };
    expect(messageOf(() => ln.loadStateDict(state))).toMatch(/"bias", an exception occurred : .*detached/);
    expect(numbers(ln.weight)).toEqual([1, 1]);
  });
});

describe('what is no layer of ours', () => {
  it('takes part by its parameters, if it has nothing else', () => {
    const [a, b] = [new Parameter(new Float32Array(1), [1]), new Parameter(new Float32Array(2), [2])];
    const pass = { forward: (x: Tensor) => x, backward: (dy: Tensor) => dy };
    const net = new Sequential(
      { ...pass, parameters: () => [a] },
      { ...pass, namedParameters: () => [['deep.b', b]] },
      pass,
    );
    expect([...net.stateDict().keys()]).toEqual(['0.0', '1.deep.b']);
    net.loadStateDict({ '0.0': [5], '1.deep.b': [6, 7] });
    expect([numbers(a), numbers(b)]).toEqual([[5], [6, 7]]);
    expect(messageOf(() => net.loadStateDict({ '0.0': [5], '1.b': [1], '2.x': [1] }))).toBe(
      'Error(s) in loading state_dict for Sequential:\n\tMissing key(s) in state_dict: "1.deep.b". \n' +
        '\tUnexpected key(s) in state_dict: "1.b", "2.x". ',
    );
  });

  it('a Module names what it keeps beside its parameters in ownState', () => {
    class Embedding extends Module {
      ids = new Tensor(new BigInt64Array(2), [2]);
      mask = new Tensor(new Uint8Array(2), [2]);
      weight = new Parameter(new Float32Array(1), [1]);
      protected override ownState(): StateEntry[] {
        return [...super.ownState(), ['ids', this.ids], ['mask', this.mask]];
      }
      override forward = (): never => {
        throw new Error('not to be run');
      };
      override backward = this.forward;
    }
    const part = new Embedding();
    expect([...part.stateDict().keys()]).toEqual(['weight', 'ids', 'mask']);
    const ids = tensor(BigInt64Array.of(2n ** 60n, -1n), [2]);
    part.loadStateDict({ weight: [1], ids, mask: [1, 0] });
    expect([part.ids.toArray(), part.mask.toArray()]).toEqual([
      [2n ** 60n, -1n],
      [1, 0],
    ]);
    part.loadStateDict({ weight: [1], ids: [3, -4.5], mask: [1, 0] });
    expect(part.ids.toArray()).toEqual([3n, -4n]);
    expect(messageOf(() => part.loadStateDict({ weight: [1], ids: [3, NaN], mask: [1, 0] }))).toMatch(/"ids", an exc/);
  });
});
