// Evaluation of images in channels-last memory, as decoders deliver them: computed as they lie, into an array of yours.
// node examples/inference.mjs

import { BatchNorm2d, noGrad, tensor } from 'simdnorm';

const [n, height, width, channels] = [4, 32, 32, 3];
const nhwc = tensor(
  Float32Array.from({ length: n * height * width * channels }, () => 255 * Math.random()),
  [n, height, width, channels],
);
const x = nhwc.permute(0, 3, 1, 2); // (N, C, H, W) without a copy

const bn = new BatchNorm2d(channels);
bn.runningMean.data.set([124, 116, 104]);
bn.runningVar.data.set([58 ** 2, 57 ** 2, 57 ** 2]);
bn.eval();

const out = new Float32Array(x.size);
const y = noGrad(() => bn.forward(x, { out }));

console.log(String(y), 'channels-last:', y.isChannelsLast, 'in out:', y.data === out);
console.log('first pixel', Array.from(nhwc.data.subarray(0, 3)), '->', Array.from(out.subarray(0, 3)));
