// SyncBatchNorm in a group of one, and the conversion of a network.

import {
  BatchNorm1d,
  BatchNorm2d,
  BatchNorm3d,
  convertSyncBatchNorm,
  InstanceNorm2d,
  LayerNorm,
  LazyBatchNorm2d,
  Module,
  Sequential,
  StateError,
  SyncBatchNorm,
  Tensor,
  tensor,
  type ModuleLike,
} from '../../lib';
import { everyWay } from '../support/isa';
import { values } from '../support/shapes';

const random = (...shape: number[]): Tensor =>
  tensor(
    values(
      shape.reduce((p, n) => p * n, 1),
      'float32',
    ),
    shape,
  );

describe('SyncBatchNorm in a group of one', () => {
  it.each([
    [BatchNorm1d, [6, 5]],
    [BatchNorm1d, [4, 5, 3]],
    [BatchNorm2d, [2, 5, 3, 4]],
    [BatchNorm3d, [2, 5, 3, 4, 2]],
  ])('gives the bits of %p for %p', (Plain, shape) => {
    everyWay(() => {
      const options = { momentum: null, eps: 1e-3 };
      const [sync, plain] = [new SyncBatchNorm(5, options), new Plain(5, options)];
      const [x, dy] = [random(...shape), random(...shape)];
      expect(sync.forward(x).data).toEqual(plain.forward(x).data);
      expect(sync.backward(dy).data).toEqual(plain.backward(dy).data);
      expect(sync.weight!.grad).toEqual(plain.weight!.grad);
      expect(sync.stateDict()).toEqual(plain.stateDict());
      expect(sync.eval().forward(x).data).toEqual(plain.eval().forward(x).data);
    }, [2]);
  });

  it('takes any rank from 2', () => {
    const bn = new SyncBatchNorm(2);
    expect(bn.forward(random(3, 2, 2, 1, 2, 2)).shape).toEqual([3, 2, 2, 1, 2, 2]);
    expect(String(bn)).toBe(
      'SyncBatchNorm(2, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)',
    );
  });

  it.each([
    [[2], 'SyncBatchNorm.forward: expected at least 2D input (got 1D input)'],
    [[], 'SyncBatchNorm.forward: expected at least 2D input (got 0D input)'],
    [[3, 0], 'SyncBatchNorm.forward: SyncBatchNorm number of input channels should be non-zero'],
    [[3, 4], 'SyncBatchNorm.forward: running_mean should contain 4 elements not 2'],
    [[1, 2], 'SyncBatchNorm.forward: Expected more than 1 value per channel when training, got input size [1, 2]'],
  ])('refuses the shape %p in words of torch', (shape, message) => {
    const bn = new SyncBatchNorm(2);
    const size = shape.reduce((p, n) => p * n, 1);
    const forward = (): unknown => bn.forward(new Tensor(new Float32Array(size), shape));
    expect(forward).toThrow(RangeError);
    expect(forward).toThrow(new Error(message));
    expect(bn.numBatchesTracked).toBe(0);
  });
});

describe('convertSyncBatchNorm', () => {
  class Net extends Module {
    first = new BatchNorm2d(3, { eps: 1e-3, momentum: null });
    inner = new Sequential(new InstanceNorm2d(3), new BatchNorm2d(3, { bias: false }), this.first);
    last = new LayerNorm(4);
    override forward(x: Tensor): Tensor {
      return this.last.forward(this.inner.forward(this.first.forward(x)));
    }
    override backward(dy: Tensor): Tensor {
      return this.first.backward(this.inner.backward(this.last.backward(dy)));
    }
  }

  it('replaces every BatchNorm in place, a shared one everywhere by the same layer, and nothing else', () => {
    const net = new Net();
    const { first, inner, last } = net;
    const [instance, second] = [...inner] as [InstanceNorm2d, BatchNorm2d];
    const keys = [...net.stateDict().keys()];
    expect(convertSyncBatchNorm(net)).toBe(net);
    expect([net.inner, net.last, inner.at(0)]).toEqual([inner, last, instance]);
    expect(net.first).toBeInstanceOf(SyncBatchNorm);
    expect(inner.at(2)).toBe(net.first);
    expect(String(inner.at(1))).toBe(String(second).replace('BatchNorm2d', 'SyncBatchNorm'));
    expect(String(net.first)).toBe(String(first).replace('BatchNorm2d', 'SyncBatchNorm'));
    expect([...net.stateDict().keys()]).toEqual(keys);
  });

  it('keeps parameters, statistics, count, modes and options', () => {
    const bn = new BatchNorm1d(3, { dtype: 'float64' });
    bn.forward(tensor(new Float64Array(6).map((_, i) => i), [2, 3])); // prettier-ignore
    bn.momentum = 0.25;
    bn.eval();
    const sync = convertSyncBatchNorm(bn);
    expect(sync).toBeInstanceOf(SyncBatchNorm);
    for (const field of ['weight', 'bias', 'runningMean', 'runningVar'] as const) expect(sync[field]).toBe(bn[field]);
    expect([sync.numBatchesTracked, sync.training, sync.frozen, sync.momentum, sync.dtype]).toEqual([
      1,
      false,
      false,
      0.25,
      'float64',
    ]);
    expect(bn).toBeInstanceOf(BatchNorm1d);
    bn.train().freeze();
    const frozen = convertSyncBatchNorm(bn);
    expect([frozen.training, frozen.frozen, frozen.freeze(false).training]).toEqual([false, true, true]);
    const bare = convertSyncBatchNorm(new BatchNorm2d(3, { affine: false, trackRunningStats: false }));
    expect([bare.weight, bare.bias, bare.runningMean, bare.numBatchesTracked]).toEqual([null, null, null, null]);
  });

  it('gives the bits of the network before', () => {
    const [plain, sync] = [
      new Sequential(new BatchNorm2d(3)),
      convertSyncBatchNorm(new Sequential(new BatchNorm2d(3))),
    ];
    const [x, dy] = [random(2, 3, 4, 5), random(2, 3, 4, 5)];
    expect(sync.forward(x).data).toEqual(plain.forward(x).data);
    expect(sync.backward(dy).data).toEqual(plain.backward(dy).data);
  });

  it('makes a new layer of a SyncBatchNorm, as torch, and leaves other layers alone', () => {
    const sync = new SyncBatchNorm(2);
    expect(convertSyncBatchNorm(sync)).not.toBe(sync);
    const ln = new LayerNorm(2);
    expect(convertSyncBatchNorm(ln)).toBe(ln);
  });

  it('refuses a lazy layer that is not initialized, and converts one that is', () => {
    const net = new Sequential(new BatchNorm2d(3), new Sequential(new LazyBatchNorm2d()));
    const before = String(net);
    const convert = (): unknown => convertSyncBatchNorm(net);
    expect(convert).toThrow(StateError);
    expect(convert).toThrow(/convertSyncBatchNorm: LazyBatchNorm2d at "1\.0" has not been fully initialized/);
    expect(String(net)).toBe(before);
    expect(() => convertSyncBatchNorm(new LazyBatchNorm2d())).toThrow(/: LazyBatchNorm2d has not been fully/);
    net.forward(random(2, 3, 4, 5));
    convert();
    expect(String(net)).not.toMatch(/BatchNorm2d/);
  });

  it('leaves the network as it was when a part of it cannot be replaced', () => {
    class Fixed extends Net {
      readonly #fixed = new BatchNorm2d(3);
      override namedChildren(): [string, ModuleLike][] {
        return [...super.namedChildren(), ['fixed', this.#fixed]];
      }
    }
    const net = new Sequential(new BatchNorm2d(3), new Fixed());
    const before = net.modules();
    const convert = (): unknown => convertSyncBatchNorm(net);
    expect(convert).toThrow(/Fixed\.replaceChild: part "fixed" is no field .* must override replaceChild too/);
    expect(net.modules()).toEqual(before);
    expect(net.modules().some((part) => part instanceof SyncBatchNorm)).toBe(false);
  });

  it('takes modules only', () => {
    const pass = { forward: (x: Tensor) => x, backward: (dy: Tensor) => dy };
    expect(() => convertSyncBatchNorm(pass as never)).toThrow(/module must be a Module, but got an object/);
    const net = new Sequential(pass, new BatchNorm1d(2));
    expect(convertSyncBatchNorm(net).at(0)).toBe(pass);
  });
});
