// TensorFlow.js with its WebAssembly backend (SIMD; in Node without threads). Tensors stay in the backend: neither the
// upload nor dataSync() is timed, which favours it. Outputs are always new tensors, disposed of at once, in memory that
// the heap hands out again: `fresh` and `reused` are one. Its batchNorm has the channels last, so that channels-first is
// composed by broadcasting, as GroupNorm and the rest are.

import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { EPS, inMemory, inputsOf, product } from '../cells.mjs';
import { serve, Unsupported } from './serve.mjs';

const require = createRequire(`${process.env.BENCH_PEERS}/`);
console.warn = console.log = () => {}; // standard output is for answers
const tf = require('@tensorflow/tfjs');
const wasm = require('@tensorflow/tfjs-backend-wasm');
wasm.setWasmPaths(`${dirname(require.resolve('@tensorflow/tfjs-backend-wasm'))}/`);
await tf.setBackend('wasm');
await tf.ready();

const xHat = (x, { mean, variance }) => x.sub(mean).mul(tf.rsqrt(variance.add(EPS)));

/** The norm as a function of x, weight and bias, with the shape that these two have to have. */
function normOf({ op, shape, param, layout, mode }, running) {
  const [n, channels, ...spatial] = shape;
  const last = layout === 'nhwc' || spatial.length === 0;
  const ofChannels = last ? [channels] : [1, channels, ...spatial.map(() => 1)];
  switch (op) {
    case 'batchnorm': {
      const rank = shape.length;
      const axes = last ? [...Array(rank - 1).keys()] : [0, ...spatial.map((_, i) => i + 2)];
      const [mean, variance] = running.map((data) => tf.tensor(data, ofChannels));
      return {
        sizes: ofChannels,
        norm(x, weight, bias) {
          const by = mode === 'eval' ? { mean, variance } : tf.moments(x, axes, !last);
          if (last) return tf.batchNorm(x, by.mean, by.variance, bias, weight, EPS);
          const scale = weight.mul(tf.rsqrt(by.variance.add(EPS)));
          return x.mul(scale).add(bias.sub(by.mean.mul(scale)));
        },
      };
    }
    case 'layernorm':
    case 'rmsnorm': {
      const axes = shape.map((_, i) => i).slice(-param);
      const layer = (x, weight, bias) =>
        xHat(x, tf.moments(x, axes, true))
          .mul(weight)
          .add(bias);
      const rms = (x, weight) => x.mul(tf.rsqrt(x.square().mean(axes, true).add(EPS))).mul(weight);
      return { sizes: shape.slice(-param), norm: op === 'layernorm' ? layer : rms };
    }
    case 'groupnorm':
    case 'instancenorm': {
      if (layout === 'nhwc') throw new Unsupported('composed for channels first only');
      const groups = op === 'groupnorm' ? param : channels;
      const plane = product(spatial);
      return {
        sizes: [1, channels, 1],
        norm(x, weight, bias) {
          const rows = x.reshape([n, groups, (channels / groups) * plane]);
          const y = xHat(rows, tf.moments(rows, [2], true)).reshape([n, channels, plane]);
          return y.mul(weight).add(bias).reshape(shape);
        },
      };
    }
    default:
      throw new Unsupported('no such kernel');
  }
}

function prepare(cell) {
  if (cell.threads !== 1) throw new Unsupported('one thread only');
  tf.engine().startScope(); // what is made from here on goes at its end
  const inputs = inputsOf(cell);
  const { norm, sizes } = normOf(cell, [inputs.runningMean, inputs.runningVar]);
  const parameters = [inputs.weight, inputs.bias].filter(Boolean).map((data) => tf.tensor(data, sizes));
  const given = [tf.tensor(inputs.x, inMemory(cell)), ...parameters];
  const names = cell.mode === 'backward' ? ['dx', 'dweight', 'dbias'].slice(0, given.length) : ['y'];
  const gradients = tf.grads(norm);
  const dy = inputs.dy && tf.tensor(inputs.dy, inMemory(cell));
  const compute = () => tf.tidy(() => (dy ? gradients(given, dy) : [norm(...given)]));
  return {
    run: () => compute().forEach((t) => t.dispose()),
    results: () => Object.fromEntries(compute().map((t, i) => [names[i], t.dataSync()])),
    release: () => tf.engine().endScope(),
  };
}

await serve('tfjs', `${tf.version.tfjs} wasm`, prepare);
