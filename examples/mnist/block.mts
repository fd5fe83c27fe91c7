// x + second(relu(first(norm(x)))): a network in a class of its own, and a part of larger ones. Its parts are its fields.

import { LayerNorm, Module, tensor, type Tensor } from 'simdnorm';
import { floats } from './floats.mjs';
import { Linear } from './linear.mjs';
import type { Random } from './random.mjs';
import { ReLU } from './relu.mjs';

export class Block extends Module {
  readonly norm: LayerNorm;
  readonly first: Linear;
  readonly relu = new ReLU();
  readonly second: Linear;

  constructor(width: number, random: Random) {
    super();
    this.norm = new LayerNorm(width);
    this.first = new Linear(width, width, random);
    this.second = new Linear(width, width, random);
  }

  override forward(x: Tensor): Tensor {
    return add(x, this.second.forward(this.relu.forward(this.first.forward(this.norm.forward(x)))));
  }

  /** The gradient takes both ways: around, unchanged, and through. */
  override backward(dy: Tensor): Tensor {
    return add(dy, this.norm.backward(this.first.backward(this.relu.backward(this.second.backward(dy)))));
  }
}

function add(a: Tensor, b: Tensor): Tensor {
  const [left, right] = [floats(a), floats(b)];
  return tensor(
    left.map((value, i) => value + right[i]!),
    a.shape,
  );
}
