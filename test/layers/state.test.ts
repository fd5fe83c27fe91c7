// Constructors, defaults, modes, running statistics, contexts, gradients that add up: the layers as objects.

import * as simdnorm from '../../lib';
import {
  BatchNorm1d,
  BatchNorm2d,
  BatchNorm3d,
  GroupNorm,
  InstanceNorm1d,
  InstanceNorm2d,
  isGradEnabled,
  LayerNorm,
  Module,
  noGrad,
  Parameter,
  RMSNorm,
  Sequential,
  Tensor,
  tensor,
} from '../../lib';
import { forms, prepare, values, type AnyLayer } from '../support/shapes';
import { expectSameBits } from '../support/tolerance';

const data = (t: Tensor | null | undefined): Float32Array => t!.data as Float32Array;

describe('String(layer) is as torch prints it', () => {
  it.each([
    [new BatchNorm1d(3), 'BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)'],
    [
      new BatchNorm2d(64, { eps: 0.001, momentum: null, affine: false }),
      'BatchNorm2d(64, eps=0.001, momentum=None, affine=False, bias=False, track_running_stats=True)',
    ],
    [
      new BatchNorm3d(1, { momentum: 1, trackRunningStats: false, bias: false }),
      'BatchNorm3d(1, eps=1e-05, momentum=1.0, affine=True, bias=False, track_running_stats=False)',
    ],
    [
      new InstanceNorm1d(3),
      'InstanceNorm1d(3, eps=1e-05, momentum=0.1, affine=False, bias=False, track_running_stats=False)',
    ],
    [new GroupNorm(2, 6), 'GroupNorm(2, 6, eps=1e-05, affine=True, bias=True)'],
    [new LayerNorm([5, 6], { eps: 1e-6 }), 'LayerNorm((5, 6), eps=1e-06, elementwise_affine=True, bias=True)'],
    [
      new LayerNorm(5, { elementwiseAffine: false }),
      'LayerNorm((5,), eps=1e-05, elementwise_affine=False, bias=False)',
    ],
    [new RMSNorm(5), 'RMSNorm((5,), eps=None, elementwise_affine=True)'],
    [new RMSNorm(5, { eps: 1.5e-12 }), 'RMSNorm((5,), eps=1.5e-12, elementwise_affine=True)'],
    [
      new Sequential(new GroupNorm(1, 2), new Sequential(new RMSNorm(2))),
      'Sequential(\n  (0): GroupNorm(1, 2, eps=1e-05, affine=True, bias=True)\n  (1): Sequential(\n' +
        '    (0): RMSNorm((2,), eps=None, elementwise_affine=True)\n  )\n)',
    ],
  ])('%#', (layer, text) => expect(String(layer)).toBe(text));
});

describe('defaults', () => {
  it('BatchNorm starts with weight 1, bias 0, running mean 0, running variance 1 and no batches', () => {
    const bn = new BatchNorm2d(3);
    expect([...data(bn.weight)]).toEqual([1, 1, 1]);
    expect([...data(bn.bias)]).toEqual([0, 0, 0]);
    expect([...data(bn.runningMean)]).toEqual([0, 0, 0]);
    expect([...data(bn.runningVar)]).toEqual([1, 1, 1]);
    expect(bn.numBatchesTracked).toBe(0);
    expect(bn.training).toBe(true);
    expect(bn.weight).toBeInstanceOf(Parameter);
  });
  it('InstanceNorm starts without parameters and statistics', () => {
    const layer = new InstanceNorm2d(3);
    expect([layer.weight, layer.bias, layer.runningMean, layer.runningVar, layer.numBatchesTracked]).toEqual(
      Array(5).fill(null),
    );
  });
  it('reset brings the start back', () => {
    const bn = new BatchNorm1d(2);
    bn.forward([
      [1, 2],
      [3, 4],
    ]);
    data(bn.weight).fill(7);
    bn.resetRunningStats();
    expect([...data(bn.runningMean), ...data(bn.runningVar), bn.numBatchesTracked, data(bn.weight)[0]]).toEqual([
      0, 0, 1, 1, 0, 7,
    ]);
    bn.resetParameters();
    expect(data(bn.weight)[0]).toBe(1);
  });
});

describe('running statistics', () => {
  const x = tensor([
    [1, 10],
    [2, 20],
    [6, 60],
  ]);
  it('take the unbiased variance, a tenth at a time', () => {
    const bn = new BatchNorm1d(2);
    bn.forward(x);
    expect(data(bn.runningMean)[0]).toBeCloseTo(0.3, 6);
    expect(data(bn.runningVar)[0]).toBeCloseTo(0.9 + 0.7, 6);
    expect(bn.numBatchesTracked).toBe(1);
  });
  it('momentum null averages all batches alike', () => {
    const bn = new BatchNorm1d(1, { momentum: null });
    for (const shift of [0, 3, 9]) bn.forward([[shift], [shift + 2]]);
    expect(data(bn.runningMean)[0]).toBeCloseTo((1 + 4 + 10) / 3, 5);
    expect(data(bn.runningVar)[0]).toBeCloseTo(2, 5);
  });
  it('momentum 0 counts but leaves them; a batch inside noGrad moves them all the same', () => {
    const bn = new BatchNorm1d(2, { momentum: 0 });
    bn.forward(x);
    expect([bn.numBatchesTracked, data(bn.runningMean)[0]]).toEqual([1, 0]);
    const other = new BatchNorm1d(2);
    noGrad(() => other.forward(x));
    expect(other.numBatchesTracked).toBe(1);
  });
  it('stay as they are in eval and while frozen, and eval uses them', () => {
    const bn = new BatchNorm1d(2);
    bn.forward(x);
    const mean = data(bn.runningMean).slice();
    bn.eval().forward(x);
    bn.train().freeze().train().forward(x);
    expect(data(bn.runningMean)).toEqual(mean);
    expect([bn.numBatchesTracked, bn.training, bn.frozen]).toEqual([1, false, true]);
    bn.freeze(false);
    expect(bn.training).toBe(true);
  });
  it('trackRunningStats false: batch statistics in eval too', () => {
    const bn = new BatchNorm1d(2, { trackRunningStats: false });
    const y = bn.forward(x).toArray();
    expect(bn.eval().forward(x).toArray()).toEqual(y);
    expect(bn.numBatchesTracked).toBeNull();
  });
  it('InstanceNorm averages over its samples and never counts', () => {
    const layer = new InstanceNorm1d(1, { trackRunningStats: true, momentum: 1 });
    layer.forward([[[0, 2]], [[10, 16]]]);
    expect([...data(layer.runningMean), ...data(layer.runningVar), layer.numBatchesTracked]).toEqual([7, 10, 0]);
    const still = new InstanceNorm1d(1, { trackRunningStats: true, momentum: null });
    still.forward([[[0, 2]], [[10, 16]]]);
    expect(data(still.runningMean)[0]).toBe(0);
  });
});

describe('evaluation by running statistics', () => {
  it('eps 0 and running variance 0 divide by zero, as in torch', () => {
    const bn = new BatchNorm1d(2, { eps: 0 }).eval();
    data(bn.runningVar).fill(0);
    expect(bn.forward([[3, -5]]).toArray()).toEqual([Infinity, -Infinity]);
  });
  it('a running mean at the end of the range does not overflow', () => {
    const bn = new BatchNorm1d(1).eval();
    data(bn.runningMean).fill(-3e38);
    data(bn.runningVar).fill(3e38);
    expect((bn.forward([[3e38]]).toArray()[0] as number) / (6e38 / Math.sqrt(3e38))).toBeCloseTo(1, 6);
  });
});

describe('empty batches', () => {
  it('leave the statistics alone, count for BatchNorm, and give empty outputs and zero gradients', () => {
    const bn = new BatchNorm1d(2);
    const y = bn.forward(new Tensor(new Float32Array(0), [0, 2]));
    expect([y.shape, bn.numBatchesTracked, [...data(bn.runningMean)]]).toEqual([[0, 2], 1, [0, 0]]);
    expect(bn.backward(new Tensor(new Float32Array(0), [0, 2])).shape).toEqual([0, 2]);
    expect([...data(bn.weight!.grad)]).toEqual([0, 0]);
    const layer = new InstanceNorm1d(2, { trackRunningStats: true });
    layer.forward(new Tensor(new Float32Array(0), [0, 2, 5]));
    expect([...data(layer.runningMean)]).toEqual([0, 0]);
    expect(new LayerNorm(0).forward(new Tensor(new Float32Array(0), [3, 0])).shape).toEqual([3, 0]);
  });
});

describe('backward', () => {
  it.each(forms.filter((_, i) => i % 9 === 0).map((form) => [form.name, form] as const))(
    '%s: a layer used twice goes back through each use by its context, and gradients add up',
    (_, form) => {
      const { layer, x, dy } = prepare(form, 'float32');
      const other = prepare(form, 'float32');
      const alone = (input: Tensor, g: Tensor): Float32Array[] => {
        layer.zeroGrad().forward(input);
        return [data(layer.backward(g)), ...layer.parameters().map((p) => data(p.grad))];
      };
      const [first, second] = [alone(x, dy), alone(other.x, other.dy)];
      layer.zeroGrad();
      const [a, b] = [layer.context(), layer.context()];
      layer.forward(x, { context: a });
      layer.forward(other.x, { context: b });
      expectSameBits('dx of the second', data(layer.backward(other.dy, { context: b })), second[0]!);
      expectSameBits('dx of the first', data(layer.backward(dy, { context: a })), first[0]!);
      layer.parameters().forEach((p, i) => {
        const sum = first[i + 1]!.map((v, k) => v + second[i + 1]![k]!);
        data(p.grad).forEach((v, k) =>
          expect(Math.abs(v - sum[k]!)).toBeLessThanOrEqual(1e-4 * (1 + Math.abs(sum[k]!))),
        );
      });
    },
  );

  it('micro-batches of LayerNorm add up to the gradient of the whole batch', () => {
    const layer = new LayerNorm(33);
    const [x, dy] = [values(10 * 33, 'float32'), values(10 * 33, 'float32')];
    layer.forward(new Tensor(x, [10, 33]));
    layer.backward(new Tensor(dy, [10, 33]));
    const whole = data(layer.weight!.grad);
    layer.zeroGrad();
    for (let i = 0; i < 10; i += 5) {
      layer.forward(new Tensor(x.slice(i * 33, (i + 5) * 33), [5, 33]));
      layer.backward(new Tensor(dy.slice(i * 33, (i + 5) * 33), [5, 33]));
    }
    data(layer.weight!.grad).forEach((v, i) => expect(v).toBeCloseTo(whole[i]!, 4));
  });

  it('zeroGrad forgets, requiresGrad and freeze leave grad alone, dx is the same', () => {
    const bn = new BatchNorm1d(2);
    const [x, dy] = [
      tensor([
        [1, 2],
        [3, 5],
      ]),
      tensor([
        [1, -2],
        [0.5, 3],
      ]),
    ];
    bn.forward(x);
    const dx = bn.backward(dy).toArray();
    expect(bn.weight!.grad).not.toBeNull();
    bn.zeroGrad();
    expect(bn.weight!.grad).toBeNull();
    bn.weight!.requiresGrad = false;
    bn.forward(x);
    expect(bn.backward(dy).toArray()).toEqual(dx);
    expect([bn.weight!.grad === null, bn.bias!.grad === null]).toEqual([true, false]);
    const frozen = new BatchNorm1d(2).freeze();
    frozen.forward(x);
    frozen.backward(dy);
    expect(frozen.bias!.grad).toBeNull();
  });

  it("saveInput: 'copy' lets the input be overwritten before backward, in place too", () => {
    for (const form of forms.filter((_, i) => i % 7 === 0)) {
      const { layer, x, dy } = prepare(form, 'float32');
      layer.forward(x);
      const dx = data(layer.backward(dy));
      layer.forward(x, { saveInput: 'copy', out: x });
      expectSameBits(form.name, data(layer.backward(dy)), dx);
    }
  });

  it('a forward inside noGrad keeps nothing and leaves what was kept', () => {
    const ln = new LayerNorm(2);
    const [x, dy] = [tensor([[1, 4]]), tensor([[1, 2]])];
    ln.forward(x);
    const dx = ln.backward(dy).toArray();
    ln.forward(x);
    noGrad(() => ln.forward([[5, -7]]));
    expect(ln.backward(dy).toArray()).toEqual(dx);
  });

  it('eval alone does not stop gradients, noGrad does', () => {
    const bn = new BatchNorm1d(2).eval();
    const x = tensor([
      [1, 2],
      [3, 5],
    ]);
    bn.forward(x);
    expect(bn.backward(x).shape).toEqual([2, 2]);
    noGrad(() => bn.forward(x));
    expect(() => bn.backward(x)).toThrow(/no forward to go back through/);
  });
});

describe('noGrad', () => {
  it('nests, returns what its function returns, and ends with an error thrown in it', () => {
    expect(isGradEnabled()).toBe(true);
    expect(noGrad(() => noGrad(() => isGradEnabled()))).toBe(false);
    expect(() =>
      noGrad(() => {
        throw new Error('inside');
      }),
    ).toThrow('inside');
    expect(isGradEnabled()).toBe(true);
  });
  it('refuses a function that returns a promise, a rejected one too', () => {
    expect(() => noGrad(async () => 1)).toThrow(TypeError);
    expect(() => noGrad(() => Promise.reject(new Error('unseen')))).toThrow(TypeError);
    expect(() => noGrad(3 as never)).toThrow(TypeError);
    expect(isGradEnabled()).toBe(true);
  });
});

describe('inputs and outputs', () => {
  const plain = new Float32Array([1, 2, 3, 4, 5, 7]);
  const expected = new LayerNorm(3).forward(new Tensor(plain, [2, 3])).toArray();
  it.each([
    ['{data, shape}', { data: plain, shape: [2, 3] }],
    ['{data, dims} of onnxruntime', { data: plain, dims: [2, 3], type: 'float32' }],
    [
      '{data, shape, stride, offset} of ndarray',
      { data: new Float32Array([9, 1, 4, 2, 5, 3, 7]), shape: [2, 3], stride: [1, 2], offset: 1 },
    ],
    [
      'nested arrays',
      [
        [1, 2, 3],
        [4, 5, 7],
      ],
    ],
    ['a tensor with strides', new Tensor(new Float32Array([1, 4, 2, 5, 3, 7]), [3, 2]).permute(1, 0)],
  ])('%s', (_, input) => expect(new LayerNorm(3).forward(input as never).toArray()).toEqual(expected));

  it('out may be a typed array or a tensor, is what comes back, and may be the input inside noGrad', () => {
    const layer = new LayerNorm(3);
    const out = new Float32Array(6);
    expect(layer.forward({ data: plain, shape: [2, 3] }, { out }).data).toBe(out);
    const into = new Tensor(new Float32Array(8), [2, 3], { offset: 1 });
    expect(layer.forward({ data: plain, shape: [2, 3] }, { out: into })).toBe(into);
    expect(into.toArray()).toEqual(expected);
    const x = new Tensor(plain.slice(), [2, 3]);
    noGrad(() => layer.forward(x, { out: x }));
    expect(x.toArray()).toEqual(expected);
  });

  it('the output keeps the layout of a channels-last input, and toArray gives logical order', () => {
    const nhwc = tensor(values(2 * 3 * 4 * 5, 'float32'), [2, 3, 4, 5]);
    const x = nhwc.permute(0, 3, 1, 2);
    const y = new BatchNorm2d(5).forward(x);
    expect([y.shape, y.isContiguous, y.isChannelsLast]).toEqual([[2, 5, 3, 4], false, true]);
    const first = new BatchNorm2d(5).forward(x.contiguous());
    expect(first.isContiguous).toBe(true);
    (y.toArray() as number[]).forEach((v, i) => expect(v).toBeCloseTo(first.toArray()[i] as number, 5));
  });

  it('float64 layers compute in float64', () => {
    const y = new LayerNorm(3, { dtype: 'float64' }).forward([1, 2, 4]);
    expect([y.dtype, y.toArray()[0]]).toEqual(['float64', (1 - 7 / 3) / Math.sqrt(14 / 9 + 1e-5)]);
  });
});

describe('Module and Sequential', () => {
  class Double extends Module {
    factor = new Parameter(new Float32Array([2]), [1]);
    override forward(x: Tensor): Tensor {
      return new Tensor(
        data(x).map((v) => v * 2),
        x.shape,
      );
    }
    override backward(dy: Tensor): Tensor {
      return this.forward(dy);
    }
  }
  it('runs its parts forward and backward in reverse, with dotted names, each parameter once', () => {
    const shared = new LayerNorm(3);
    const net = new Sequential(shared, new Double(), new Sequential(shared, new BatchNorm1d(3)));
    expect(net.namedParameters().map(([name]) => name)).toEqual([
      '0.weight',
      '0.bias',
      '1.factor',
      '2.1.weight',
      '2.1.bias',
    ]);
    expect(net.parameters()).toHaveLength(5);
    net.eval();
    expect([shared.training, net.training]).toEqual([false, false]);
    net.train().freeze();
    expect(shared.frozen).toBe(true);
    expect([net.length, [...net].length, net.at(-1)]).toEqual([3, 3, net.at(2)]);
  });
  it('gives the gradient of the chain', () => {
    const [ln, double] = [new LayerNorm(4), new Double()];
    const net = new Sequential(ln, double);
    const [x, dy] = [tensor([[1, 2, 4, 8]]), tensor([[1, 0, -1, 3]])];
    expect(net.forward(x).toArray()).toEqual(double.forward(ln.forward(x)).toArray());
    ln.zeroGrad();
    const dx = net.backward(dy).toArray();
    ln.forward(x);
    expect(dx).toEqual(ln.backward(double.backward(dy)).toArray());
    net.zeroGrad();
    expect(net.parameters().every((p) => p.grad === null)).toBe(true);
  });
  it('gives its parts tensors, whatever it was given', () => {
    const seen: unknown[] = [];
    const spy = { forward: (x: Tensor) => (seen.push(x), x), backward: (dy: Tensor) => (seen.push(dy), dy) };
    const net = new Sequential(spy, new LayerNorm(2, { dtype: 'float64' }), spy);
    net.forward([[1, 2]]);
    net.backward({ data: new Float64Array(2), dims: [1, 2] });
    expect(seen.every((x) => x instanceof Tensor && x.dtype === 'float64')).toBe(true);
    expect(() => net.forward('x' as never)).toThrow(/Sequential.forward: input must be a tensor/);
  });
  it('takes anything with forward and backward, and nothing else', () => {
    const identity = { forward: (x: Tensor) => x, backward: (dy: Tensor) => dy };
    const net = new Sequential(identity, new LayerNorm(2));
    net.train().eval().zeroGrad().freeze(false);
    expect(net.forward(tensor([[1, 2]])).shape).toEqual([1, 2]);
    for (const part of [null, undefined, {}, { forward: () => 1 }, 5]) {
      expect(() => new Sequential(part as never)).toThrow(TypeError);
    }
  });
});

it('exports the public names', () => {
  expect(Object.keys(simdnorm).sort()).toEqual(
    (
      'BatchNorm1d BatchNorm2d BatchNorm3d Context CrossMapLRN2d GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d LayerNorm ' +
      'LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d LazyInstanceNorm1d LazyInstanceNorm2d LazyInstanceNorm3d LocalResponseNorm Module ' +
      'OutputPool Parameter RMSNorm Sequential StateDict StateError SyncBatchNorm Tensor convertSyncBatchNorm getNumThreads ' +
      'isGradEnabled isa noGrad recalibrate setNumThreads tensor'
    ).split(' '),
  );
  const anyLayer: AnyLayer = new GroupNorm(1, 1) as unknown as AnyLayer;
  expect(anyLayer).toBeInstanceOf(Module);
});
