// The plan of a layer's latest forward, which the next one like it takes again: most layers see one shape all their
// life, and to make a plan costs more than to normalize a thousand elements by it.

import type { Tensor } from '../tensor';
import type { Plan } from './call';
import type { Layout } from './layout';

export class LatestPlan {
  readonly #layout: Layout;

  /**
   * What a plan is made of: the layout of its input and all this, and what a kind of layer has of its own (see
   * `Norm.settled`). Of weight and bias only which tensors they are: what is in them is read anew.
   */
  constructor(
    readonly plan: Plan,
    x: Tensor,
    readonly weight: Tensor | null,
    readonly bias: Tensor | null,
    readonly relu: boolean,
    /** Whether running statistics take in the batch. */
    readonly update: boolean,
    /** `Norm.judges` */
    readonly judged: boolean,
  ) {
    this.#layout = x.layout;
  }

  /** Whether a new plan would be the same. */
  serves(x: Tensor, weight: Tensor | null, bias: Tensor | null, relu: boolean, update: boolean): boolean {
    return (
      this.#layout.equals(x.layout) &&
      weight === this.weight &&
      bias === this.bias &&
      relu === this.relu &&
      update === this.update
    );
  }
}
