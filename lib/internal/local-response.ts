// Local response normalization without state: torch's rules, the windows of other libraries, and the call into the
// kernels.

import { elementsOf, type Tensor } from '../tensor';
import { addon, check, Flag, Names, WindowBlock, type DataArray } from './addon';
import { place, placeBack, storage } from './call';
import { checkNumber, checkSize, describe } from './errors';

/** A divisor (k + scale * sum of the squares from `before` channels before to `after` channels after)^beta. */
export interface ChannelWindow {
  readonly before: number;
  readonly after: number;
  readonly scale: number;
  readonly beta: number;
  readonly k: number;
}

export interface Response {
  alpha: number;
  beta: number;
  k: number;
}

const rules = {
  // The channel that makes an even size is on the low side.
  torch: (size: number) => ({ before: Math.floor(size / 2), after: Math.floor((size - 1) / 2), divisor: size }),
  // The same on the high side.
  onnx: (size: number) => ({ before: Math.floor((size - 1) / 2), after: Math.floor(size / 2), divisor: size }),
  // `size` is the depth radius.
  tensorflow: (size: number) => ({ before: size, after: size, divisor: 1 }),
  // CrossMapLRN2d: as far as size reaches to both sides alike, still divided by size.
  symmetric: (size: number) => {
    const reach = Math.floor((size - 1) / 2);
    return { before: reach, after: reach, divisor: size };
  },
} as const;

export type WindowRule = 'torch' | 'onnx' | 'tensorflow';

export function checkRule(where: string, rule: unknown): WindowRule {
  if (rule === 'torch' || rule === 'onnx' || rule === 'tensorflow') return rule;
  throw new TypeError(`${where}: window must be 'torch', 'onnx' or 'tensorflow', but got ${describe(rule)}`);
}

export function checkWindowSize(where: string, size: unknown, rule: keyof typeof rules): number {
  if (rule === 'tensorflow') return checkSize(where, 'size', size);
  if (typeof size === 'number' && Number.isInteger(size) && size <= 0) {
    throw new RangeError(`${where}: kernel size should be greater than zero, but got size ${size}`);
  }
  return checkSize(where, 'size', size, 1);
}

/** The numbers of a response, with torch's defaults. */
export function readResponse(where: string, options: { [name in keyof Response]?: number | undefined }): Response {
  const { alpha = 1e-4, beta = 0.75, k = 1 } = options;
  return {
    alpha: checkNumber(where, 'alpha', alpha),
    beta: checkNumber(where, 'beta', beta),
    k: checkNumber(where, 'k', k),
  };
}

export function windowOf(size: number, { alpha, beta, k }: Response, rule: keyof typeof rules): ChannelWindow {
  const { before, after, divisor } = rules[rule](size);
  return { before, after, scale: alpha / divisor, beta, k };
}

export function checkRank(where: string, rank: number): void {
  if (rank >= 3) return;
  throw new RangeError(`${where}: Expected 3D or higher dimensionality input (got ${rank} dimensions)`);
}

export interface Saved {
  window: ChannelWindow;
  channelsLast: boolean;
  x: Tensor;
}

/** y for an input (N, C, ...S) of a rank that the caller has checked; channels-last memory as it lies. */
export function localResponse(
  where: string,
  given: Tensor,
  window: ChannelWindow,
  keep: 'reference' | 'copy' | null,
  out: unknown,
): { y: Tensor; saved: Saved | null } {
  const channelsLast = !given.isContiguous && given.isChannelsLast;
  const { x, y, keepsInput } = place(where, given, channelsLast, keep, out);
  if (elementsOf(x.shape) > 0) {
    const block = blockOf(window, channelsLast, x, y);
    block[WindowBlock.flags]! += keepsInput ? Flag.keepsInput : 0;
    const fault = addon.localResponse(block, x.data as DataArray, y.data as DataArray);
    check(fault, where, Names.localResponse);
  }
  return { y, saved: keep && { window, channelsLast, x } };
}

export function localResponseBack(where: string, saved: Saved, given: Tensor, out: unknown): Tensor {
  const { window, channelsLast, x } = saved;
  const { dy, dx } = placeBack(where, given, x, channelsLast, out) as { dy: Tensor; dx: Tensor };
  if (elementsOf(x.shape) > 0) {
    const block = blockOf(window, channelsLast, x, dx);
    block[WindowBlock.offsetDy] = dy.offset;
    const [gradOutput, from, to] = [dy.data as DataArray, x.data as DataArray, dx.data as DataArray];
    check(addon.localResponseBackward(block, gradOutput, from, to), where, Names.localResponseBackward);
  }
  return dx;
}

// One for all calls: they are synchronous, and native copies it before all else.
const numbers = new Float64Array(WindowBlock.length);

function blockOf({ before, after, scale, beta, k }: ChannelWindow, channelsLast: boolean, x: Tensor, y: Tensor) {
  const [n, c, ...spatial] = x.shape as [number, number, ...number[]];
  const s = elementsOf(spatial);
  numbers.set(channelsLast ? [n * s, c, 1] : [n, c, s]);
  // No further than there are channels: WebAssembly has no larger sizes.
  numbers[WindowBlock.before] = Math.min(before, x.size);
  numbers[WindowBlock.after] = Math.min(after, x.size);
  numbers[WindowBlock.offsetX] = x.offset;
  numbers[WindowBlock.offsetY] = y.offset;
  numbers[WindowBlock.k] = k;
  numbers[WindowBlock.scale] = scale;
  numbers[WindowBlock.beta] = beta;
  numbers[WindowBlock.flags] = storage(x);
  return numbers;
}
