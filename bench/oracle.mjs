// The tests' oracles and tolerances, out of their TypeScript, and the check that every cell passes before it is timed.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { EPS, geometryOf, IMAGES, inputsOf, LRN, MOMENTUM, pixelsOf, product } from './cells.mjs';

function load(path) {
  const options = { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 };
  const { outputText } = ts.transpileModule(readFileSync(path, 'utf8'), { compilerOptions: options });
  const fromThere = createRequire(path);
  const require = (name) => (name.startsWith('.') ? load(join(dirname(path), `${name}.ts`)) : fromThere(name));
  const module = { exports: {} };
  new Function('exports', 'require', 'module', outputText)(module.exports, require, module);
  return module.exports;
}

const support = fileURLToPath(new URL('../test/support/', import.meta.url));
const { reference } = load(join(support, 'reference.ts'));
const { oracle: windowReference } = load(join(support, 'local-response.ts'));
const { tolerances, unitRoundoff } = load(join(support, 'tolerance.ts'));

const { abs, ceil, floor, log2, max, min, sqrt } = Math;

// The oracles take some 0.3 us and a hundred bytes an element.
const MOST = 1 << 20;
const MOST_IN_ROWS = 1 << 24;

/** `n` of the numbers below `of`, evenly spread. */
const spread = (n, of) => Uint32Array.from({ length: n }, (_, i) => floor((i * of) / n));
const pick = (array, indices) => array && (indices ? Float32Array.from(indices, (i) => array[i]) : array);

// One unit in the last place of a float32 of this size.
const ulpOf = (size) => 2 ** (max(floor(log2(size)), -126) - 23);

/**
 * Of large tensors, some groups spread over them, each with all of its elements, so that every result can be compared: as
 * a geometry, and where its elements and channels are in the whole (null: the first ones).
 */
function someGroups([batch, outer, groups, inner, run, channels]) {
  const some = max(1, min(groups, floor(MOST / (batch * outer * inner))));
  const each = channels / groups;
  const chosen = spread(some, groups);
  const elements = new Uint32Array(batch * outer * some * inner);
  let at = 0;
  for (let piece = 0; piece < batch * outer; piece++) {
    for (const group of chosen) {
      for (let i = 0; i < inner; i++) elements[at++] = (piece * groups + group) * inner + i;
    }
  }
  return {
    geometry: [batch, outer, some, inner, run, some * each],
    elements,
    channels: Uint32Array.from({ length: some * each }, (_, c) => chosen[floor(c / each)] * each + (c % each)),
    wholeChannels: true,
  };
}

/** Of LayerNorm and RMSNorm, whose parameter gradients run over all rows, everything, unless that takes gigabytes. */
function someRows([rows, , , size]) {
  const some = rows * size <= MOST_IN_ROWS ? rows : max(1, floor(MOST / size));
  return { geometry: [some, 1, 1, size, 1, size], elements: null, channels: null, wholeChannels: some === rows };
}

/** What a result has to be: name -> { expected, allowed, size, at }, the last three functions of an index into the first. */
function normKinds(cell) {
  const inputs = inputsOf({ ...cell, mode: 'backward' });
  const whole = geometryOf(cell);
  const isRows = cell.op === 'layernorm' || cell.op === 'rmsnorm';
  const { geometry, elements, channels, wholeChannels } = isRows ? someRows(whole) : someGroups(whole);
  const [batch, outer, groups, inner, run, kept] = geometry;
  const n = outer * inner;
  const length = batch * groups * n;
  const [x, dy] = [inputs.x, inputs.dy].map((array) => pick(array, elements).subarray(0, length));
  const [weight, bias, oldMean, oldVar] = [inputs.weight, inputs.bias, inputs.runningMean, inputs.runningVar].map(
    (array) => pick(array, channels),
  );
  const running = cell.mode === 'eval' && oldMean ? { mean: oldMean, var: oldVar } : undefined;
  const about = cell.op === 'rmsnorm' ? 'zero' : 'mean';
  const question = { geometry, x, weight, bias, eps: EPS, about, ...(running && { running }) };
  const answer = reference(question, dy);
  const allowed = tolerances(question, answer, dy, 'float32');

  // An error is given in ulp of the size of what was added up to get the result (a mean being one of values of its
  // deviation), so that cancellation is neither punished nor hidden.
  const channel = (e) => floor(e / run) % kept;
  const statistic = (e) => floor(e / (groups * n)) * groups + (floor(e / inner) % groups);
  const xHat = (e) => abs((x[e] - answer.mean[statistic(e)]) * answer.rstd[statistic(e)]);
  const h = (e) => abs(dy[e] * weight[channel(e)]);
  const [hMean, hxMean] = [new Float64Array(batch * groups), new Float64Array(batch * groups)];
  for (let e = 0; e < length; e++) {
    hMean[statistic(e)] += h(e) / n;
    hxMean[statistic(e)] += (h(e) * xHat(e)) / n;
  }
  const ySize = (e) => weight[channel(e)] * (1 + xHat(e)) + (bias ? abs(bias[channel(e)]) : 0);
  const dxSize = (e) => answer.rstd[statistic(e)] * (h(e) + hMean[statistic(e)] + xHat(e) * hxMean[statistic(e)]);
  const element = (i) => (elements ? elements[i] : i);
  const ofChannel = (i) => (channels ? channels[i] : i);
  const gradient = (name) => ({
    expected: answer[name],
    allowed: (c) => allowed[name][c],
    size: (c) => answer[`${name}Terms`][c],
    at: ofChannel,
  });
  // Running statistics, after one batch: the statistic's own error, and the rounding of the result.
  const blended = (old, now, spreadOf, statisticAllowed) => {
    const size = (c) => abs((1 - MOMENTUM) * old[c]) + MOMENTUM * (abs(now(c)) + spreadOf(c));
    const expected = answer.mean.map((_, c) => (1 - MOMENTUM) * old[c] + MOMENTUM * now(c));
    return {
      expected,
      allowed: (c) => unitRoundoff.float32 * 2 * size(c) + MOMENTUM * statisticAllowed,
      size,
      at: ofChannel,
    };
  };
  const unbiased = (c) => (answer.var[c] * n) / (n - 1);
  const deviation = (c) => sqrt(answer.var[c]);
  return {
    y: { expected: answer.y, allowed: () => allowed.y, size: ySize, at: element },
    dx: { expected: answer.dx, allowed: () => allowed.dx, size: dxSize, at: element },
    ...(wholeChannels && { dweight: gradient('dweight'), dbias: gradient('dbias') }),
    ...(oldMean && {
      runningMean: blended(oldMean, (c) => answer.mean[c], deviation, allowed.mean),
      runningVar: blended(oldVar, unbiased, () => 0, allowed.var),
    }),
  };
}

/** The same of LocalResponseNorm, at some positions with all of their channels. */
function windowKinds(cell) {
  const { shape, layout, param } = cell;
  const [n, channels, ...spatial] = shape;
  const inner = layout === 'nhwc' ? 1 : product(spatial);
  const positions = n * product(spatial);
  const chosen = spread(min(positions, ceil(MOST / channels)), positions);
  const elements = new Uint32Array(chosen.length * channels);
  chosen.forEach((p, i) => {
    for (let c = 0; c < channels; c++)
      elements[i * channels + c] = (floor(p / inner) * channels + c) * inner + (p % inner);
  });
  const inputs = inputsOf({ ...cell, mode: 'backward' });
  const answer = windowReference({
    shape: [chosen.length, channels],
    x: pick(inputs.x, elements),
    dy: pick(inputs.dy, elements),
    window: (c) => [c - floor(param / 2), c + floor((param - 1) / 2)],
    scale: LRN.alpha / param,
    beta: LRN.beta,
    k: LRN.k,
  });
  // Two roundings of what was added up, and those of the powers in double.
  const kind = (expected, size) => ({
    expected,
    allowed: (i) => 2 * (unitRoundoff.float32 + 2 ** -47) * size(i) + 2 ** -149,
    size,
    at: (i) => elements[i],
  });
  return { y: kind(answer.y, (i) => abs(answer.y[i])), dx: kind(answer.dx, (i) => answer.terms[i]) };
}

/** The same of imagesToTensor. */
function imageKinds(cell) {
  const { mean, std } = IMAGES;
  const [, channels, ...sizes] = cell.shape;
  const pixels = product(sizes);
  const x = pixelsOf(cell);
  const chosen = spread(min(MOST, x.length), x.length);
  const channel = (i) => floor(chosen[i] / pixels) % channels;
  const byte = (i) => {
    const image = floor(chosen[i] / (pixels * channels));
    return x[(image * pixels + (chosen[i] % pixels)) * channels + channel(i)];
  };
  const size = (i) => (byte(i) / 255 + mean[channel(i)]) / std[channel(i)];
  const expected = Float64Array.from(chosen, (_, i) => (byte(i) / 255 - mean[channel(i)]) / std[channel(i)]);
  // The roundings of scale and shift, of what is multiplied, and of the result.
  const allowed = (i) => 4 * unitRoundoff.float32 * size(i);
  return { y: { expected, allowed, size, at: (i) => chosen[i] } };
}

/** Mean and biased variance of some channels, which Neumaier's sums round once; in units of doubles. */
function statisticsKinds(cell) {
  const [n, channels, ...sizes] = cell.shape;
  const plane = product(sizes);
  const { x } = inputsOf(cell);
  const chosen = spread(min(8, channels), channels);
  const sum = (c, term) => {
    let [high, low] = [0, 0];
    for (let i = 0; i < n; i++) {
      const from = (i * channels + c) * plane;
      for (let e = from; e < from + plane; e++) {
        const t = term(x[e]);
        const next = high + t;
        low += abs(high) >= abs(t) ? high - next + t : t - next + high;
        high = next;
      }
    }
    return high + low;
  };
  const mean = Float64Array.from(chosen, (c) => sum(c, (v) => v) / (n * plane));
  const variance = mean.map((m, k) => sum(chosen[k], (v) => (v - m) ** 2) / (n * plane));
  const kind = (expected, size) => ({
    expected,
    size,
    allowed: (i) => 4 * 2 ** -52 * size(i),
    at: (i) => chosen[i],
    unit: 2 ** -29,
  });
  return {
    mean: kind(mean, (i) => max(abs(mean[i]), sqrt(variance[i]))),
    var: kind(variance, (i) => variance[i]),
  };
}

const kindsOf = { none: () => ({}), lrn: windowKinds, images: imageKinds, statistics: statisticsKinds };

/** The judge of a cell's results, for all of its modes but where running statistics replace the batch's. */
export function judgeOf(cell) {
  const kinds = (kindsOf[cell.op] ?? normKinds)(cell);
  /**
   * @param results y, dx, dweight, dbias, runningMean, runningVar: those there are, of the whole tensor
   * @returns the largest error in ulp (of doubles, where results are), that in ulp of float32, and what is beyond the
   *   tests' tolerances
   */
  return function judge(results) {
    let [ulp, coarse] = [0, 0];
    const faults = [];
    for (const [name, actual] of Object.entries(results)) {
      if (!kinds[name]) continue;
      const { expected, allowed, size, at, unit = 1 } = kinds[name];
      const step = ceil(expected.length / MOST) | 1; // odd: columns of an even number are all met
      for (let i = 0; i < expected.length; i += step) {
        const off = abs(actual[at(i)] - expected[i]);
        if (!(off <= allowed(i)) && faults.length < 3)
          faults.push(`${name}[${at(i)}] is off by ${off}, allowed ${allowed(i)}`);
        const own = Number.isNaN(off) ? Infinity : off > 0 ? off / ulpOf(size(i)) : 0;
        coarse = max(coarse, own);
        ulp = max(ulp, own / unit);
      }
    }
    return { ulp, coarse, faults };
  };
}
