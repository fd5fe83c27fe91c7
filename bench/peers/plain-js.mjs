// What a careful user writes today without an addon: loops over Float32Array, statistics in two passes in doubles, four
// accumulators so that the additions are not one dependent chain. One thread. Hot loops are functions of their own, so
// that the JIT compiles each once and well.
//
// The loops of norms are by geometry, [batch, outer, groups, inner, run, channels]: `slabs` where a channel's elements
// lie together (BatchNorm, GroupNorm, InstanceNorm), `columns` where channels lie side by side, `rows` for LayerNorm and
// RMSNorm; `windows` are LocalResponseNorm's. Each gives { forward(y, mode), backward(dx) }.

import { EPS, geometryOf, IMAGES, inputsOf, LRN, MOMENTUM, pixelsOf, product } from '../cells.mjs';
import { serve, Unsupported } from './serve.mjs';

// ---- along the data: elements [from, to) ----

function sum(x, from, to) {
  let a = 0,
    b = 0,
    c = 0,
    d = 0,
    i = from;
  for (; i + 3 < to; i += 4) {
    a += x[i];
    b += x[i + 1];
    c += x[i + 2];
    d += x[i + 3];
  }
  for (; i < to; i++) a += x[i];
  return a + b + c + d;
}

function sumSquares(x, from, to, mean) {
  let a = 0,
    b = 0,
    c = 0,
    d = 0,
    i = from;
  for (; i + 3 < to; i += 4) {
    const p = x[i] - mean,
      q = x[i + 1] - mean,
      r = x[i + 2] - mean,
      s = x[i + 3] - mean;
    a += p * p;
    b += q * q;
    c += r * r;
    d += s * s;
  }
  for (; i < to; i++) a += (x[i] - mean) ** 2;
  return a + b + c + d;
}

// Adds the sums of dy and dy * (x - mean) to sums[0] and sums[1].
function gradSums(sums, dy, x, from, to, mean) {
  let a = 0,
    b = 0,
    p = 0,
    q = 0,
    i = from;
  for (; i + 1 < to; i += 2) {
    a += dy[i];
    b += dy[i + 1];
    p += dy[i] * (x[i] - mean);
    q += dy[i + 1] * (x[i + 1] - mean);
  }
  for (; i < to; i++) {
    a += dy[i];
    p += dy[i] * (x[i] - mean);
  }
  sums[0] += a + b;
  sums[1] += p + q;
}

function affine(y, x, from, to, scale, shift) {
  for (let i = from; i < to; i++) y[i] = x[i] * scale + shift;
}

function slope(dx, dy, x, from, to, byDy, byX, constant) {
  for (let i = from; i < to; i++) dx[i] = dy[i] * byDy + x[i] * byX + constant;
}

function affineElements(y, x, at, n, mean, rstd, weight, bias) {
  for (let i = 0; i < n; i++) y[at + i] = (x[at + i] - mean) * rstd * weight[i] + bias[i];
}

function scaleElements(y, x, at, n, rstd, weight) {
  for (let i = 0; i < n; i++) y[at + i] = x[at + i] * rstd * weight[i];
}

function gradSumsElements(sums, sumW, sumB, dy, x, at, n, mean, rstd, weight) {
  let h = 0,
    hx = 0;
  for (let i = 0; i < n; i++) {
    const d = dy[at + i],
      xHat = (x[at + i] - mean) * rstd;
    h += d * weight[i];
    hx += d * weight[i] * xHat;
    sumW[i] += d * xHat;
    sumB[i] += d;
  }
  sums[0] = h;
  sums[1] = hx;
}

function slopeElements(dx, dy, x, at, n, mean, rstd, weight, h, hx) {
  for (let i = 0; i < n; i++) dx[at + i] = rstd * (dy[at + i] * weight[i] - h - (x[at + i] - mean) * rstd * hx);
}

// ---- down the columns ----

function sumColumns(into, x, rows, cols) {
  for (let r = 0, i = 0; r < rows; r++) for (let c = 0; c < cols; c++, i++) into[c] += x[i];
}

function sumSquaresColumns(into, x, rows, cols, mean) {
  for (let r = 0, i = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++, i++) {
      const d = x[i] - mean[c];
      into[c] += d * d;
    }
  }
}

function gradColumns(s, q, dy, x, rows, cols, mean) {
  for (let r = 0, i = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++, i++) {
      s[c] += dy[i];
      q[c] += dy[i] * (x[i] - mean[c]);
    }
  }
}

function affineColumns(y, x, rows, cols, scale, shift) {
  for (let r = 0, i = 0; r < rows; r++) for (let c = 0; c < cols; c++, i++) y[i] = x[i] * scale[c] + shift[c];
}

function slopeColumns(dx, dy, x, rows, cols, byDy, byX, constant) {
  for (let r = 0, i = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++, i++) dx[i] = dy[i] * byDy[c] + x[i] * byX[c] + constant[c];
  }
}

function blend(running, c, value) {
  running[c] += MOMENTUM * (value - running[c]);
}

// ---- the layers ----

function slabs({ geometry, x, dy, weight, bias, dweight, dbias, runningMean, runningVar }) {
  const [batch, outer, groups, inner, run] = geometry;
  const [stride, count, perGroup] = [groups * inner, outer * inner, inner / run];
  const [means, rstds] = [new Float64Array(batch * groups), new Float64Array(batch * groups)];
  const sums = new Float64Array(2);
  const forward = (y, mode) => {
    for (let index = 0; index < batch * groups; index++) {
      const g = index % groups;
      const begin = ((index - g) / groups) * outer * stride + g * inner;
      let [mean, variance] = [0, 0];
      if (mode === 'eval' && runningMean) [mean, variance] = [runningMean[g], runningVar[g]];
      else {
        for (let o = 0; o < outer; o++) mean += sum(x, begin + o * stride, begin + o * stride + inner) / count;
        for (let o = 0; o < outer; o++)
          variance += sumSquares(x, begin + o * stride, begin + o * stride + inner, mean) / count;
        if (runningMean) {
          blend(runningMean, g, mean);
          blend(runningVar, g, (variance * count) / (count - 1));
        }
      }
      const rstd = 1 / Math.sqrt(variance + EPS);
      means[index] = mean;
      rstds[index] = rstd;
      for (let o = 0; o < outer; o++) {
        for (let d = 0; d < perGroup; d++) {
          const at = begin + o * stride + d * run;
          const scale = rstd * weight[g * perGroup + d];
          affine(y, x, at, at + run, scale, bias[g * perGroup + d] - mean * scale);
        }
      }
    }
  };
  const backward = (dx) => {
    dweight.fill(0);
    dbias.fill(0);
    for (let index = 0; index < batch * groups; index++) {
      const g = index % groups;
      const begin = ((index - g) / groups) * outer * stride + g * inner;
      const [mean, rstd] = [means[index], rstds[index]];
      let [h, hx] = [0, 0];
      for (let d = 0; d < perGroup; d++) {
        const c = g * perGroup + d;
        sums.fill(0);
        for (let o = 0; o < outer; o++) {
          const at = begin + o * stride + d * run;
          gradSums(sums, dy, x, at, at + run, mean);
        }
        dbias[c] += sums[0];
        dweight[c] += sums[1] * rstd;
        h += sums[0] * weight[c];
        hx += sums[1] * rstd * weight[c];
      }
      const byX = (-rstd * rstd * hx) / count;
      const constant = (-rstd * h) / count - mean * byX;
      for (let o = 0; o < outer; o++) {
        for (let d = 0; d < perGroup; d++) {
          const at = begin + o * stride + d * run;
          slope(dx, dy, x, at, at + run, rstd * weight[g * perGroup + d], byX, constant);
        }
      }
    }
  };
  return { forward, backward };
}

function columns({ geometry, x, dy, weight, bias, dweight, dbias, runningMean, runningVar }) {
  const [, count, cols] = geometry;
  const [mean, square, rstd, scale, shift, byX, s, q] = Array.from({ length: 8 }, () => new Float64Array(cols));
  const forward = (y, mode) => {
    if (mode === 'eval') mean.set(runningMean);
    else {
      mean.fill(0);
      square.fill(0);
      sumColumns(mean, x, count, cols);
      for (let c = 0; c < cols; c++) mean[c] /= count;
      sumSquaresColumns(square, x, count, cols, mean);
    }
    for (let c = 0; c < cols; c++) {
      rstd[c] = 1 / Math.sqrt((mode === 'eval' ? runningVar[c] : square[c] / count) + EPS);
      if (mode !== 'eval') {
        blend(runningMean, c, mean[c]);
        blend(runningVar, c, square[c] / (count - 1));
      }
      scale[c] = rstd[c] * weight[c];
      shift[c] = bias[c] - mean[c] * scale[c];
    }
    affineColumns(y, x, count, cols, scale, shift);
  };
  const backward = (dx) => {
    s.fill(0);
    q.fill(0);
    gradColumns(s, q, dy, x, count, cols, mean);
    for (let c = 0; c < cols; c++) {
      dbias[c] = s[c];
      dweight[c] = q[c] * rstd[c];
      scale[c] = rstd[c] * weight[c];
      byX[c] = (-scale[c] * rstd[c] * rstd[c] * q[c]) / count;
      shift[c] = (-scale[c] * s[c]) / count - mean[c] * byX[c];
    }
    slopeColumns(dx, dy, x, count, cols, scale, byX, shift);
  };
  return { forward, backward };
}

function rows({ op, geometry, x, dy, weight, bias, dweight, dbias }) {
  const [count, , , n] = geometry;
  const centered = op !== 'rmsnorm';
  const [means, rstds] = [new Float64Array(count), new Float64Array(count)];
  const [sumW, sumB, sums] = [new Float64Array(n), new Float64Array(n), new Float64Array(2)];
  const forward = (y) => {
    for (let r = 0; r < count; r++) {
      const at = r * n;
      const mean = centered ? sum(x, at, at + n) / n : 0;
      const rstd = 1 / Math.sqrt(sumSquares(x, at, at + n, mean) / n + EPS);
      means[r] = mean;
      rstds[r] = rstd;
      if (bias) affineElements(y, x, at, n, mean, rstd, weight, bias);
      else scaleElements(y, x, at, n, rstd, weight);
    }
  };
  const backward = (dx) => {
    sumW.fill(0);
    sumB.fill(0);
    for (let r = 0; r < count; r++) {
      const at = r * n;
      gradSumsElements(sums, sumW, sumB, dy, x, at, n, means[r], rstds[r], weight);
      slopeElements(dx, dy, x, at, n, means[r], rstds[r], weight, centered ? sums[0] / n : 0, sums[1] / n);
    }
    dweight.set(sumW);
    dbias?.set(sumB);
  };
  return { forward, backward };
}

// ---- LocalResponseNorm: a running sum of squares at every position; s^-0.75 as 1 / (sqrt(s) * sqrt(sqrt(s))) ----

function addSquares(into, x, at, sign) {
  for (let i = 0; i < into.length; i++) into[i] += sign * x[at + i] * x[at + i];
}

function respond(y, sums, x, at, squares, scale) {
  for (let i = 0; i < squares.length; i++) {
    const s = LRN.k + scale * squares[i],
      root = Math.sqrt(s);
    sums[at + i] = s;
    y[at + i] = x[at + i] / (root * Math.sqrt(root));
  }
}

function ratios(into, dy, x, sums, at) {
  for (let i = 0; i < into.length; i++) {
    const s = sums[at + i],
      root = Math.sqrt(s);
    into[i] = (dy[at + i] * x[at + i]) / (s * root * Math.sqrt(root));
  }
}

function addRatios(into, ratio, at, sign) {
  for (let i = 0; i < into.length; i++) into[i] += sign * ratio[at + i];
}

function respondSlope(dx, dy, x, sums, at, total, scale) {
  for (let i = 0; i < total.length; i++) {
    const root = Math.sqrt(sums[at + i]);
    dx[at + i] = dy[at + i] / (root * Math.sqrt(root)) - scale * x[at + i] * total[i];
  }
}

function windows({ shape: [n, channels, ...spatial], param: size, x, dy }) {
  const inner = product(spatial);
  const before = size >> 1,
    after = size - 1 - before;
  const sums = new Float32Array(x.length);
  const total = new Float64Array(inner);
  const ratio = new Float32Array(channels * inner);
  // step(c) for every channel, with `total` the sum over its window: add(c, 1) comes in ahead, add(c, -1) goes behind.
  const slide = (ahead, behind, add, step) => {
    total.fill(0);
    for (let c = 0; c < Math.min(ahead, channels); c++) add(c, 1);
    for (let c = 0; c < channels; c++) {
      if (c + ahead < channels) add(c + ahead, 1);
      if (c - behind - 1 >= 0) add(c - behind - 1, -1);
      step(c);
    }
  };
  const forward = (y) => {
    for (let at = 0; at < x.length; at += channels * inner) {
      slide(
        after,
        before,
        (c, sign) => addSquares(total, x, at + c * inner, sign),
        (c) => respond(y, sums, x, at + c * inner, total, LRN.alpha / size),
      );
    }
  };
  const backward = (dx) => {
    for (let at = 0; at < n * channels * inner; at += channels * inner) {
      for (let c = 0; c < channels; c++)
        ratios(ratio.subarray(c * inner, (c + 1) * inner), dy, x, sums, at + c * inner);
      slide(
        before,
        after,
        (c, sign) => addRatios(total, ratio, c * inner, sign),
        (c) => respondSlope(dx, dy, x, sums, at + c * inner, total, (2 * LRN.beta * LRN.alpha) / size),
      );
    }
  };
  return { forward, backward };
}

function plane(y, x, to, from, pixels, channels, scale, shift) {
  for (let i = 0; i < pixels; i++) y[to + i] = x[from + i * channels] * scale + shift;
}

function images(cell) {
  const x = pixelsOf(cell);
  const [n, channels, ...sizes] = cell.shape;
  const pixels = product(sizes);
  const forward = (y) => {
    for (let image = 0; image < n; image++) {
      const at = image * pixels * channels;
      for (let c = 0; c < channels; c++) {
        const [scale, shift] = [1 / 255 / IMAGES.std[c], -IMAGES.mean[c] / IMAGES.std[c]];
        plane(y, x, at + c * pixels, at + c, pixels, channels, scale, shift);
      }
    }
  };
  return { forward };
}

/** Two passes, a column of sums each. */
function statistics({ shape: [n, c, ...spatial], x }) {
  if (spatial.length > 0) throw new Unsupported('rows only');
  const [mean, variance] = [new Float64Array(c), new Float64Array(c)];
  const run = () => {
    mean.fill(0);
    variance.fill(0);
    for (let i = 0, e = 0; i < n; i++) for (let j = 0; j < c; j++, e++) mean[j] += x[e];
    for (let j = 0; j < c; j++) mean[j] /= n;
    for (let i = 0, e = 0; i < n; i++) for (let j = 0; j < c; j++, e++) variance[j] += (x[e] - mean[j]) ** 2;
    for (let j = 0; j < c; j++) variance[j] /= n;
  };
  return { run, results: () => ({ mean, var: variance }) };
}

function loopsOf(work) {
  if (work.op === 'images') return images(work);
  if (work.op === 'lrn') {
    if (work.layout === 'nhwc') throw new Unsupported('no loops for channels-last');
    return windows(work);
  }
  const [batch, outer, , inner, run] = work.geometry;
  if (run > 1) return slabs(work);
  if (outer === 1) return rows(work);
  if (batch > 1 || inner > 1) throw new Unsupported('no loops for channels-last with statistics for each sample');
  return columns(work);
}

function prepare(cell) {
  const { mode, op, variant, threads } = cell;
  if (threads !== 1) throw new Unsupported('one thread only');
  if (op === 'none') throw new Unsupported('there is nothing to do');
  const inputs = inputsOf(cell);
  if (op === 'statistics') return statistics({ ...cell, ...inputs });
  const { weight, bias, runningMean, runningVar } = inputs;
  const gradients = {
    dweight: weight && new Float32Array(weight.length),
    dbias: bias && new Float32Array(bias.length),
  };
  const geometry = op === 'lrn' || op === 'images' ? null : geometryOf(cell);
  const loops = loopsOf({ ...cell, ...inputs, ...gradients, geometry });
  const given = (results) => Object.fromEntries(Object.entries(results).filter(([, data]) => data));

  const length = product(cell.shape);
  let out = new Float32Array(length);
  const output = () => (variant === 'fresh' ? (out = new Float32Array(length)) : out);
  if (mode === 'backward') {
    loops.forward(out, 'train');
    return { run: () => loops.backward(output()), results: () => given({ dx: out, ...gradients }) };
  }
  const running = mode === 'train' ? { runningMean, runningVar } : {};
  return { run: () => loops.forward(output(), mode), results: () => given({ y: out, ...running }) };
}

await serve('plain-js', process.version, prepare);
