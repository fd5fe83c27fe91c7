// recalibrate: the statistics of the whole data set, however it is cut.

import {
  BatchNorm1d,
  BatchNorm2d,
  LazyBatchNorm1d,
  Module,
  recalibrate,
  Sequential,
  tensor,
  Tensor,
  type TensorLike,
} from '../lib';
import { onEveryIsa } from './support/isa';
import { values } from './support/shapes';

const data = (t: Tensor | null): Float64Array => t!.data as Float64Array;
const rows = (x: Tensor, from: number, to: number): Tensor => {
  const step = x.size / x.shape[0]!;
  return new Tensor(data(x).slice(from * step, to * step) as never, [to - from, ...x.shape.slice(1)]);
};
const cut = (x: Tensor, sizes: number[]): Tensor[] => {
  let at = 0;
  return sizes.map((size) => rows(x, at, (at += size)));
};
/** Mean and unbiased variance of each channel, two passes. */
function exactly(x: Tensor): { mean: number[]; variance: number[] } {
  const [n, c] = x.shape as [number, number];
  const s = x.size / n / c;
  const of = (channel: number): number[] => [...data(x)].filter((_, i) => Math.floor(i / s) % c === channel);
  const mean = Array.from({ length: c }, (_, k) => of(k).reduce((sum, v) => sum + v, 0) / (n * s));
  const variance = mean.map((m, k) => of(k).reduce((sum, v) => sum + (v - m) ** 2, 0) / (n * s - 1));
  return { mean, variance };
}
const near = (got: Float64Array, want: number[], allowed: number): void =>
  want.forEach((w, i) => expect(Math.abs(got[i]! - w)).toBeLessThanOrEqual(allowed * Math.max(1, Math.abs(w))));

/** Shifts what passes by what it is told, so that a later layer's input depends on the mode before it. */
class Square extends Module {
  override forward(x: TensorLike): Tensor {
    const t = x as Tensor;
    return new Tensor(data(t).map((v) => v * v + v) as never, t.shape);
  }
  override backward(): Tensor {
    throw new Error('not in this test');
  }
}

onEveryIsa('recalibrate', () => {
  const x = new Tensor(values(60 * 3 * 8, 'float64', 40, 2), [60, 3, 2, 4]);
  data(x).forEach((v, i) => (data(x)[i] = v + Math.floor(i / 24))); // a drift: the batches differ

  it('is the statistics of the data set, however it is cut', () => {
    const { mean, variance } = exactly(x);
    for (const sizes of [[60], [1, 2, 57], [20, 20, 20], [59, 1], Array<number>(60).fill(1)]) {
      const bn = new BatchNorm2d(3, { dtype: 'float64' });
      recalibrate(bn, cut(x, sizes));
      near(data(bn.runningMean), mean, 1e-14);
      near(data(bn.runningVar), variance, 1e-13);
      expect(bn.numBatchesTracked).toBe(sizes.length);
      expect(bn.training).toBe(true);
    }
  });

  it('in float32, and of 16-bit batches, is those rounded once', () => {
    const { mean, variance } = exactly(x.to('bfloat16').to('float64'));
    const bn = new BatchNorm2d(3);
    recalibrate(
      bn,
      cut(x, [13, 47]).map((batch) => batch.to('bfloat16')),
    );
    near(data(bn.runningMean), mean, 1e-7);
    near(data(bn.runningVar), variance, 1e-6);
  });

  it('leaves padding out', () => {
    const [seen, padded] = [new BatchNorm1d(2), new BatchNorm1d(2)];
    const whole = new Tensor(values(2 * 2 * 6, 'float32'), [2, 2, 6]);
    const parts = [
      rows(whole, 0, 1),
      new Tensor(
        Float32Array.from([0, 1, 2, 6, 7, 8], (i) => data(whole)[12 + i]!),
        [1, 2, 3],
      ),
    ];
    recalibrate(seen, parts);
    recalibrate(padded, [whole], { run: (net, batch) => (net as BatchNorm1d).forward(batch, { lengths: [6, 3] }) });
    near(data(padded.runningMean), [...data(seen.runningMean)], 1e-6);
    near(data(padded.runningVar), [...data(seen.runningVar)], 1e-6);
  });

  it('per layer, each has the statistics of what it sees in evaluation', () => {
    const flat = new Tensor(data(x).slice() as never, [60, 24]);
    const make = (): [Sequential, BatchNorm1d, BatchNorm1d] => {
      const parts = [new BatchNorm1d(24, { dtype: 'float64' }), new BatchNorm1d(24, { dtype: 'float64' })] as const;
      return [new Sequential(parts[0], new Square(), parts[1]), ...parts];
    };
    const [net, first, second] = make();
    const progress: number[][] = [];
    recalibrate(net, cut(flat, [25, 35]), {
      passes: 'perLayer',
      onProgress: ({ pass, passes, batches }) => progress.push([pass, passes, batches]),
    });
    expect(progress).toEqual([
      [1, 2, 1],
      [1, 2, 2],
      [2, 2, 1],
      [2, 2, 2],
    ]);
    const of = exactly(new Tensor(data(flat) as never, [60, 24]));
    near(data(first.runningMean), of.mean, 1e-13);
    net.eval();
    const seen = exactly(new Square().forward(first.forward(flat)));
    near(data(second.runningMean), seen.mean, 1e-12);
    near(data(second.runningVar), seen.variance, 1e-12);
    // In one pass the second saw what the first made by each batch's own statistics.
    const [once, , other] = make();
    recalibrate(once, cut(flat, [25, 35]));
    expect(Math.abs(data(other.runningMean)[0]! - seen.mean[0]!)).toBeGreaterThan(1e-3);
  });

  it('takes batches that come asynchronously, several times too', async () => {
    async function* batches(): AsyncGenerator<Tensor> {
      for (const batch of cut(x, [10, 50])) {
        await Promise.resolve();
        yield batch;
      }
    }
    const [now, later, twice] = [0, 0, 0].map(() => new BatchNorm2d(3, { dtype: 'float64' })) as [
      BatchNorm2d,
      BatchNorm2d,
      BatchNorm2d,
    ];
    recalibrate(now, cut(x, [10, 50]));
    await recalibrate(later, batches());
    await recalibrate(new Sequential(twice), batches, { passes: 'perLayer' });
    for (const bn of [later, twice]) expect(data(bn.runningVar)).toEqual(data(now.runningVar));
  });
});

describe('modes and errors', () => {
  const x = tensor([
    [1, 2],
    [3, 5],
    [4, 4],
  ]);

  it('every mode is as before, and frozen or untracked layers are left alone', () => {
    const [frozen, off, bn, lazy] = [
      new BatchNorm1d(2).freeze(),
      new BatchNorm1d(2, { trackRunningStats: false }),
      new BatchNorm1d(2),
      new LazyBatchNorm1d(),
    ];
    const net = new Sequential(frozen, off, bn, lazy);
    bn.eval();
    recalibrate(net, [x]);
    expect([net.training, frozen.frozen, off.training, bn.training, lazy.training]).toEqual([
      true,
      true,
      true,
      false,
      true,
    ]);
    expect(frozen.numBatchesTracked).toBe(0);
    expect([bn.numBatchesTracked, lazy.numBatchesTracked]).toEqual([1, 1]);
    bn.train().forward(x);
    expect(bn.numBatchesTracked).toBe(2);
  });

  it('a failing batch leaves statistics and modes as they were', () => {
    const [a, b] = [new BatchNorm1d(2), new BatchNorm1d(2)];
    const net = new Sequential(a, b);
    a.forward(x);
    const before = [a, b].flatMap((bn) => [...data(bn.runningMean), ...data(bn.runningVar), bn.numBatchesTracked]);
    let pass = 0;
    const batches = (): Tensor[] => (++pass === 2 ? [x, tensor([[1, 2, 3]])] : [x]);
    expect(() => recalibrate(net, batches, { passes: 'perLayer' })).toThrow(/should contain 3 elements/);
    expect(() => recalibrate(net, [x, 'x' as never])).toThrow(TypeError);
    expect(() => recalibrate(net, [])).toThrow(new RangeError('recalibrate: there are no batches'));
    const after = [a, b].flatMap((bn) => [...data(bn.runningMean), ...data(bn.runningVar), bn.numBatchesTracked]);
    expect(after).toEqual(before);
    expect([net.training, a.training]).toEqual([true, true]);
    a.forward(x);
    expect(a.numBatchesTracked).toBe(2);
  });

  it('a single value in all', () => {
    const bn = new BatchNorm1d(2, { singleValue: 'runningStats' });
    expect(() => recalibrate(new BatchNorm1d(2), [tensor([[1, 2]])])).toThrow(/Expected more than 1 value per channel/);
    const batches = [
      tensor([
        [1, 2],
        [3, 4],
      ]),
      tensor([[1, 2]]),
    ];
    expect(() => recalibrate(bn, batches)).toThrow(/Expected more than 1 value per channel/);
    expect([...data(bn.runningVar), bn.numBatchesTracked]).toEqual([1, 1, 0]);
  });

  it('what it does not take', () => {
    expect(() => recalibrate({} as never, [])).toThrow(/module must be a Module/);
    expect(() => recalibrate(new BatchNorm1d(2), 3 as never)).toThrow(/batches must be iterable/);
    expect(() => recalibrate(new BatchNorm1d(2), [x], { passes: 'two' as never })).toThrow(/passes must be/);
    expect(() => recalibrate(new BatchNorm1d(2), [x], { run: 1 as never })).toThrow(/run must be a function/);
    const two = new Sequential(new BatchNorm1d(2), new BatchNorm1d(2));
    expect(() => recalibrate(two, new Set([x]), { passes: 'perLayer' })).toThrow(/give an array or a function/);
    expect(two.training).toBe(true);
  });
});
