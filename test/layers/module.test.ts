// Networks: parts found by fields, replaced, walked; a layer in several places; options changed on a live layer.

import {
  BatchNorm1d,
  GroupNorm,
  InstanceNorm1d,
  LayerNorm,
  Module,
  noGrad,
  Parameter,
  RMSNorm,
  Sequential,
  StateError,
  Tensor,
  tensor,
  type ModuleLike,
} from '../../lib';
import { values } from '../support/shapes';

const numbers = (t: Tensor | null | undefined): number[] => t!.toArray() as number[];
const random = (...shape: number[]): Tensor =>
  tensor(
    values(
      shape.reduce((p, n) => p * n, 1),
      'float32',
    ),
    shape,
  );
const pass = (): ModuleLike => ({ forward: (x) => x, backward: (dy) => dy });

class Block extends Module {
  norm = new LayerNorm(3);
  scale = new Parameter(new Float32Array([2]), [1]);
  activation = pass();
  name = 'no part';
  nothing = null;
  list = [new LayerNorm(3)];
  #hidden = new LayerNorm(3);
  override forward(x: Tensor): Tensor {
    return this.#hidden.forward(this.norm.forward(x));
  }
  override backward(dy: Tensor): Tensor {
    return this.norm.backward(this.#hidden.backward(dy));
  }
}
class Net extends Module {
  second = new Block();
  first = new BatchNorm1d(3);
  again = this.second;
  later?: Module;
  override forward(x: Tensor): Tensor {
    return this.second.forward(this.first.forward(x));
  }
  override backward(dy: Tensor): Tensor {
    return this.first.backward(this.second.backward(dy));
  }
}

describe('a Module of your own', () => {
  it('finds its parts among its fields, in the order of their assignment', () => {
    const net = new Net();
    const { second, first } = net;
    expect(net.namedChildren()).toEqual([
      ['second', second],
      ['first', first],
      ['again', second],
    ]);
    expect(net.children()).toEqual([second, first, second]);
    net.later = new GroupNorm(1, 3);
    expect(net.children()).toHaveLength(4);
    expect(new BatchNorm1d(3).namedChildren()).toEqual([]);
  });

  it('walks everything below it, each once', () => {
    const net = new Net();
    expect(net.namedModules().map(([name]) => name)).toEqual([
      '',
      'second',
      'second.norm',
      'second.activation',
      'first',
    ]);
    expect(net.modules()).toEqual([net, net.second, net.second.norm, net.second.activation, net.first]);
  });

  it('trains, evaluates, freezes, forgets gradients, prints and saves with its parts', () => {
    const net = new Net();
    const { second, first } = net;
    net.eval();
    expect([net.training, second.norm.training, first.training]).toEqual([false, false, false]);
    net.train().freeze();
    expect([second.norm.frozen, first.training, first.frozen]).toEqual([true, false, true]);
    net.freeze(false);
    net.forward(random(4, 3));
    net.backward(random(4, 3));
    expect(first.weight!.grad).not.toBeNull();
    net.zeroGrad();
    expect(net.parameters().every((p) => p.grad === null)).toBe(true);
    expect(net.namedParameters().map(([name]) => name)).toEqual([
      'second.scale',
      'second.norm.weight',
      'second.norm.bias',
      'first.weight',
      'first.bias',
    ]);
    expect([...net.stateDict().keys()].slice(0, 4)).toEqual([
      'second.scale',
      'second.norm.weight',
      'second.norm.bias',
      'first.weight',
    ]);
    expect(String(new Sequential(second))).toBe(
      'Sequential(\n  (0): Block(\n    (norm): LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=True)\n' +
        '    (activation): [object Object]\n  )\n)',
    );
  });

  it('lets a part be replaced by name', () => {
    const net = new Net();
    const rms = new RMSNorm(3);
    expect(net.replaceChild('first', rms)).toBe(net);
    expect(net.first).toBe(rms);
    expect(() => net.replaceChild('third', rms)).toThrow(
      'Net.replaceChild: there is no part the string "third"; the parts are second, first, again',
    );
    expect(() => net.replaceChild('training', rms)).toThrow(RangeError);
    expect(() => net.replaceChild('first', {} as never)).toThrow(/part "first" must have forward and backward/);
    expect(net.first).toBe(rms);
    expect(() => new LayerNorm(2).replaceChild('weight', rms)).toThrow(/the parts are none/);
  });

  it('that keeps its parts elsewhere must say how to replace them', () => {
    class Elsewhere extends Module {
      readonly #part = new LayerNorm(2);
      override namedChildren(): [string, ModuleLike][] {
        return [['part', this.#part]];
      }
      override forward = (): never => {
        throw new Error('not to be run');
      };
      override backward = this.forward;
    }
    const module = new Elsewhere();
    const replace = (): unknown => module.replaceChild('part', new LayerNorm(2));
    expect(replace).toThrow(StateError);
    expect(replace).toThrow(/must override replaceChild too/);
    expect(Object.keys(module)).not.toContain('part');
  });
});

describe('Sequential', () => {
  it('goes back through a layer that stands in it twice', () => {
    const [x, dy] = [random(5, 3), random(5, 3)];
    const shared = new LayerNorm(3);
    const bn = new BatchNorm1d(3);
    shared.loadStateDict({ weight: [1, 2, 3] }, { strict: false });
    const net = new Sequential(shared, bn, shared, bn, shared);
    const parts = [0, 1, 2, 3, 4].map((i) => {
      const part = i % 2 === 0 ? new LayerNorm(3) : new BatchNorm1d(3);
      part.loadStateDict({ weight: i % 2 === 0 ? [1, 2, 3] : [1, 1, 1] }, { strict: false });
      return part;
    });
    const apart = new Sequential(...parts);
    expect(net.forward(x).data).toEqual(apart.forward(x).data);
    expect(net.backward(dy).data).toEqual(apart.backward(dy).data);
    const sum = [0, 1, 2].map((c) => [0, 2, 4].reduce((s, i) => s + numbers(parts[i]!.weight!.grad)[c]!, 0));
    numbers(shared.weight!.grad).forEach((g, c) => expect(g).toBeCloseTo(sum[c]!, 4));
    expect(bn.numBatchesTracked).toBe(2);
    expect(() => net.backward(dy)).toThrow(/no forward to go back through/);
    noGrad(() => net.forward(x));
    expect(() => net.backward(dy)).toThrow(/no forward to go back through/);
  });

  it('says so where it cannot: the same layer at two depths', () => {
    const ln = new LayerNorm(3);
    const net = new Sequential(ln, new Sequential(ln));
    net.forward(random(2, 3));
    expect(() => net.backward(random(2, 3))).toThrow(/LayerNorm\.backward: there is no forward to go back through/);
  });

  it('may hold what keeps nothing in several places', () => {
    const nothing = pass();
    expect(new Sequential(nothing, nothing).forward([[1, 2]]).shape).toEqual([1, 2]);
  });

  it('lets a part be replaced, in one place or in each', () => {
    const [ln, rms] = [new LayerNorm(3), new RMSNorm(3)];
    const net = new Sequential(ln, ln, ln);
    net.replaceChild('1', rms).replaceChild('2', rms);
    expect([...net]).toEqual([ln, rms, rms]);
    net.forward(random(2, 3));
    expect(net.backward(random(2, 3)).shape).toEqual([2, 3]);
    expect(() => net.replaceChild('3', rms)).toThrow(/there is no part the string "3"; the parts are 0, 1, 2/);
    expect(() => net.replaceChild('0', null as never)).toThrow(TypeError);
  });

  it('freezes parts of any kind that can be', () => {
    const seen: unknown[] = [];
    new Sequential({ ...pass(), freeze: (frozen) => seen.push(frozen) }, pass()).freeze().freeze(false);
    expect(seen).toEqual([true, false]);
  });

  it.each<[unknown[], string]>([
    [[pass(), {}], 'Sequential: part 1 must have forward and backward, but got an object'],
    [[[pass()]], 'Sequential: part 0 must have forward and backward, but got an array; pass the parts one by one: new Sequential(...parts)'], // prettier-ignore
    [[LayerNorm], 'Sequential: part 0 must have forward and backward, but got a function; pass an instance: new Sequential(new Layer())'], // prettier-ignore
    [[null], 'Sequential: part 0 must have forward and backward, but got null'],
  ])('refuses what is no part', (parts, message) => {
    expect(() => new Sequential(...(parts as never[]))).toThrow(new TypeError(message));
  });
});

describe('options of a live layer', () => {
  const x = tensor([
    [1, 10],
    [3, 30],
  ]);

  it('eps and momentum may be set, and are checked where they are', () => {
    const bn = new BatchNorm1d(2);
    Object.assign(bn, { eps: 3, momentum: 1 });
    expect(numbers(bn.forward(x))[0]).toBeCloseTo(-1 / 2, 6);
    expect([numbers(bn.runningMean), String(bn)]).toEqual([[2, 20], expect.stringContaining('eps=3.0, momentum=1.0')]);
    bn.momentum = null;
    for (const [field, value, message] of [
      ['eps', '1', /BatchNorm1d: eps must be a number, but got the string "1"/],
      ['eps', NaN, /eps must be finite/],
      ['momentum', undefined, /momentum must be a number, but got undefined/],
      ['trackRunningStats', 1, /trackRunningStats must be a boolean/],
    ] as const) {
      expect(() => Object.assign(bn, { [field]: value })).toThrow(message);
    }
    expect([bn.eps, bn.momentum, bn.trackRunningStats]).toEqual([3, null, true]);
    bn.eps = 0;
    expect(() => bn.forward(x)).toThrow(/eps must be positive during training, but got 0/);
  });

  it('trackRunningStats false: BatchNorm trains without a trace and evaluates by what it has', () => {
    const bn = new BatchNorm1d(2, { momentum: 1 });
    bn.forward(x);
    bn.trackRunningStats = false;
    const y = numbers(bn.forward([[5, 5], [9, 9]])); // prettier-ignore
    expect(y[0]).toBeCloseTo(-1, 4);
    expect([bn.numBatchesTracked, numbers(bn.runningMean)]).toEqual([1, [2, 20]]);
    expect(numbers(bn.eval().forward([[2, 20]]))).toEqual([0, 0]);
    expect([...bn.stateDict().keys()]).toContain('num_batches_tracked');
    expect(String(bn)).toMatch(/track_running_stats=False/);
  });

  it('trackRunningStats true on a BatchNorm made without: there is nothing to move', () => {
    const bn = new BatchNorm1d(2, { trackRunningStats: false });
    bn.trackRunningStats = true;
    const y = numbers(bn.forward(x));
    expect([numbers(bn.eval().forward(x)), bn.numBatchesTracked]).toEqual([y, null]);
  });

  it('InstanceNorm goes by the option, in evaluation too', () => {
    const layer = new InstanceNorm1d(1, { trackRunningStats: true, momentum: 1 });
    const input = [[[1, 3]]];
    layer.forward(input);
    layer.trackRunningStats = false;
    expect(numbers(layer.forward([[[5, 9]]]))[1]).toBeCloseTo(1, 4);
    expect(numbers(layer.eval().forward(input))[1]).toBeCloseTo(1, 4);
    expect(numbers(layer.runningMean)).toEqual([2]);
    layer.trackRunningStats = true;
    expect(numbers(layer.forward([[[2, 2]]]))).toEqual([0, 0]);
    const without = new InstanceNorm1d(1).eval();
    without.trackRunningStats = true;
    expect(() => without.forward(input)).toThrow(
      /Expected running_mean and running_var to be defined when use_input_stats is false/,
    );
    expect(without.train().forward(input).shape).toEqual([1, 1, 2]);
  });
});
