// What two fresh readers found that the other tests did not ask: outputs over what a call still needs, and state that
// changes between forward and backward.

import { BatchNorm1d, LayerNorm, LazyBatchNorm1d, recalibrate, Sequential, tensor, Tensor } from '../../lib';
import { values } from '../support/shapes';

const data = (t: Tensor | null | undefined): Float64Array => t!.data as Float64Array;
const random = (...shape: number[]): Tensor => {
  const size = shape.reduce((p, n) => p * n, 1);
  return new Tensor(values(size, 'float64'), shape);
};

describe.each([false, true])('gradAdd, relu %s', (relu) => {
  const make = (): { layer: BatchNorm1d; x: Tensor; add: Tensor; dy: Tensor } => {
    const layer = new BatchNorm1d(3, { dtype: 'float64', relu });
    const [x, add, dy] = [random(5, 3, 4), random(5, 3, 4), random(5, 3, 4)];
    layer.forward(x, { add });
    return { layer, x, add, dy };
  };

  it('over the input, the output or half of dy is refused, and nothing is written', () => {
    const { layer, x, dy } = make();
    const before = data(x).slice();
    const both = new Float64Array(60);
    const shifted = new Float64Array(61);
    shifted.set(data(dy));
    expect(() => layer.backward(dy, { gradAdd: x })).toThrow(/overlaps/);
    expect(() => layer.backward(dy, { gradAdd: both, out: both })).toThrow(/overlaps/);
    const lying = new Tensor(shifted.subarray(0, 60), dy.shape);
    expect(() => layer.backward(lying, { gradAdd: shifted.subarray(1) })).toThrow(/overlaps/);
    expect(data(x)).toEqual(before);
    expect([...both].every((v) => v === 0)).toBe(true);
    layer.backward(dy);
  });

  it('over dy, with dx over dy too where the gradient has an array of its own', () => {
    const { layer, x, add, dy } = make();
    const gradAdd = new Float64Array(60);
    const dx = data(layer.backward(dy, { gradAdd })).slice();
    layer.forward(x, { add });
    const own = new Float64Array(60);
    const over = new Tensor(data(dy).slice(), dy.shape);
    expect(data(layer.backward(over, { gradAdd: own, out: over }))).toEqual(dx);
    expect(own).toEqual(gradAdd);
  });

  it('in a padded batch: not over the output, nor outputs over parameters', () => {
    const { layer, x, add, dy } = make();
    const lengths = [4, 1, 2, 3, 4];
    layer.forward(x, { add, lengths });
    const both = new Float64Array(60);
    expect(() => layer.backward(dy, { gradAdd: both, out: both })).toThrow(/overlaps/);
    layer.backward(dy);
    const memory = new Float64Array(60);
    layer.weight!.grad = new Tensor(memory.subarray(0, 3), [3]);
    layer.forward(x, { lengths });
    expect(() => layer.backward(dy, { out: memory })).toThrow(/overlaps/);
    layer.backward(dy);
  });

  it('without an add is refused', () => {
    const { layer, x, dy } = make();
    layer.forward(x);
    expect(() => layer.backward(dy, { gradAdd: new Float64Array(60) })).toThrow(
      new RangeError('BatchNorm1d.backward: gradAdd goes with a forward that was given add'),
    );
    layer.backward(dy);
  });
});

it('an output over the shortcut needs noGrad behind a ReLU only', () => {
  const [x, add] = [random(4, 5), random(4, 5)];
  const plain = new LayerNorm(5, { dtype: 'float64' });
  const expected = data(plain.forward(x, { add })).slice();
  expect(data(plain.forward(x, { add, out: add }))).toEqual(expected);
  const dx = data(plain.backward(x)).slice();
  plain.forward(x);
  expect(data(plain.backward(x))).toEqual(dx);
});

it("a ReLU's gate is that of the forward, whatever happens to the weight before backward", () => {
  const layer = new LayerNorm(6, { dtype: 'float64', relu: true });
  data(layer.weight).set([1, -2, 0.5, 3, -1, 2]);
  const x = random(4, 6);
  const dy = tensor(new Float64Array(24).fill(1), [4, 6]);
  const y = data(layer.forward(x)).slice();
  data(layer.weight).forEach((v, i) => (data(layer.weight)[i] = -v));
  layer.backward(dy);
  const open = Array.from({ length: 6 }, (_, j) => [0, 1, 2, 3].filter((i) => y[6 * i + j]! > 0).length);
  expect([...data(layer.bias!.grad)]).toEqual(open);
});

it('evaluation by extreme running statistics does not depend on the memory order', () => {
  const make = (): BatchNorm1d => {
    const bn = new BatchNorm1d(2).eval() as BatchNorm1d;
    (bn.runningMean!.data as Float32Array).set([2e31, 0]);
    (bn.runningVar!.data as Float32Array).set([3e38, 1]);
    (bn.weight!.data as Float32Array).fill(1e-30);
    return bn;
  };
  const x = tensor(new Float32Array(12).fill(1), [2, 2, 3]);
  const dy = tensor(new Float32Array(12).fill(1e30), [2, 2, 3]);
  const lie = (t: Tensor): Tensor => new Tensor(t.permute(0, 2, 1).copy().data, [2, 3, 2]).permute(0, 2, 1);
  const [first, last] = [make(), make()];
  first.forward(x);
  last.forward(lie(x));
  const dx = data(first.backward(dy));
  expect(dx[0]).toBeGreaterThan(0);
  expect(data(last.backward(lie(dy)).contiguous())).toEqual(dx);
});

describe('state', () => {
  it('a lazy layer that a getter has initialized meanwhile stays initialized', () => {
    const lazy = new LazyBatchNorm1d();
    const x = tensor([
      [1, 2],
      [3, 5],
    ]);
    const options = {
      get out(): never {
        lazy.forward(x);
        throw new Error('a getter');
      },
    };
    expect(() => lazy.forward(x, options)).toThrow('a getter');
    expect(lazy.numFeatures).toBe(2);
    lazy.forward(x);
  });

  it('evaluation with one of two running statistics is refused in the words of torch', () => {
    const bn = new BatchNorm1d(2).eval() as BatchNorm1d;
    Object.assign(bn, { runningMean: null });
    expect(() => bn.forward(tensor([[1, 2]]))).toThrow(/running_mean must be defined in evaluation mode/);
  });

  it('a field of a wrong kind is named', () => {
    const layer = new LayerNorm(2);
    const x = tensor([[1, 2]]);
    layer.forward(x);
    layer.weight!.grad = 'x' as never;
    expect(() => layer.backward(x)).toThrow(
      'LayerNorm.backward: weight.grad must be a Tensor or null, but got the string "x"',
    );
    Object.assign(layer, { weight: [1, 2] });
    expect(() => layer.forward(x)).toThrow('LayerNorm.forward: weight must be a Tensor, but got an array');
  });

  it('Sequential takes no options', () => {
    const net = new Sequential(new BatchNorm1d(2));
    expect(() =>
      net.forward(
        tensor([
          [1, 2],
          [3, 4],
        ]),
        { out: 1 } as never,
      ),
    ).toThrow(/options are of single layers/);
  });

  it('lengths are numbers', () => {
    const bn = new BatchNorm1d(1);
    expect(() => bn.forward([[[1, 2]], [[3, 4]]], { lengths: [true, '2'] as never })).toThrow(
      /lengths\[0\] must be an integer from 0 to 2, but got true/,
    );
  });

  it('recalibrate: a run that returns a promise, and two at once', async () => {
    const bn = new BatchNorm1d(1);
    const batch = [[1], [3]];
    expect(() => recalibrate(bn, [batch], { run: () => Promise.resolve() })).toThrow(/promise/);
    async function* slowly(): AsyncGenerator<number[][]> {
      await Promise.resolve();
      yield batch;
    }
    const first = recalibrate(bn, slowly());
    await expect(recalibrate(bn, slowly())).rejects.toThrow(/another recalibrate of BatchNorm1d/);
    await first;
    expect(data(bn.runningMean)[0]).toBe(2);
    bn.forward(batch);
    expect(bn.numBatchesTracked).toBe(2);
  });
});
