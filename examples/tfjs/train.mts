// Teaches two networks of TensorFlow.js the same digits in the same order from the same initial weights: one normalizes
// with its own layers, the other with ours. Fails unless they stay together, learn, and leave no tensor behind.

import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { initializers, layers, sequential, type Sequential } from '@tensorflow/tfjs-layers';
import { isa, tensor } from 'simdnorm';
import { batches, readDigits, type Digits } from '../mnist/digits.mjs';
import { accuracy, percent } from '../mnist/loss.mjs';
import { seeded } from '../mnist/random.mjs';
import { SimdBatchNormalization, SimdLayerNormalization } from './layers.mjs';

const batchSize = 50;
const momentum = 0.9;
const goal = 0.9;
/**
 * For losses and weights. Both networks compute in float32 and round in other places. TensorFlow.js alone, started with
 * every weight one rounding (2^-23) up or down, ends 2.4e-7 and 3.6e-7 from itself; off by 1e-4, it ends 2e-2 and 5e-2.
 */
const bound = 1e-5;

function build(batchNorm: layers.Layer, layerNorm: layers.Layer): Sequential {
  const kernelInitializer = initializers.heNormal({ seed: 1 });
  // No biases before a normalization, which would take them away again.
  const plain = { useBias: false, kernelInitializer };
  return sequential({
    layers: [
      layers.conv2d({ inputShape: [28, 28, 1], filters: 4, kernelSize: 3, strides: 2, padding: 'same', ...plain }),
      batchNorm,
      layers.reLU(),
      layers.flatten(),
      layers.dense({ units: 32, ...plain }),
      layerNorm,
      layers.reLU(),
      layers.dense({ units: 10, kernelInitializer }),
    ],
  });
}

class Learner {
  readonly optimizer = tf.train.momentum(0.05, 0.9);
  milliseconds = 0;
  constructor(readonly net: Sequential) {}

  step(x: tf.Tensor, wanted: tf.Tensor): number {
    const started = performance.now();
    const loss = this.optimizer.minimize(() => {
      const logits = this.net.apply(x, { training: true }) as tf.Tensor;
      return tf.losses.softmaxCrossEntropy(wanted, logits);
    }, true)!;
    const [value] = loss.dataSync();
    loss.dispose();
    this.milliseconds += performance.now() - started;
    return value!;
  }

  accuracy({ images, labels }: Digits): number {
    return tf.tidy(() => {
      const logits = this.net.apply(tf.tensor(images, [labels.length, 28, 28, 1])) as tf.Tensor;
      return accuracy(tensor(logits.dataSync<'float32'>(), [labels.length, 10]), labels);
    });
  }
}

/** The furthest that two lists of weights are from each other: kernels, gammas, betas, moving statistics. */
function furthest(a: tf.Tensor[], b: tf.Tensor[]): number {
  return tf.tidy(() => Math.max(...a.map((t, i) => tf.max(tf.abs(tf.sub(t, b[i]!))).dataSync<'float32'>()[0]!)));
}

function main(): void {
  const started = performance.now();
  const { train: digits, test: heldOut } = readDigits(2000, seeded(1));
  const theirs = new Learner(build(layers.batchNormalization({ momentum }), layers.layerNormalization()));
  const ours = new Learner(build(new SimdBatchNormalization(momentum), new SimdLayerNormalization()));
  ours.net.setWeights(theirs.net.getWeights());

  console.log(`losses of TensorFlow.js ${tf.version_core} and with simdnorm (${isa.active}) in it`);
  let step = 0;
  let losses = 0;
  let tensors = 0;
  for (const { x, labels } of batches(digits, batchSize, seeded(2))) {
    const images = tf.tensor(x.data as Float32Array, [batchSize, 28, 28, 1]);
    const wanted = tf.tidy(() => tf.oneHot(tf.tensor1d(labels, 'int32'), 10));
    const [a, b] = [theirs.step(images, wanted), ours.step(images, wanted)];
    tf.dispose([images, wanted]);
    losses = Math.max(losses, Math.abs(a - b));
    // The first step makes the optimizers' velocities, which stay.
    if (++step === 1) tensors = tf.memory().numTensors;
    if (step % 20 === 0) console.log(`  step ${String(step).padStart(3)}  ${a.toFixed(7)}  ${b.toFixed(7)}`);
  }

  const weights = furthest(theirs.net.getWeights(), ours.net.getWeights());
  const right = { theirs: theirs.accuracy(heldOut), ours: ours.accuracy(heldOut) };
  const seconds = (performance.now() - started) / 1000;
  console.log(`largest difference of losses ${losses.toExponential(1)}, of weights ${weights.toExponential(1)}`);
  console.log(`of the held-out digits are right: ${percent(right.theirs)} and ${percent(right.ours)}`);
  const perStep = ({ milliseconds }: Learner): string => `${(milliseconds / step).toFixed(0)} ms`;
  console.log(`${perStep(theirs)} and ${perStep(ours)} a step; ${seconds.toFixed(1)} s in all`);

  if (!(losses <= bound && weights <= bound)) throw new Error(`expected differences of at most ${bound}`);
  if (Math.abs(right.theirs - right.ours) * heldOut.labels.length > 2) throw new Error('expected the same accuracy');
  if (!(Math.min(right.theirs, right.ours) >= goal)) throw new Error(`expected at least ${percent(goal)} right`);
  const left = tf.memory().numTensors - tensors;
  if (left !== 0) throw new Error(`expected every tensor to be disposed of, but ${left} are left`);
}

main();
