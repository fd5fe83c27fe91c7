// onnxruntime-node, one model of one operator for each cell. What is timed is `await session.run(feeds)`: what a user in
// Node pays, the promise included. There is no backward, and only two operators save statistics.

import { createRequire } from 'node:module';
import { EPS, inputsOf, LRN, MOMENTUM, product } from '../cells.mjs';
import { model } from './onnx.mjs';
import { serve, Unsupported } from './serve.mjs';

const require = createRequire(`${process.env.BENCH_PEERS}/`);
const ort = require('onnxruntime-node');
const { version } = require('onnxruntime-node/package.json');
const epsilon = { float: EPS };

/** The operator of a cell: { opset, type, attributes, constants, saved }. */
function operatorOf({ op, shape, param, mode }, { weight, bias, runningMean, runningVar }) {
  const constant = (name, data, sizes) => ({ name, data, shape: sizes });
  const both = (sizes) => [constant('weight', weight, sizes), constant('bias', bias, sizes)];
  const row = shape.slice(-param);
  const channels = shape.slice(1, 2);
  const statistics = shape.map((size, i) => (i < shape.length - param ? size : 1));
  switch (op) {
    case 'batchnorm': {
      const training = mode === 'train' ? { momentum: { float: 1 - MOMENTUM }, training_mode: 1 } : {};
      return {
        opset: 15,
        type: 'BatchNormalization',
        attributes: { epsilon, ...training },
        constants: [...both(), constant('mean', runningMean), constant('var', runningVar)],
        saved: [
          { name: 'runningMean', shape: channels },
          { name: 'populationVar', shape: channels }, // ONNX averages biased variances: not what is compared
        ],
      };
    }
    case 'layernorm':
      return {
        opset: 17,
        type: 'LayerNormalization',
        attributes: { axis: -param, epsilon },
        constants: both(row),
        saved: [
          { name: 'mean', shape: statistics },
          { name: 'rstd', shape: statistics },
        ],
      };
    case 'groupnorm':
      return {
        opset: 21,
        type: 'GroupNormalization',
        attributes: { epsilon, num_groups: param },
        constants: both(),
      };
    case 'instancenorm':
      return { opset: 17, type: 'InstanceNormalization', attributes: { epsilon }, constants: both() };
    case 'rmsnorm':
      return {
        opset: 23,
        type: 'RMSNormalization',
        attributes: { axis: -param, epsilon },
        constants: [constant('weight', weight, row)],
      };
    case 'lrn': {
      const attributes = {
        alpha: { float: LRN.alpha },
        beta: { float: LRN.beta },
        bias: { float: LRN.k },
        size: param,
      };
      return { opset: 17, type: 'LRN', attributes, constants: [] };
    }
  }
}

async function prepare(cell) {
  const { op, shape, layout, mode, threads, variant } = cell;
  if (mode === 'backward') throw new Unsupported('no gradients');
  if (layout === 'nhwc') throw new Unsupported('channels first only');
  if (['none', 'images', 'statistics'].includes(op)) throw new Unsupported('no such operator');
  const inputs = inputsOf(cell);
  const { saved, ...operator } = operatorOf(cell, inputs);
  if (mode === 'train' && !saved) throw new Unsupported('saves no statistics');
  const outputs = [{ name: 'y', shape }, ...(mode === 'train' ? saved : [])];

  const session = await ort.InferenceSession.create(model({ ...operator, x: { name: 'x', shape }, outputs }), {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
  });
  const feeds = { x: new ort.Tensor('float32', inputs.x, shape) };
  const empty = (sizes) => new ort.Tensor('float32', new Float32Array(product(sizes)), sizes);
  const fetches = Object.fromEntries(outputs.map((output) => [output.name, empty(output.shape)]));
  let last = fetches;
  return {
    wait: true,
    run:
      variant === 'reused'
        ? async () => void (await session.run(feeds, fetches))
        : async () => void (last = await session.run(feeds)),
    results: () => Object.fromEntries(Object.entries(last).map(([name, { data }]) => [name, data])),
    release: () => session.release(),
  };
}

await serve('onnxruntime', version, prepare);
