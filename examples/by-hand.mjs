// What four layers compute, by hand: the mean and the variance of the values that share a statistic, (x - mean) / sqrt(var
// + eps). A check with the unbiased variance, which divides by n - 1, finds the last digits off: layers divide by n,
// and what they give is larger by sqrt(n / (n - 1)).
// node examples/by-hand.mjs

import { BatchNorm2d, GroupNorm, InstanceNorm2d, LayerNorm, tensor } from 'simdnorm';

const eps = 1e-5;
const [n, height, width] = [8, 32, 32];
const area = height * width;

/** (x - mean) / sqrt(var + eps) over the values of one key; `less` is 1 for the unbiased variance. */
function byHand(values, keys, less) {
  const groups = new Map();
  values.forEach((value, i) => {
    if (!groups.has(keys[i])) groups.set(keys[i], { values: [] });
    groups.get(keys[i]).values.push(value);
  });
  for (const group of groups.values()) {
    const count = group.values.length;
    group.mean = group.values.reduce((sum, value) => sum + value, 0) / count;
    group.var = group.values.reduce((sum, value) => sum + (value - group.mean) ** 2, 0) / (count - less);
  }
  const result = values.map((value, i) => {
    const group = groups.get(keys[i]);
    return (value - group.mean) / Math.sqrt(group.var + eps);
  });
  return { result, count: values.length / groups.size };
}

/** Each with the key of the statistic that a value at (sample, channel) belongs to. */
const layers = [
  [new BatchNorm2d(3), 3, (sample, channel) => channel],
  [new LayerNorm([3, height, width]), 3, (sample) => sample],
  [new InstanceNorm2d(3, { affine: true }), 3, (sample, channel) => 3 * sample + channel],
  [new GroupNorm(3, 6), 6, (sample, channel) => 3 * sample + Math.floor(channel / 2)],
];

for (const [layer, channels, key] of layers) {
  const values = Float64Array.from({ length: n * channels * area }, () => Math.fround(2 * Math.random() - 1));
  const keys = Array.from(values, (_, i) => key(Math.floor(i / area / channels), Math.floor(i / area) % channels));
  const y = layer.forward(tensor(Float32Array.from(values), [n, channels, height, width])).data;

  const { result, count } = byHand(values, keys, 0);
  const unbiased = byHand(values, keys, 1).result;
  const factor = Math.sqrt(count / (count - 1));
  console.log(
    `${layer.constructor.name.padEnd(14)} ${y[0].toFixed(6)}  by hand ${result[0].toFixed(6)}` +
      `  with the unbiased variance ${unbiased[0].toFixed(6)}, times ${factor.toFixed(6)}: ` +
      (unbiased[0] * factor).toFixed(6),
  );
  const off = y.reduce((most, value, i) => Math.max(most, Math.abs(value - result[i])), 0);
  const offUnbiased = y.reduce((most, value, i) => Math.max(most, Math.abs(value - unbiased[i] * factor)), 0);
  if (!(off < 1e-6 && offUnbiased < 1e-6)) throw new Error(`${layer}: ${off} and ${offUnbiased} from the hand's`);
}

// A batch small enough for paper: channel means 1 and 0.5, variances 1 and 1.5.
const x = tensor(Float32Array.of(1, 1, 1, 2, -1, 1, 0, 1, 0, -1, 2, 2, 0, -1, 3, 1), [2, 2, 2, 2]);
const bn = new BatchNorm2d(2, { affine: false });
const fourDigits = (t) => Array.from(t.data, (value) => value.toFixed(4)).join(' ');
console.log(`\n${bn}\n${fourDigits(x)}\n${fourDigits(bn.forward(x))}`);
// 0.1 of the batch's, and here the unbiased variances: 8/7 and 12/7.
console.log('running mean', fourDigits(bn.runningMean), 'and variance', fourDigits(bn.runningVar));
