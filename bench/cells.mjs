// The grid, and what every implementation of a cell is given. The peers in C++ and Python make the same inputs: see
// peers/protocol.md.

import { readFileSync } from 'node:fs';

export const EPS = 1e-5;
export const MOMENTUM = 0.1;
/** Of ImageNet, in [0, 1]. */
export const IMAGES = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
export const LRN = { alpha: 1e-4, beta: 0.75, k: 1 };

export const product = (sizes) => sizes.reduce((all, n) => all * n, 1);
/** Sizes as they lie in memory. */
export const inMemory = ({ shape: [n, c, ...spatial], layout }) =>
  layout === 'nhwc' ? [n, ...spatial, c] : [n, c, ...spatial];

/** The cells of a grid file: [{ id, op, shape, param, layout, modes }]. */
export function readGrid(path) {
  const lines = readFileSync(path, 'utf8').split('\n');
  return lines
    .filter((line) => line.trim() && !line.startsWith('#'))
    .map((line) => {
      const [id, op, shape, param, layout, modes] = line.trim().split(/\s+/);
      return { id, op, shape: shape.split(',').map(Number), param: Number(param), layout, modes: modes.split(',') };
    });
}

/** The same cell with a few thousand elements: all sizes but the second shrink, the channels or the row of two. */
export function shrunk(cell) {
  const shape = [...cell.shape];
  while (product(shape) > 1 << 15) {
    const others = shape.map((size, i) => (i === 1 ? 0 : size));
    const largest = Math.max(...others);
    if (largest <= 3) break;
    shape[others.indexOf(largest)] = Math.ceil(largest / 2);
  }
  return { ...cell, shape };
}

/** [batch, outer, groups, inner, run, channels] of a norm, as the elements lie in memory: see docs/architecture.md. */
export function geometryOf({ op, shape, param, layout }) {
  const [n, c, ...spatial] = shape;
  const s = product(spatial);
  if (op === 'layernorm' || op === 'rmsnorm') {
    const size = product(shape.slice(-param));
    return [product(shape) / size, 1, 1, size, 1, size];
  }
  const beside = layout === 'nhwc' || s === 1;
  if (op === 'batchnorm') return beside ? [1, n * s, c, 1, 1, c] : [1, n, c, s, s, c];
  const groups = op === 'groupnorm' ? param : c;
  return beside ? [n, s, groups, c / groups, 1, c] : [n, 1, groups, (c / groups) * s, s, c];
}

/** 32 bits for each index, the same in every run and every language. */
function hash(i, seed) {
  let h = Math.imul((i + Math.imul(seed, 0x9e3779b1)) | 0, 0x85ebca6b);
  h ^= h >>> 15;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 13);
}

/** `length` numbers from shift to shift + scale. */
function uniform(length, seed, scale, shift) {
  const out = new Float32Array(length);
  for (let i = 0; i < length; i++) out[i] = ((hash(i, seed) >>> 8) / 2 ** 24) * scale + shift;
  return out;
}

/** The bytes of an images cell, whose shape is the tensor's, as pixels: (N, H, W, C). */
export function pixelsOf({ shape }) {
  const out = new Uint8Array(product(shape));
  for (let i = 0; i < out.length; i++) out[i] = hash(i, 1) >>> 24;
  return out;
}

/** x and dy in the order of memory; parameters and running statistics, null where the op has none. */
export function inputsOf(cell) {
  const { op, shape } = cell;
  const length = product(shape);
  const affine = !['lrn', 'none', 'images', 'statistics'].includes(op);
  const channels = affine ? geometryOf(cell)[5] : 0;
  const running = op === 'batchnorm';
  return {
    x: uniform(length, 1, 4, -1),
    dy: cell.mode === 'backward' ? uniform(length, 2, 2, -1) : null,
    weight: affine ? uniform(channels, 3, 1, 0.5) : null,
    bias: affine && op !== 'rmsnorm' ? uniform(channels, 4, 1, -0.5) : null,
    runningMean: running ? uniform(channels, 5, 1, 0) : null,
    runningVar: running ? uniform(channels, 6, 1, 0.5) : null,
  };
}
