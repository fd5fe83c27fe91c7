// The product, as a user calls it: a layer, with `out` where memory is reused. BENCH_PACKAGE names another build of it.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { EPS, IMAGES, inMemory, inputsOf, LRN, MOMENTUM, pixelsOf, product } from '../cells.mjs';
import { root } from '../build.mjs';
import { serve } from './serve.mjs';

const folder = process.env.BENCH_PACKAGE ?? root;
const require = createRequire(join(folder, 'package.json'));
const simdnorm = require(folder);
const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));

function layerOf({ op, shape, param }) {
  const dimensions = `${Math.max(1, shape.length - 2)}d`;
  const row = shape.slice(-param);
  const channels = shape[1];
  switch (op) {
    case 'batchnorm':
      return new simdnorm[`BatchNorm${dimensions}`](channels, { eps: EPS, momentum: MOMENTUM });
    case 'instancenorm':
      return new simdnorm[`InstanceNorm${dimensions}`](channels, { eps: EPS, affine: true });
    case 'groupnorm':
      return new simdnorm.GroupNorm(param, channels, { eps: EPS });
    case 'layernorm':
      return new simdnorm.LayerNorm(row, { eps: EPS });
    case 'rmsnorm':
      return new simdnorm.RMSNorm(row, { eps: EPS });
    case 'lrn':
      return new simdnorm.LocalResponseNorm(param, LRN);
  }
}

function imagesOf(cell) {
  const { imagesToTensor } = require(join(folder, 'dist', 'preprocessing'));
  const [n, channels, height, width] = cell.shape;
  const x = simdnorm.tensor(pixelsOf(cell), [n, height, width, channels]);
  const options = cell.variant === 'reused' ? { ...IMAGES, out: new Float32Array(product(cell.shape)) } : IMAGES;
  let y;
  return { run: () => (y = imagesToTensor(x, options)), results: () => ({ y: y.data }) };
}

function statisticsOf(cell) {
  const { RunningMoments } = require(join(folder, 'dist', 'preprocessing'));
  const x = simdnorm.tensor(inputsOf(cell).x, cell.shape);
  let moments;
  const run = () => (moments = new RunningMoments(cell.shape[1]).update(x));
  return { run, results: () => ({ mean: moments.mean, var: moments.variance() }) };
}

function prepare(cell) {
  const { op, mode, variant, threads } = cell;
  simdnorm.setNumThreads(threads);
  if (op === 'none') return { run: simdnorm.getNumThreads, results: () => ({}) };
  if (op === 'images') return imagesOf(cell);
  if (op === 'statistics') return statisticsOf(cell);

  const tensor = (data) => {
    const sizes = inMemory(cell);
    const whole = simdnorm.tensor(data, sizes);
    if (cell.layout === 'nchw') return whole;
    return whole.permute(0, sizes.length - 1, ...sizes.slice(2).map((_, i) => i + 1));
  };
  const inputs = inputsOf(cell);
  const layer = layerOf(cell);
  layer.weight?.data.set(inputs.weight);
  layer.bias?.data.set(inputs.bias);
  layer.runningMean?.data.set(inputs.runningMean);
  layer.runningVar?.data.set(inputs.runningVar);
  const x = tensor(inputs.x);
  const options = variant === 'reused' ? { out: tensor(new Float32Array(product(cell.shape))) } : {};

  let last;
  const result = (name, extra) => () => ({ [name]: last.data, ...extra() });
  const forward = () => (last = layer.forward(x, options));
  if (mode === 'eval') {
    layer.eval();
    return { run: () => simdnorm.noGrad(forward), results: result('y', () => ({})) };
  }
  if (mode === 'train') {
    const { runningMean, runningVar } = layer;
    const running = () => (runningMean ? { runningMean: runningMean.data, runningVar: runningVar.data } : {});
    return { run: forward, results: result('y', running) };
  }
  // A backward releases what its forward kept: put back, so that one forward does for all.
  const context = layer.context();
  layer.forward(x, { context });
  const { saved } = context;
  const dy = tensor(inputs.dy);
  const backOptions = { ...options, context };
  const gradients = () => ({
    ...(layer.weight && { dweight: layer.weight.grad.data }),
    ...(layer.bias && { dbias: layer.bias.grad.data }),
  });
  return {
    run() {
      context.saved = saved;
      last = layer.backward(dy, backOptions);
    },
    results: result('dx', gradients),
  };
}

await serve('simdnorm', `${version} ${simdnorm.isa.active}`, prepare);
