// Data of float16 and bfloat16 beside parameters of float32, torch's mixed rule: what float32 gives for the same values,
// rounded once where it is stored.

import { BatchNorm1d, LayerNorm, noGrad, RMSNorm, tensor, Tensor } from '../../lib';
import { batchNorm, moments, nativeLayerNorm, nativeLayerNormBackward, normalize } from '../../lib/functional';
import { onEveryIsa } from '../support/isa';
import { forms, prepare } from '../support/shapes';
import { expectSameBits } from '../support/tolerance';

type Half = 'float16' | 'bfloat16';
const numbers = (t: Tensor): Float64Array => Float64Array.from(t.toArray() as number[]);
const data = (t: Tensor | null | undefined): Float64Array => t!.data as Float64Array;

describe.each<Half>(['float16', 'bfloat16'])('%s', (dtype) => {
  onEveryIsa('data', () => {
    it.each(forms.map((form) => [form.name, form] as const))('%s', (_, form) => {
      const { layer, x: x32, dy: dy32 } = prepare(form, 'float32', { spread: 1 });
      const [x, dy] = [x32.to(dtype), dy32.to(dtype)];
      const [wideX, wideDy] = [x.to('float32'), dy.to('float32')];
      const twin = form.make('float32');
      twin.parameters().forEach((p, i) => data(p).set(data(layer.parameters()[i])));
      for (const training of [true, false]) {
        layer.train(training);
        twin.train(training);
        const y = layer.forward(x);
        expect([y.dtype, y.strides]).toEqual([dtype, x.strides]);
        expectSameBits('y', numbers(y), numbers(twin.forward(wideX).to(dtype)));
        const dx = layer.backward(dy);
        expect(dx.dtype).toBe(dtype);
        expectSameBits('dx', numbers(dx), numbers(twin.backward(wideDy).to(dtype)));
        layer.parameters().forEach((p, i) => {
          expect(p.grad!.dtype).toBe('float32');
          expectSameBits(`gradient ${i}`, data(p.grad), data(twin.parameters()[i]!.grad));
        });
        if (layer.runningMean) expectSameBits('running', data(layer.runningMean), data(twin.runningMean));
      }
    });

    it('a ReLU, a shortcut and lengths', () => {
      const shape = [3, 4, 21];
      const of = (seed: number): Tensor =>
        new Tensor(
          Float32Array.from({ length: 3 * 4 * 21 }, (_, i) => Math.sin(i * seed + seed)),
          shape,
        ).to(dtype);
      const [x, add, dy] = [of(1.3), of(2.1), of(0.7)];
      const lengths = [21, 5, 13];
      const [layer, twin] = [new BatchNorm1d(4, { relu: true }), new BatchNorm1d(4, { relu: true })];
      const y = twin.forward(x.to('float32'), { add: add.to('float32'), lengths });
      expectSameBits('y', numbers(layer.forward(x, { add, lengths })), numbers(y.to(dtype)));
      const gradAdd = new Tensor(new Uint16Array(x.size), shape, { dtype });
      const wide = new Tensor(new Float32Array(x.size), shape);
      const dx = twin.backward(dy.to('float32'), { gradAdd: wide });
      expectSameBits('dx', numbers(layer.backward(dy, { gradAdd })), numbers(dx.to(dtype)));
      expectSameBits('gradAdd', numbers(gradAdd), numbers(wide));
    });

    it('the functions and the native pair', () => {
      const x = tensor([0.5, -1.25, 3, 2, 0.125, 7], [2, 3], { dtype });
      const weight = tensor([1, 2, 0.5]);
      const y = batchNorm(x, { weight, training: true });
      expect(y.dtype).toBe(dtype);
      const { output, mean, rstd } = nativeLayerNorm(x, 3, { weight });
      const expected = nativeLayerNorm(x.to('float32'), 3, { weight });
      expectSameBits('output', numbers(output), numbers(expected.output.to(dtype)));
      expectSameBits('mean', data(mean), data(expected.mean));
      const { gradInput, gradWeight } = nativeLayerNormBackward(x, x, 3, { weight, mean, rstd });
      expect([gradInput!.dtype, gradWeight!.dtype]).toEqual([dtype, 'float32']);
    });
  });

  it('moments and normalize', () => {
    const x = tensor([1, 2, 3, 4.5, -1, 0.25], [2, 3], { dtype });
    const { mean, var: variance } = moments(x, 1);
    const expected = moments(x.to('float32'), 1);
    expect([mean.toArray(), variance.toArray()]).toEqual([expected.mean.toArray(), expected.var.toArray()]);
    for (const p of [0, 1, 2, 3, Infinity]) {
      const y = normalize(x, { p });
      expect(y.dtype).toBe(dtype);
      expect([...(y.data as Uint16Array)]).toEqual([
        ...(normalize(x.to('float32'), { p }).to(dtype).data as Uint16Array),
      ]);
    }
  });

  it('the default eps of RMSNorm is that of float32, which it computes in', () => {
    const x = tensor([1e-3, 0, 0, 0], [1, 4], { dtype });
    const [wide] = numbers(new RMSNorm(4, { eps: 2 ** -23 }).forward(x));
    expect(numbers(new RMSNorm(4).forward(x))[0]).toBe(wide);
  });

  it('in place, and into an array of bits', () => {
    const x = tensor([1, 2, 3, 4, 5, 9], [2, 3], { dtype });
    const layer = new LayerNorm(3);
    const y = noGrad(() => layer.forward(x));
    const out = new Uint16Array(6);
    const into = noGrad(() => layer.forward(x, { out }));
    expect([into.dtype, [...out]]).toEqual([dtype, [...(y.data as Uint16Array)]]);
    expect([...(noGrad(() => layer.forward(x, { out: x })).data as Uint16Array)]).toEqual([...out]);
  });

  it('what does not go together', () => {
    const x = tensor([1, 2, 3, 5], [2, 2], { dtype });
    expect(() => new BatchNorm1d(2, { dtype: 'float64' }).forward(x)).toThrow(
      `BatchNorm1d.forward: input is ${dtype}, the layer is float64: mixed dtype: all inputs must share same datatype; ` +
        "make the layer with dtype: 'float32' or convert the data",
    );
    expect(() => new BatchNorm1d(2, { dtype: dtype as never })).toThrow(/dtype must be 'float32' or 'float64'/);
    const layer = new LayerNorm(2);
    layer.forward(x);
    expect(() => layer.backward(x.to('float32'))).toThrow(
      `LayerNorm.backward: grad_output is float32, the latest forward's output is ${dtype}`,
    );
    expect(() => layer.forward(x, { out: new Float32Array(4) })).toThrow(TypeError);
    expect(() => layer.forward(x, { add: x.to('float32') })).toThrow(TypeError);
    layer.backward(x);
  });
});
