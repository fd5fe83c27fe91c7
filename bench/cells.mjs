// One cell of the grid made ready: inputs, the layer, the plain loops, the copy, and the exact answers.

import * as simdnorm from 'simdnorm';
import { EPS } from './grid.mjs';
import { examine } from './oracle.mjs';
import { plain } from './peers/plain.mjs';

// Element i of stream s is uniform: the same numbers in every run.
function uniform(length, stream, low, high) {
  const out = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    let h = Math.imul((i + Math.imul(stream, 0x9e3779b1)) | 0, 0x85ebca6b);
    h ^= h >>> 15;
    h = Math.imul(h, 0xc2b2ae35);
    h ^= h >>> 13;
    out[i] = low + (high - low) * ((h >>> 8) / 2 ** 24);
  }
  return out;
}

/** Everything that the three modes of one row share. */
export function rowOf({ layer, geometry, about }) {
  const [batch, outer, groups, inner, , channels] = geometry;
  const length = batch * outer * groups * inner;
  const tracked = layer.startsWith('BatchNorm');
  return {
    geometry,
    about,
    eps: EPS,
    x: uniform(length, 1, -1, 3),
    dy: uniform(length, 2, -1, 1),
    weight: uniform(channels, 3, 0.5, 1.5),
    bias: layer === 'RMSNorm' ? null : uniform(channels, 4, -0.5, 0.5),
    before: tracked ? { mean: uniform(channels, 5, 0, 1), var: uniform(channels, 6, 0.5, 1.5) } : null,
    y: new Float32Array(length),
    dx: new Float32Array(length),
    copy: new Float32Array(length),
    exact: {},
  };
}

/** { ulp, faults } of the results, and the { contestants } of the race; `row` is that of rowOf. */
export function prepare(cell, row) {
  const { mode } = cell;
  const product = ours(cell, row);
  const byRunning = mode === 'eval' && row.before !== null;
  row.exact[byRunning] ??= examine({ ...row, running: byRunning ? row.before : null });
  const { judge } = row.exact[byRunning];
  // Both checked: ours for the figure, the loops so that they do the same work.
  const { ulp, faults } = judge(product.result());
  const loops = theirs(cell, row);
  faults.push(...judge(loops.result()).faults.map((fault) => `plain: ${fault}`));
  return { ulp, faults, contestants: { simdnorm: product, plain: loops, copy: copyOf(cell, row) } };
}

function ours({ layer: name, args, shape, last, mode }, row) {
  const options = typeof args.at(-1) === 'object' && !Array.isArray(args.at(-1)) ? args.at(-1) : {};
  const layer = new simdnorm[name](...args.filter((arg) => arg !== options), { eps: EPS, ...options });
  layer.weight.data.set(row.weight);
  layer.bias?.data.set(row.bias);
  if (row.before) {
    layer.runningMean.data.set(row.before.mean);
    layer.runningVar.data.set(row.before.var);
  }
  const { noGrad, tensor } = simdnorm;
  const asTensor = (data) => {
    if (!last) return tensor(data, shape);
    const [n, c, ...spatial] = shape;
    return tensor(data, [n, ...spatial, c]).permute(0, spatial.length + 1, ...spatial.map((_, i) => i + 1));
  };
  const [x, y, dy, dx] = [row.x, row.y, row.dy, row.dx].map(asTensor);
  if (mode === 'eval') {
    layer.eval();
    const run = () => noGrad(() => layer.forward(x, { out: y }));
    return { run, result: () => (run(), { y: row.y }) };
  }
  if (mode === 'train') {
    const run = () => layer.forward(x, { out: y });
    const running = () =>
      row.before ? { runningMean: layer.runningMean.data, runningVar: layer.runningVar.data } : {};
    return { run, result: () => (run(), { y: row.y, ...running() }) };
  }
  // A backward releases what its forward kept, so there is a forward, untimed and with a context of its own, for each.
  let contexts = [];
  const kept = () => {
    const context = layer.context();
    layer.forward(x, { out: y, context });
    return context;
  };
  const run = () => layer.backward(dy, { out: dx, context: contexts.pop() });
  const grads = () => ({ dweight: layer.weight.grad.data, ...(layer.bias && { dbias: layer.bias.grad.data }) });
  return {
    prepare: (calls) => void (contexts = Array.from({ length: calls }, kept)),
    run,
    result: () => (layer.zeroGrad(), (contexts = [kept()]), run(), { dx: row.dx, ...grads() }),
  };
}

// One set of loops for the modes of a row, so that they run the same compiled code.
function theirs({ mode }, row) {
  if (!row.loops) {
    const { before, weight, bias } = row;
    row.mine = {
      ...row,
      runningMean: before && before.mean.slice(),
      runningVar: before && before.var.slice(),
      dweight: new Float32Array(weight.length),
      dbias: bias && new Float32Array(bias.length),
    };
    row.loops = plain(row.mine);
  }
  const { loops, mine } = row;
  if (row.before) {
    mine.runningMean.set(row.before.mean);
    mine.runningVar.set(row.before.var);
  }
  loops.forward(mode);
  if (mode !== 'backward') return { run: () => loops.forward(mode), result: () => ({ y: row.y }) };
  const { dx, dweight, dbias } = mine;
  return { run: loops.backward, result: () => (loops.backward(), { dx, dweight, ...(dbias && { dbias }) }) };
}

// As many bytes read and written as the operation must: x to y; for backward half as much again.
function copyOf({ mode }, row) {
  if (mode !== 'backward') return { run: () => row.y.set(row.x) };
  const half = row.x.subarray(0, row.x.length >> 1),
    halfCopy = row.copy.subarray(0, half.length);
  return {
    run: () => {
      row.dx.set(row.dy);
      halfCopy.set(half);
    },
  };
}

/** Calls so small that the way from JavaScript into the kernels is what they cost. */
export function tinyCalls() {
  const { noGrad, tensor, LayerNorm, BatchNorm1d, getNumThreads } = simdnorm;
  const data = uniform(1000, 1, -1, 3);
  const out = (shape) => tensor(new Float32Array(1000), shape);
  const cases = {
    'LayerNorm(10), 20x5x10': [new LayerNorm(10), tensor(data, [20, 5, 10]), out([20, 5, 10])],
    'BatchNorm1d(100), 10x100, train': [new BatchNorm1d(100), tensor(data, [10, 100]), out([10, 100])],
    'BatchNorm1d(100), 10x100, eval': [new BatchNorm1d(100).eval(), tensor(data, [10, 100]), out([10, 100])],
    'BatchNorm1d(5), 20x5x10, train': [new BatchNorm1d(5), tensor(data, [20, 5, 10]), out([20, 5, 10])],
  };
  return {
    ...Object.fromEntries(
      Object.entries(cases).map(([name, [layer, x, y]]) => [
        name,
        { run: () => noGrad(() => layer.forward(x, { out: y })) },
      ]),
    ),
    'an empty call into the addon': { run: getNumThreads },
    'new Float32Array(1000)': { run: () => new Float32Array(1000) },
  };
}
