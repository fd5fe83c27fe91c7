// Layers that stand in a model of TensorFlow.js in the place of its batchNormalization and layerNormalization: the same
// weights in the same order, computed by our operations.

import * as tf from '@tensorflow/tfjs-core';
import { initializers, layers, type LayerVariable } from '@tensorflow/tfjs-layers';
import { batchNorm, batchNormInference, layerNorm } from './ops.mjs';

/** What a call of `model.apply` says beside the input. */
interface Call {
  training?: boolean;
}

abstract class Normalization extends layers.Layer {
  protected gamma!: LayerVariable;
  protected beta!: LayerVariable;

  constructor(protected readonly epsilon = 1e-3) {
    super({});
  }

  override build(inputShape: number[]): void {
    this.gamma = this.variable('gamma', inputShape, 1);
    this.beta = this.variable('beta', inputShape, 0);
    this.built = true;
  }
  protected variable(name: string, inputShape: number[], value: number, trainable = true): LayerVariable {
    const start = initializers.constant({ value });
    return this.addWeight(name, inputShape.slice(-1), 'float32', start, undefined, trainable);
  }

  protected abstract normalize(x: tf.Tensor, call: Call): tf.Tensor;

  override call(inputs: tf.Tensor | tf.Tensor[], call: Call): tf.Tensor {
    return tf.tidy(() => this.normalize(Array.isArray(inputs) ? inputs[0]! : inputs, call));
  }
}

export class SimdBatchNormalization extends Normalization {
  static className = 'SimdBatchNormalization';
  #mean!: LayerVariable;
  #variance!: LayerVariable;

  /** momentum: the share of the old in the moving statistics, as TensorFlow.js has it. */
  constructor(readonly momentum = 0.99) {
    super();
  }

  override build(inputShape: number[]): void {
    super.build(inputShape);
    this.#mean = this.variable('moving_mean', inputShape, 0, false);
    this.#variance = this.variable('moving_variance', inputShape, 1, false);
  }

  protected override normalize(x: tf.Tensor, { training = false }: Call): tf.Tensor {
    const [gamma, beta] = [this.gamma.read(), this.beta.read()];
    if (!training) {
      return batchNormInference(x, gamma, beta, this.#mean.read(), this.#variance.read(), this.epsilon);
    }
    const { output, mean, variance } = batchNorm(x, gamma, beta, this.epsilon);
    this.#move(this.#mean, mean);
    // The biased variance, as TensorFlow.js: our own layers and `runningVar` take the unbiased one, as torch.
    this.#move(this.#variance, variance);
    return output;
  }

  #move(moving: LayerVariable, batch: Float64Array): void {
    const { momentum } = this;
    const moved = moving
      .read()
      .dataSync<'float32'>()
      .map((old, c) => momentum * old + (1 - momentum) * batch[c]!);
    moving.write(tf.tensor1d(moved));
  }
}

export class SimdLayerNormalization extends Normalization {
  static className = 'SimdLayerNormalization';

  protected override normalize(x: tf.Tensor): tf.Tensor {
    return layerNorm(x, this.gamma.read(), this.beta.read(), this.epsilon);
  }
}
