// A ReLU and a shortcut in the pass give, bit for bit, what they give in passes of their own, forward and backward.

import { BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, noGrad, Tensor } from '../../lib';
import { onEveryIsa } from '../support/isa';
import { asForm, forms, prepare, values, type AnyLayer, type Form } from '../support/shapes';
import { expectSameBits, type Dtype } from '../support/tolerance';

const data = (t: Tensor | null | undefined): Float64Array => t!.data as Float64Array;
const copy = (t: Tensor): Tensor => new Tensor(t.data.slice() as Float32Array, t.shape, { strides: t.strides });
const like = (t: Tensor, from: Float64Array): Tensor => new Tensor(from as never, t.shape, { strides: t.strides });

function twins(form: Form, dtype: Dtype): { plain: AnyLayer; fused: AnyLayer; x: Tensor; dy: Tensor; add: Tensor } {
  const { layer: plain, x, dy } = prepare(form, dtype);
  const fused = form.make(dtype, { relu: true });
  fused.parameters().forEach((p, i) => data(p).set(data(plain.parameters()[i])));
  const add = asForm(form, values(x.size, dtype, -0.2, 1));
  return { plain, fused, x, dy, add };
}
const relu = (y: Float64Array): Float64Array => y.map((v) => (v < 0 ? 0 : v));

const modes = [
  ['in training', true],
  ['in evaluation', false],
] as const;

onEveryIsa('fused', () => {
  describe.each<Dtype>(['float32', 'float64'])('%s', (dtype) => {
    describe.each(modes)('%s', (_, training) => {
      it.each(forms.map((form) => [form.name, form] as const))('%s', (_, form) => {
        for (const added of [false, true]) {
          const { plain, fused, x, dy, add } = twins(form, dtype);
          plain.train(training);
          fused.train(training);
          const unfused = data(plain.forward(x)).slice();
          if (added) unfused.forEach((v, i) => (unfused[i] = v + data(add)[i]!));
          const y = fused.forward(x, added ? { add } : {});
          expect(y.strides).toEqual(x.strides);
          expectSameBits('y', data(y), relu(unfused));

          const g = data(dy).map((v, i) => (unfused[i]! <= 0 ? 0 : v));
          const gradAdd = copy(x);
          const dx = fused.backward(dy, added ? { gradAdd } : {});
          expectSameBits('dx', data(dx), data(plain.backward(like(dy, g))));
          if (added) expectSameBits('gradAdd', data(gradAdd), g);
          fused.parameters().forEach((p, i) => {
            expectSameBits(`gradient ${i}`, data(p.grad), data(plain.parameters()[i]!.grad));
          });
          if (fused.runningMean) expectSameBits('running', data(fused.runningMean), data(plain.runningMean));
        }
      });
    });

    it('a shortcut without a ReLU', () => {
      for (const form of forms) {
        const { plain, x, dy, add } = twins(form, dtype);
        const sum = data(plain.forward(x)).map((v, i) => v + data(add)[i]!);
        const dx = data(plain.backward(dy));
        expectSameBits(form.name, data(plain.forward(x, { add })), sum);
        const gradAdd = copy(x);
        expectSameBits(form.name, data(plain.backward(dy, { gradAdd })), dx);
        expectSameBits(form.name, data(gradAdd), data(dy));
      }
    });

    it('in place: over the input, over the shortcut, the gradients over dy', () => {
      for (const form of forms) {
        const { fused, x, dy, add } = twins(form, dtype);
        const y = data(fused.forward(x, { add, updateStats: false }));
        const gradAdd = copy(x);
        const dx = data(fused.backward(dy, { gradAdd }));
        const again = (out: Tensor, over: 'x' | 'add'): Tensor =>
          noGrad(() =>
            fused.forward(over === 'x' ? out : x, { add: over === 'add' ? out : add, out, updateStats: false }),
          );
        expectSameBits(form.name, data(again(copy(x), 'x')), y);
        expectSameBits(form.name, data(again(copy(add), 'add')), y);
        fused.forward(x, { add, updateStats: false });
        const over = copy(dy);
        expectSameBits(form.name, data(fused.backward(over, { gradAdd: over })), dx);
        expectSameBits(form.name, data(over), data(gradAdd));
        fused.forward(x, { add, updateStats: false });
        const both = copy(dy);
        expectSameBits(form.name, data(fused.backward(both, { out: both })), dx);
      }
    });

    it.each([
      ['1e30', 1e30],
      ['1e-30', 1e-30],
    ])('with one channel of %s, which the ops go through in double', (_, size) => {
      for (const shape of [
        [6, 3, 20],
        [40, 3],
      ]) {
        const c = 3;
        const [plain, fused] = [new BatchNorm1d(c, { dtype }), new BatchNorm1d(c, { dtype, relu: true })];
        const x = new Tensor(
          values(
            shape.reduce((p, n) => p * n),
            dtype,
            0,
            1,
          ),
          shape,
        );
        const channel = (i: number): number => (shape.length === 3 ? Math.floor(i / 20) % 3 : i % 3);
        data(x).forEach((v, i) => channel(i) === 1 && (data(x)[i] = v * size));
        const dy = new Tensor(values(x.size, dtype), shape);
        const y = data(plain.forward(x));
        expectSameBits('y', data(fused.forward(x)), relu(y));
        const g = data(dy).map((v, i) => (y[i]! <= 0 ? 0 : v));
        expectSameBits('dx', data(fused.backward(dy)), data(plain.backward(like(dy, g))));
      }
    });

    it('NaN passes the ReLU, forward and backward', () => {
      const layer = new LayerNorm(5, { dtype, relu: true });
      const x = new Tensor(values(10, dtype), [2, 5]);
      data(x)[2] = NaN;
      const y = layer.forward(x, { add: new Tensor(values(10, dtype), [2, 5]) });
      expect([...data(y)].slice(0, 5).every(Number.isNaN)).toBe(true);
      const gradAdd = new Tensor(values(10, dtype), [2, 5]);
      layer.backward(new Tensor(data(x).map(() => 1) as never, [2, 5]), { gradAdd });
      expect([...data(gradAdd)].slice(0, 5)).toEqual([1, 1, 1, 1, 1]);
    });
  });

  it('in a padded batch the padding is 0 and everything else as without it', () => {
    const [n, c, l] = [3, 4, 9];
    const lengths = [9, 4, 7];
    const make = (): BatchNorm1d => new BatchNorm1d(c, { relu: true });
    const x = new Tensor(values(n * c * l, 'float32'), [n, c, l]);
    const add = new Tensor(values(x.size, 'float32'), x.shape);
    const dy = new Tensor(values(x.size, 'float32'), x.shape);
    const valid = (i: number): boolean => i % l < lengths[Math.floor(i / (c * l))]!;
    const packed = (t: Tensor): Tensor => {
      const rows = Array.from({ length: c }, (_, k) =>
        lengths.flatMap((length, i) => [...data(t)].slice((i * c + k) * l, (i * c + k) * l + length)),
      );
      return new Tensor(Float32Array.from(rows.flat()), [1, c, rows[0]!.length]);
    };
    const [padded, alone] = [make(), make()];
    const gradAdd = new Tensor(new Float32Array(x.size).fill(7), x.shape);
    const aloneGrad = packed(add);
    expectSameBits(
      'y',
      data(packed(padded.forward(x, { add, lengths }))),
      data(alone.forward(packed(x), { add: packed(add) })),
    );
    const dx = padded.backward(dy, { gradAdd });
    expectSameBits('dx', data(packed(dx)), data(alone.backward(packed(dy), { gradAdd: aloneGrad })));
    expectSameBits('gradAdd', data(packed(gradAdd)), data(aloneGrad));
    for (const t of [dx, gradAdd]) expect([...data(t)].every((v, i) => valid(i) || v === 0)).toBe(true);
  });
});

describe('what does not fit', () => {
  const layer = new BatchNorm2d(3, { relu: true });
  const x = new Tensor(values(24, 'float32'), [2, 3, 2, 2]);
  const add = new Tensor(values(24, 'float32'), [2, 3, 2, 2]);

  it('a shortcut of another shape or dtype, a target of another', () => {
    expect(() => layer.forward(x, { add: new Tensor(new Float32Array(24), [2, 3, 4, 1]) })).toThrow(
      new RangeError('BatchNorm2d.forward: add has shape [2, 3, 4, 1], the input has [2, 3, 2, 2]'),
    );
    expect(() => layer.forward(x, { add: new Tensor(new Float64Array(24), [2, 3, 2, 2]) })).toThrow(
      new TypeError('BatchNorm2d.forward: add is float64, the input is float32'),
    );
    layer.forward(x, { add });
    expect(() => layer.backward(x, { gradAdd: new Float32Array(23) })).toThrow(
      /gradAdd must be float32 with 24 elements/,
    );
    expect(() => layer.backward(x, { gradAdd: new Float64Array(24) })).toThrow(TypeError);
    layer.backward(x);
  });
  it('an output over what backward needs', () => {
    expect(() => layer.forward(x, { add, out: add })).toThrow(/out overlaps add, which backward needs/);
    expect(() => layer.forward(x, { add, out: x })).toThrow(/out overlaps the input, which backward needs/);
    const own = new Tensor(data(add).slice() as never, add.shape);
    const expected = data(layer.forward(x, { add }));
    expectSameBits('saved copy', data(layer.forward(x, { add: own, out: own, saveInput: 'copy' })), expected);
    const dx = layer.backward(x);
    layer.forward(x, { add });
    expectSameBits('dx from the copy', data(dx), data(layer.backward(x)));
  });
  it('the gate over the input: the gradient of the input may not go there', () => {
    const over = new Tensor(data(x).slice() as never, x.shape);
    layer.forward(over);
    expect(() => layer.backward(add, { out: over })).toThrow(/overlaps/);
    layer.backward(add);
  });
  it('an option that is no boolean', () => {
    expect(() => new GroupNorm(1, 3, { relu: 1 as never })).toThrow('GroupNorm: relu must be a boolean, but got 1');
  });
  it('prints itself', () => {
    expect(String(new LayerNorm(3, { relu: true }))).toBe(
      'LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=True, relu=True)',
    );
    expect(String(new LayerNorm(3, { axis: 1 }))).toBe(
      'LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=True, axis=1)',
    );
  });
});
