// What every normalization layer shares: its parameters' gradients, and what a forward keeps until backward. A layer says
// how it reads its input and what is to be computed; nothing here knows a layer by name.

import { Flag } from '../internal/addon';
import { forwardAsync } from '../internal/async';
import { addendOf, backward, forward, type FloatDType, type Plan, type Saved } from '../internal/call';
import { checkBoolean, checkNumber, describe, formatShape } from '../internal/errors';
import { LatestPlan } from '../internal/latest-plan';
import { backwardPacked, forwardPacked, type MaskOptions, type PackedSaved, type Packing } from '../internal/mask';
import type { Reading } from '../internal/plan';
import { allocate, elementsOf, Parameter, Tensor, type TensorData, type TensorLike } from '../tensor';
import {
  callNames,
  Layer,
  type AsyncForwardOptions,
  type BackwardOptions,
  type ForwardOptions,
  type LayerOptions,
} from './layer';

export type { FloatDType };

export interface NormForwardOptions extends ForwardOptions, MaskOptions {
  /**
   * Whether running statistics take in the batch, and count it, in training; default true. false is for a forward that
   * is computed again, as activation checkpointing does.
   */
  updateStats?: boolean | undefined;
  /**
   * Added to the output in the same pass, before the layer's ReLU if it has one: the shortcut of a residual block. Of the
   * input's dtype and shape. Behind a ReLU backward needs it, and it must not be overwritten before then.
   */
  add?: TensorLike | undefined;
}

export type NormAsyncForwardOptions = AsyncForwardOptions & Pick<NormForwardOptions, 'updateStats'>;

export interface NormBackwardOptions extends BackwardOptions {
  /** Where to write the gradient of `add`, which the forward was given. */
  gradAdd?: TensorData | Tensor | undefined;
}

const forwardNames = [...callNames.forward, 'updateStats', 'mask', 'lengths', 'add'];
const backwardNames = [...callNames.backward, 'gradAdd'];

export abstract class Norm extends Layer<Saved | PackedSaved> {
  abstract readonly weight: Parameter | null;
  abstract readonly bias: Parameter | null;
  /** Whether the output goes through max(0, y), in the same pass. */
  readonly relu: boolean;
  #latest: LatestPlan | null = null;
  /** Statistics that were released, for the next forward's: a new array costs as much as the kernel. */
  #spare: Float64Array | null = null;

  /** `names`: the options that the layer knows besides those of every norm. */
  protected constructor(options: NormOptions, names: readonly string[]) {
    super(options, [...names, 'relu']);
    this.relu = readOption.boolean(this.where, 'relu', options.relu, false);
  }

  protected override get forwardNames(): readonly string[] {
    return forwardNames;
  }
  protected override get backwardNames(): readonly string[] {
    return backwardNames;
  }

  /** How the layer reads x, or torch's refusal of its rank. */
  protected abstract read(x: Tensor, where: string): Reading;
  /** What is to be computed, or torch's refusal of what does not fit. */
  protected abstract plan(x: Reading, where: string): Plan;
  /**
   * Whether all that `read`, `plan` and `judges` look at in the layer, but weight and bias, is as it was when this was last asked.
   * What they look at and this does not would leave an old plan in use.
   */
  protected abstract settled(): boolean;
  /** Which of the input is data, packed: see internal/mask.ts. */
  protected abstract pack(x: Reading, where: string, options: MaskOptions): Packing;
  /** Whether `commit` looks at the batch's statistics before running ones may move. */
  protected get judges(): boolean {
    return false;
  }
  /** The way into the kernels and back. */
  protected compute(...all: Parameters<typeof forward>): ReturnType<typeof forward> {
    return forward(...all);
  }
  protected computeBack(...all: Parameters<typeof backward>): ReturnType<typeof backward> {
    return backward(...all);
  }
  protected computeAsync(...all: Parameters<typeof forwardAsync>): ReturnType<typeof forwardAsync> {
    return forwardAsync(...all);
  }
  /** After the kernels; throws to refuse. `deferred` has the batch's parts where running statistics are still to move. */
  protected commit(_where: string, _update: boolean, _plan: Plan, _deferred: readonly Saved[] | null): void {}

  /**
   * Normalizes the input and, with gradients on, keeps a reference to it and its statistics for `backward`: the input
   * must not be overwritten before then (or pass `saveInput: 'copy'`). Inside `noGrad` it keeps nothing, and what an
   * earlier forward kept stays.
   *
   * With `mask` or `lengths` the result has the bits of the data without their padding: BatchNorm takes all valid
   * positions together, InstanceNorm and GroupNorm each sample's own (whose statistics the running ones average),
   * LayerNorm and RMSNorm leave whole rows out, or elements with their weights. Samples of equal lengths are the batch
   * without padding; others are one sequence after the other in BatchNorm, and each a batch of its own elsewhere. Output
   * and gradient are 0 in the padding, which may hold anything. What backward needs is a copy of the valid positions.
   *
   * @throws TypeError, RangeError for an input the layer does not take; the layer is then exactly as before
   */
  override forward(input: TensorLike, options?: NormForwardOptions): Tensor {
    return super.forward(input, options);
  }

  /**
   * The gradient of the input of the latest forward that had gradients on; adds the gradients of weight and bias into
   * their `grad`. What forward kept is released.
   *
   * @param gradOutput of the output's shape and dtype
   * @throws StateError (`code` 'ERR_NO_FORWARD') without a forward since the last backward
   * @throws RangeError for another shape, TypeError for another dtype
   */
  override backward(gradOutput: TensorLike, options?: NormBackwardOptions): Tensor {
    return super.backward(gradOutput, options);
  }

  protected override run(
    x: Tensor,
    keep: 'reference' | 'copy' | null,
    options: NormForwardOptions,
    where: string,
  ): { y: Tensor; saved: Saved | PackedSaved | null } {
    const { out, updateStats = true, add, mask, lengths } = options;
    checkBoolean(where, 'updateStats', updateStats);
    const masked = mask !== undefined || lengths !== undefined;
    const reading = masked || add !== undefined ? this.read(x, where) : null;
    const addend = add === undefined ? null : addendOf(add, x, where);
    if (masked) {
      const packing = this.pack(reading!, where, { mask, lengths });
      const planOf = (part: Reading): Plan => this.#planOf(part, where, updateStats, true);
      const compute: typeof forward = (...all) => this.compute(...all);
      const kept = keep ? 'reference' : 'statistics';
      const { y, saved } = forwardPacked(where, x, packing, planOf, kept, addend, out, compute);
      if (saved.parts.length > 0) this.commit(where, updateStats, saved.parts[0]!.plan, saved.parts);
      return { y, saved: keep && saved };
    }
    const { plan, judged } = this.#planFor(x, reading, where, updateStats);
    const kept = keep ?? (judged ? 'statistics' : null);
    const spare = keep && !judged ? this.#takeSpare() : null;
    const { y, saved } = this.compute(where, x, plan, kept, out, addend, spare);
    this.commit(where, updateStats, plan, judged ? [saved!] : null);
    return { y, saved: keep && saved };
  }

  protected override get asyncNames(): readonly string[] | null {
    return ['updateStats'];
  }
  protected override async runAsync(
    x: Tensor,
    keeps: boolean,
    { out, updateStats = true }: NormAsyncForwardOptions,
    where: string,
  ): Promise<{ y: Tensor; saved: Saved | null }> {
    checkBoolean(where, 'updateStats', updateStats);
    const plan = this.#planOf(this.read(x, where), where, updateStats, true);
    const { y, saved } = await this.computeAsync(where, x, plan, keeps ? 'reference' : 'statistics', out);
    this.commit(where, updateStats, plan, [saved]);
    return { y, saved: keeps ? saved : null };
  }
  override forwardAsync(input: TensorLike, options: NormAsyncForwardOptions = {}): Promise<Tensor> {
    return super.forwardAsync(input, options);
  }

  protected override release(saved: Saved | PackedSaved): void {
    // What a collector was given, it may have kept.
    if (!('packing' in saved) && !saved.plan.defer) this.#spare = saved.statistics;
  }
  #takeSpare(): Float64Array | null {
    const spare = this.#spare;
    this.#spare = null;
    return spare;
  }

  /** The plan of the latest forward, where it serves, or a new one. */
  #planFor(x: Tensor, reading: Reading | null, where: string, update: boolean): LatestPlan {
    const latest = this.#latest;
    const { weight, bias, relu } = this;
    if (!this.settled()) this.#latest = null;
    else if (latest?.serves(x, weight, bias, relu, update)) return latest;
    const { judges } = this;
    const plan = this.#planOf(reading ?? this.read(x, where), where, update, judges);
    return (this.#latest = new LatestPlan(plan, x, weight, bias, relu, update, judges));
  }

  #planOf(x: Reading, where: string, update: boolean, defer: boolean): Plan {
    const plan = this.plan(x, where);
    if (this.relu) plan.flags += Flag.relu;
    if (plan.flags & Flag.useRunning) return plan;
    if (!update) plan.runningMean = plan.runningVar = null;
    plan.defer = defer;
    return plan;
  }

  protected override runBack(
    saved: Saved | PackedSaved,
    dy: Tensor,
    { out, gradAdd }: NormBackwardOptions,
    where: string,
  ): Tensor {
    const added = 'packing' in saved ? saved.parts[0]?.add : saved.add;
    if (gradAdd !== undefined && !added) {
      throw new RangeError(`${where}: gradAdd goes with a forward that was given add`);
    }
    const { weight, bias, take } = this.gradients(where);
    const dx =
      'packing' in saved
        ? backwardPacked(where, saved, dy, weight, bias, out, gradAdd, (...all) => this.computeBack(...all))
        : this.computeBack(where, saved, dy, weight, bias, out, gradAdd)!;
    take();
    return dx;
  }

  /** What a backward adds to, which are the parameters' own once it has not thrown. */
  protected gradients(where: string): { weight: Tensor | null; bias: Tensor | null; take: () => void } {
    const weight = this.#gradOf(this.weight, where, 'weight');
    const bias = this.#gradOf(this.bias, where, 'bias');
    const take = (): void => {
      if (this.weight && weight) this.weight.grad = weight;
      if (this.bias && bias) this.bias.grad = bias;
    };
    return { weight, bias, take };
  }

  override toString(): string {
    return this.relu ? super.toString().replace(/\)$/, ', relu=True)') : super.toString();
  }

  #gradOf(parameter: Parameter | null, where: string, name: string): Tensor | null {
    if (!parameter?.requiresGrad || this.frozen) return null;
    if (parameter.grad !== null && !((parameter.grad as unknown) instanceof Tensor)) {
      throw new TypeError(`${where}: ${name}.grad must be a Tensor or null, but got ${describe(parameter.grad)}`);
    }
    if (parameter.grad && !parameter.grad.layout.hasShapeOf(parameter.layout)) {
      throw new RangeError(
        `${where}: ${name}.grad has shape ${formatShape(parameter.grad.shape)}, ${name} has ${formatShape(parameter.shape)}`,
      );
    }
    return parameter.grad ?? new Tensor(allocate(this.dtype, parameter.size), parameter.layout.dense(false));
  }
}

/** Ones and zeros, as torch starts them; null where the layer has none. */
export function makeParameter(
  dtype: FloatDType,
  shape: readonly number[],
  fill: 0 | 1,
  present: boolean,
): Parameter | null {
  return present ? new Parameter(allocate(dtype, elementsOf(shape)).fill(fill as never), shape) : null;
}

/** Python's spelling of a number, for `String(layer)`. */
export function python(value: number | boolean | null): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  const magnitude = Math.abs(value);
  if (magnitude !== 0 && (magnitude < 1e-4 || magnitude >= 1e16)) {
    const [digits, exponent] = value.toExponential().split('e') as [string, string];
    return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`;
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

export interface NormOptions extends LayerOptions {
  /** Whether the output goes through max(0, y) in the same pass, forward and backward; default false. */
  relu?: boolean | undefined;
}
export interface EpsOption {
  /** Added to the variance under the root; default 1e-5. */
  eps?: number | undefined;
}

export const readOption = {
  oneOf: <T extends string>(where: string, name: string, value: unknown, known: readonly [T, ...T[]]): T => {
    if (value === undefined) return known[0];
    if (known.includes(value as T)) return value as T;
    const Kind = typeof value === 'string' ? RangeError : TypeError;
    throw new Kind(`${where}: ${name} must be one of '${known.join("', '")}', but got ${describe(value)}`);
  },
  boolean: (where: string, name: string, value: unknown, fallback: boolean): boolean =>
    value === undefined ? fallback : checkBoolean(where, name, value),
  number: (where: string, name: string, value: unknown, fallback: number): number =>
    value === undefined ? fallback : checkNumber(where, name, value),
};
