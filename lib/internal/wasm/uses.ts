// What the functions of the binary read and write of their arguments, for who has to bring it to them. In Node they find
// it where it lies.

import type { Addon } from '../addon';
import { Block, Flag, ImageBlock, TallyBlock, WindowBlock } from '../blocks';

export const reads = 1;
export const writes = 2;
const both = reads | writes;

/** Elements from `from` on, or all there are. What is written only, a call that succeeds has written wholly. */
export type Use = (argument: number, how: number, from?: number, count?: number) => void;
/** Says so of a call with block b, and returns how many elements it works on, at most. */
type Uses = (use: Use, b: Float64Array, args: readonly unknown[]) => number;

const elements = (b: Float64Array): number => b[0]! * b[1]! * b[2]! * b[3]!;
const elementsOfWindow = (b: Float64Array): number =>
  b[WindowBlock.outer]! * b[WindowBlock.channels]! * b[WindowBlock.inner]!;
const elementsOfImages = (b: Float64Array): number =>
  b[ImageBlock.count]! * b[ImageBlock.height]! * b[ImageBlock.width]! * b[ImageBlock.channels]!;

/** The same of optional arguments: those that are not given are not looked at, whatever stands there. */
const given =
  (use: Use, arguments_: number): Use =>
  (argument, ...how) => {
    if ((arguments_ >> argument) & 1) use(argument, ...how);
  };

const merge: Uses = (use) => {
  use(0, both);
  use(1, reads);
  return 0;
};

export const uses = {
  forward(use, b) {
    const n = elements(b);
    const flags = b[Block.flags]!;
    const running = flags & (Flag.useRunning | Flag.useSaved) ? reads : both;
    use(1, reads, b[Block.offsetX], n);
    use(2, writes, b[Block.offsetY], n);
    const optional = given(use, b[Block.given]!);
    optional(3, reads);
    optional(4, reads);
    optional(5, flags & Flag.useSaved ? reads : n === 0 ? both : writes);
    optional(6, running);
    optional(7, running);
    optional(8, reads, b[Block.offsetAdd], n);
    return n;
  },
  backward(use, b) {
    const n = elements(b);
    use(1, reads, b[Block.offsetDy], n);
    use(2, reads, b[Block.offsetX], n);
    use(5, reads);
    const optional = given(use, b[Block.given]!);
    optional(3, writes, b[Block.offsetY], n);
    optional(4, reads);
    optional(6, both);
    optional(7, both);
    optional(8, writes, 0, n);
    optional(9, reads, b[Block.offsetAdd], n);
    optional(10, reads);
    optional(11, both);
    return n;
  },
  localResponse(use, b) {
    const n = elementsOfWindow(b);
    use(1, reads, b[WindowBlock.offsetX], n);
    use(2, writes, b[WindowBlock.offsetY], n);
    return n;
  },
  localResponseBackward(use, b) {
    const n = elementsOfWindow(b);
    use(1, reads, b[WindowBlock.offsetDy], n);
    use(2, reads, b[WindowBlock.offsetX], n);
    use(3, writes, b[WindowBlock.offsetY], n);
    return n;
  },
  fromImages(use, b, [, , images]) {
    const n = elementsOfImages(b) * (Array.isArray(images) ? images.length : 0);
    use(1, writes, b[ImageBlock.offsetTensor], n);
    use(2, reads);
    return n;
  },
  toImages(use, b) {
    const n = elementsOfImages(b);
    use(1, reads, b[ImageBlock.offsetTensor], n);
    use(2, both); // between rows and images nothing is written
    return n;
  },
  moments(use, b) {
    const n = elements(b);
    use(1, reads, b[Block.offsetX], n);
    use(2, writes, 0, 5 * b[0]! * b[2]!);
    return n;
  },
  statisticsOfParts(use, b) {
    use(2, reads, 0, 5 * b[0]! * b[2]!);
    use(3, both, 0, 5 * b[2]!);
    return 0;
  },
  updateRunning(use, b) {
    use(1, both);
    given(use, b[Block.given]!)(2, both);
    use(3, reads);
    use(4, reads);
    return 0;
  },
  tally(use, b) {
    const item = b[TallyBlock.channels]! * b[TallyBlock.inner]!;
    const extent = b[TallyBlock.outer]! > 0 ? (b[TallyBlock.outer]! - 1) * b[TallyBlock.stride]! + item : 0;
    use(1, reads, b[TallyBlock.offset], extent);
    given(use, b[TallyBlock.given]!)(2, reads);
    use(3, both);
    return extent;
  },
  merge,
  mergeTallies: merge,
} satisfies Partial<Record<keyof Addon, Uses>> as Record<string, Uses>;
