// The grid: every cell that is timed, as data. `shape` is the logical one, (N, C, ...S) or rows; `once` is the same cell
// small, for --once. Modes: train (statistics computed, kept for backward, running ones updated), eval (BatchNorm: by
// running statistics; the others: nothing kept) and backward (dx, dweight, dbias).

export const EPS = 1e-5;
export const MOMENTUM = 0.1;
export const modes = ['train', 'eval', 'backward'];

export const grid = [
  { id: 'bn-32x64x56x56', layer: 'BatchNorm2d', args: [64], shape: [32, 64, 56, 56], once: [3, 64, 9, 7] },
  { id: 'bn-32x256x14x14', layer: 'BatchNorm2d', args: [256], shape: [32, 256, 14, 14], once: [2, 256, 14, 5] },
  { id: 'bn-8x3x32x32', layer: 'BatchNorm2d', args: [3], shape: [8, 3, 32, 32], once: [8, 3, 32, 32] },
  { id: 'bn-64x512x7x7', layer: 'BatchNorm2d', args: [512], shape: [64, 512, 7, 7], once: [3, 512, 7, 7] },
  { id: 'bn-20x100x35x45', layer: 'BatchNorm2d', args: [100], shape: [20, 100, 35, 45], once: [2, 100, 7, 45] },
  { id: 'bn-128x100', layer: 'BatchNorm1d', args: [100], shape: [128, 100], once: [128, 100] },
  { id: 'bn-4096x256', layer: 'BatchNorm1d', args: [256], shape: [4096, 256], once: [300, 256] },
  { id: 'bnl-32x64x56x56', layer: 'BatchNorm2d', args: [64], shape: [32, 64, 56, 56], last: true, once: [3, 64, 9, 7] },
  {
    id: 'bnl-32x256x14x14',
    layer: 'BatchNorm2d',
    args: [256],
    shape: [32, 256, 14, 14],
    last: true,
    once: [2, 256, 14, 5],
  },
  { id: 'ln-4096x768', layer: 'LayerNorm', args: [768], shape: [4096, 768], once: [70, 768] },
  { id: 'ln-8x1024', layer: 'LayerNorm', args: [1024], shape: [8, 1024], once: [8, 1024] },
  { id: 'ln-1x4096', layer: 'LayerNorm', args: [4096], shape: [1, 4096], once: [1, 4096] },
  { id: 'ln-20x5x10', layer: 'LayerNorm', args: [10], shape: [20, 5, 10], once: [20, 5, 10] },
  { id: 'ln-64x64x56x56', layer: 'LayerNorm', args: [[64, 56, 56]], shape: [64, 64, 56, 56], once: [2, 64, 56, 56] },
  { id: 'gn-8x256x32x32', layer: 'GroupNorm', args: [32, 256], shape: [8, 256, 32, 32], once: [3, 256, 8, 9] },
  { id: 'gn-20x6x10x10', layer: 'GroupNorm', args: [3, 6], shape: [20, 6, 10, 10], once: [20, 6, 10, 10] },
  {
    id: 'in-8x64x128x128',
    layer: 'InstanceNorm2d',
    args: [64, { affine: true }],
    shape: [8, 64, 128, 128],
    once: [2, 64, 16, 17],
  },
  { id: 'rms-2048x4096', layer: 'RMSNorm', args: [4096, { eps: EPS }], shape: [2048, 4096], once: [20, 4096] },
];

const product = (sizes) => sizes.reduce((all, n) => all * n, 1);

/** The cells of a run: one for each mode whose name begins with one of the prefixes. */
export function cells({ prefixes = [''], once = false } = {}) {
  return grid
    .filter(({ id }) => prefixes.some((prefix) => id.startsWith(prefix)))
    .flatMap((row) => {
      const shape = once ? row.once : row.shape;
      return modes.map((mode) => ({ ...row, ...viewOf(row, shape), shape, mode, name: `${row.id} ${mode}` }));
    });
}

/** What the oracle and the plain loops are told: [batch, outer, groups, inner, run, channels] and the squares' origin. */
function viewOf({ layer, args, last = false }, shape) {
  const [n, c, ...spatial] = shape;
  const s = product(spatial);
  const about = layer === 'RMSNorm' ? 'zero' : 'mean';
  if (layer === 'LayerNorm' || layer === 'RMSNorm') {
    const size = product([args[0]].flat());
    return { about, geometry: [product(shape) / size, 1, 1, size, 1, size] };
  }
  if (layer.startsWith('BatchNorm'))
    return { about, geometry: last || s === 1 ? [1, n * s, c, 1, 1, c] : [1, n, c, s, s, c] };
  const groups = layer === 'GroupNorm' ? args[0] : c;
  return { about, geometry: [n, 1, groups, (c / groups) * s, s, c] };
}
