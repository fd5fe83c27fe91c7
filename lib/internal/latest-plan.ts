// The plan of a layer's latest forward, which the next one like it takes again: most layers see one shape all their
// life, and to make a plan costs more than to normalize a thousand elements by it.

import type { Tensor } from '../tensor';
import type { Plan } from './call';
import type { Layout } from './layout';

/** What a plan is made of is all here, but for what a kind of layer has of its own: see `Norm.settled`. */
export interface PlanKey {
  readonly weight: Tensor | null;
  readonly bias: Tensor | null;
  readonly relu: boolean;
  /** Running statistics take in the batch, */
  readonly update: boolean;
  /** and wait for `updateRunning`. */
  readonly defer: boolean;
}

export class LatestPlan {
  readonly #layout: Layout;

  /** For inputs like x. */
  constructor(
    readonly plan: Plan,
    x: Tensor,
    readonly key: PlanKey,
  ) {
    this.#layout = x.layout;
  }

  /** Whether it is the plan for such an input too. Of the weights only who they are: what is in them is read anew. */
  serves(
    x: Tensor,
    weight: Tensor | null,
    bias: Tensor | null,
    relu: boolean,
    update: boolean,
    defer: boolean,
  ): boolean {
    const { key } = this;
    return (
      this.#layout.equals(x.layout) &&
      weight === key.weight &&
      bias === key.bias &&
      relu === key.relu &&
      update === key.update &&
      defer === key.defer
    );
  }
}
