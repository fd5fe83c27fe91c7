// Every layer in every form against the oracle, forward and backward, training and evaluation, on every instruction set.

import type { Tensor } from '../../lib';
import { onEveryIsa } from '../support/isa';
import { reference } from '../support/reference';
import { forms, prepare } from '../support/shapes';
import { expectClose, tolerances, type Dtype } from '../support/tolerance';

const data = (t: Tensor | null | undefined): Float64Array => t!.data as Float64Array;

onEveryIsa('against the oracle', () => {
  describe.each<Dtype>(['float32', 'float64'])('%s', (dtype) => {
    it.each(forms.map((form) => [form.name, form] as const))(
      '%s: y, dx, dweight, dbias and running statistics',
      (_, form) => {
        const { layer, x, dy, question } = prepare(form, dtype);
        const answer = reference(question, data(dy));
        const allowed = tolerances(question, answer, data(dy), dtype);
        const y = layer.forward(x);
        expect(y.shape).toEqual(form.shape);
        expect(y.strides).toEqual(x.strides);
        expectClose('y', data(y), answer.y, allowed.y, dtype);
        const dx = layer.backward(dy);
        expect(dx.strides).toEqual(x.strides);
        expectClose('dx', data(dx), answer.dx, allowed.dx, dtype);
        if (layer.weight) expectClose('dweight', data(layer.weight.grad), answer.dweight, allowed.dweight, dtype);
        if (layer.bias) expectClose('dbias', data(layer.bias.grad), answer.dbias, allowed.dbias, dtype);

        if (!layer.runningMean) return;
        const [, outer, , inner] = form.geometry;
        const n = outer * inner;
        const expectedMean = answer.mean.map((m) => 0.1 * m);
        const expectedVar = answer.var.map((v) => 0.9 + (0.1 * v * n) / (n - 1));
        expectClose('running mean', data(layer.runningMean), expectedMean, allowed.mean, dtype);
        expectClose(
          'running var',
          data(layer.runningVar),
          expectedVar,
          allowed.var + 2 ** -23 * (dtype === 'float32' ? 1 : 2 ** -29),
          dtype,
        );

        layer.eval();
        const running = { mean: data(layer.runningMean), var: data(layer.runningVar) };
        const before = [running.mean.slice(), running.var.slice()];
        const evalQuestion = { ...question, running };
        const evalAnswer = reference(evalQuestion, data(dy));
        const evalAllowed = tolerances(evalQuestion, evalAnswer, data(dy), dtype);
        layer.zeroGrad();
        expectClose('y in eval', data(layer.forward(x)), evalAnswer.y, evalAllowed.y!, dtype);
        expectClose('dx in eval', data(layer.backward(dy)), evalAnswer.dx, evalAllowed.dx!, dtype);
        if (layer.weight)
          expectClose('dweight in eval', data(layer.weight.grad), evalAnswer.dweight, evalAllowed.dweight!, dtype);
        expect([running.mean, running.var]).toEqual(before);
      },
    );
  });
});
