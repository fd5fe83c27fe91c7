// LayerNorm and RMSNorm of channels-last memory, computed as it lies; LayerNorm over an axis.

import { LayerNorm, RMSNorm, tensor, Tensor } from '../../lib';
import { onEveryIsa } from '../support/isa';
import { reference } from '../support/reference';
import { values } from '../support/shapes';
import { expectClose, tolerances, type Dtype } from '../support/tolerance';

const data = (t: Tensor | null | undefined): Float64Array => t!.data as Float64Array;
const product = (sizes: readonly number[]): number => sizes.reduce((p, n) => p * n, 1);

const shapes = [
  [3, 5, 4, 6],
  [2, 17, 5, 3],
  [2, 3, 4, 5, 6],
  [4, 18, 7],
];
const cases = shapes.flatMap((shape) => shape.map((_, i) => [shape, i + 1] as const));

onEveryIsa('channels-last memory', () => {
  describe.each<Dtype>(['float32', 'float64'])('%s', (dtype) => {
    describe.each([
      ['LayerNorm', LayerNorm],
      ['RMSNorm', RMSNorm],
    ] as const)('%s', (name, Class) => {
      it.each(cases)('shape %j, the last %i dimensions', (shape, dims) => {
        const tail = shape.slice(shape.length - dims);
        const [n, c, ...spatial] = shape as [number, number, ...number[]];
        const lie = (t: Tensor): Tensor => {
          const order = shape.map((_, i) => i);
          const last = t.permute(0, ...order.slice(2), 1).contiguous();
          return new Tensor(last.data, [n, ...spatial, c]).permute(0, shape.length - 1, ...order.slice(1, -1));
        };
        const x = new Tensor(values(product(shape), dtype, 3, 2), shape);
        const dy = new Tensor(values(product(shape), dtype, 0, 1), shape);
        const layer = new Class(tail, { dtype });
        data(layer.weight).set(values(product(tail), dtype, 1, 0.5));
        if (layer.bias) data(layer.bias).set(values(product(tail), dtype, 0, 0.5));
        const d = product(tail);
        const question = {
          geometry: [x.size / d, 1, 1, d, 1, d] as const,
          x: data(x),
          weight: data(layer.weight),
          bias: layer.bias && data(layer.bias),
          eps: name === 'LayerNorm' ? 1e-5 : dtype === 'float32' ? 2 ** -23 : 2 ** -52,
          about: name === 'LayerNorm' ? ('mean' as const) : ('zero' as const),
        };
        const answer = reference(question, data(dy));
        const allowed = tolerances(question, answer, data(dy), dtype);
        const context = layer.context();
        const given = lie(x);
        const y = layer.forward(given, { context });
        // As it lies: the same memory order out, and the input itself kept, not a copy.
        expect(y.strides).toEqual(given.strides);
        expect((context.saved as { x: Tensor }).x).toBe(given);
        expectClose('y', data(y.contiguous()), answer.y, allowed.y, dtype);
        const dx = layer.backward(lie(dy), { context });
        expect(dx.strides).toEqual(given.strides);
        expectClose('dx', data(dx.contiguous()), answer.dx, allowed.dx, dtype);
        expectClose('dweight', data(layer.weight!.grad), answer.dweight, allowed.dweight, dtype);
        if (layer.bias) expectClose('dbias', data(layer.bias.grad), answer.dbias, allowed.dbias, dtype);
        // Gradients add up in the weight's own order.
        const once = data(layer.weight!.grad).slice();
        layer.forward(given);
        layer.backward(lie(dy));
        expect(data(layer.weight!.grad)).toEqual(once.map((v) => v + v));
      });
    });
  });

  it('over an axis gives what a permutation gives', () => {
    const x = new Tensor(values(2 * 6 * 5 * 7, 'float64'), [2, 6, 5, 7]);
    const over = new LayerNorm(6, { axis: 1, dtype: 'float64' }).forward(x);
    const moved = new LayerNorm(6, { dtype: 'float64' }).forward(x.permute(0, 2, 3, 1).contiguous());
    const back = data(moved.permute(0, 3, 1, 2).contiguous());
    data(over).forEach((v, i) => expect(Math.abs(v - back[i]!)).toBeLessThan(1e-14));
    const negative = new LayerNorm(6, { axis: -3, dtype: 'float64' }).forward(x);
    expect(data(negative)).toEqual(data(over));
  });
});

describe('an axis', () => {
  it('is an integer, with one size, and of the input', () => {
    expect(() => new LayerNorm(3, { axis: 0.5 })).toThrow(RangeError);
    expect(() => new LayerNorm(3, { axis: '1' as never })).toThrow(TypeError);
    expect(() => new LayerNorm([3, 4], { axis: 1 })).toThrow(
      'LayerNorm: axis goes with a normalizedShape of one size, but got 2 sizes',
    );
    const layer = new LayerNorm(3, { axis: 1 });
    expect(() => layer.forward(tensor([[1, 2]]))).toThrow(
      'LayerNorm.forward: Given normalized_shape=[3] and axis=1, expected input with 3 elements in that dimension, but ' +
        'got input of size[1, 2]',
    );
    expect(() => layer.forward(tensor([1, 2, 3]))).toThrow(RangeError);
    expect(() =>
      new LayerNorm(2, { axis: 2 }).forward(new Tensor(new Float32Array(24), [2, 3, 2, 2]), { lengths: [1, 1] }),
    ).toThrow(/mask and lengths go with axis 1/);
  });
  it('takes lengths: the padding is 0 and leaves no trace in the gradients', () => {
    const layer = new LayerNorm(3, { axis: 1 });
    const x = new Tensor(values(2 * 3 * 4, 'float32'), [2, 3, 4]);
    const y = layer.forward(x, { lengths: [4, 2] });
    const whole = new LayerNorm(3, { axis: 1 }).forward(x);
    const valid = (i: number): boolean => i % 4 < (i < 12 ? 4 : 2);
    data(y).forEach((v, i) => expect(v).toBe(valid(i) ? data(whole)[i] : 0));
    layer.backward(new Tensor(new Float32Array(24).fill(1), [2, 3, 4]));
    expect([...data(layer.bias!.grad)]).toEqual([6, 6, 6]);
  });
});
