// The tests' oracle and tolerances, out of their TypeScript, and the check that every cell passes before it is timed.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { MOMENTUM } from './grid.mjs';

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
const { tolerances, unitRoundoff } = load(join(support, 'tolerance.ts'));

// The oracle takes some 0.3 us an element. Of larger tensors it sees the first channels (all of their elements, so that
// every result can be compared); of LayerNorm and RMSNorm, whose parameter gradients run over all rows, everything.
const MOST = 1 << 20;

function firstChannels({ geometry, x, dy, weight, bias }) {
  const [batch, outer, groups, inner, run, channels] = geometry;
  const some = Math.max(1, Math.min(groups, Math.floor(MOST / (batch * outer * inner))));
  const kept = (channels * some) / groups;
  const elements = new Uint32Array(batch * outer * some * inner);
  for (let piece = 0, at = 0; piece < batch * outer; piece++) {
    const first = piece * groups * inner;
    for (let i = 0; i < some * inner; i++) elements[at++] = first + i;
  }
  const pick = (array) => Float64Array.from(elements, (e) => array[e]);
  return {
    elements,
    dy: pick(dy),
    question: {
      geometry: [batch, outer, some, inner, run, kept],
      x: pick(x),
      weight: weight.subarray(0, kept),
      bias: bias && bias.subarray(0, kept),
    },
  };
}

// One unit in the last place of a float32 of this size.
const ulpOf = (size) => 2 ** (Math.max(Math.floor(Math.log2(size)), -126) - 23);

/** The exact answers for one row of the grid; its `judge(results)` gives { ulp, faults }. */
export function examine({ eps, about, running, before, ...arrays }) {
  const { elements, dy, question } = firstChannels(arrays);
  Object.assign(question, { eps, about, ...(running && { running }) });
  const answer = reference(question, dy);
  const allowed = tolerances(question, answer, dy, 'float32');

  // An error is given in ulp of the size of what was added up to get the result (a mean being one of values of its
  // deviation), so that cancellation is neither punished nor hidden.
  const [batch, outer, groups, inner, run, channels] = question.geometry;
  const { x, weight, bias } = question;
  const { abs } = Math;
  const channel = (e) => Math.floor(e / run) % channels;
  const statistic = (e) => Math.floor(e / (outer * groups * inner)) * groups + (Math.floor(e / inner) % groups);
  const xHat = (e) => abs((x[e] - answer.mean[statistic(e)]) * answer.rstd[statistic(e)]);
  const h = (e) => abs(dy[e] * weight[channel(e)]);
  const [hMean, hxMean] = [new Float64Array(batch * groups), new Float64Array(batch * groups)];
  for (let e = 0; e < dy.length; e++) {
    hMean[statistic(e)] += h(e) / (outer * inner);
    hxMean[statistic(e)] += (h(e) * xHat(e)) / (outer * inner);
  }
  const ySize = (e) => weight[channel(e)] * (1 + xHat(e)) + (bias ? abs(bias[channel(e)]) : 0);
  const dxSize = (e) => answer.rstd[statistic(e)] * (h(e) + hMean[statistic(e)] + xHat(e) * hxMean[statistic(e)]);
  const kinds = {
    y: { expected: answer.y, size: ySize, at: (i) => elements[i] },
    dx: { expected: answer.dx, size: dxSize, at: (i) => elements[i] },
    dweight: { expected: answer.dweight, size: (c) => answer.dweightTerms[c] },
    dbias: { expected: answer.dbias, size: (c) => answer.dbiasTerms[c] },
  };
  // Running statistics, after one batch: the statistic's own error, and the rounding of the result.
  const blended = (name, old, now, spread) => {
    const size = (c) => abs((1 - MOMENTUM) * old[c]) + MOMENTUM * (abs(now(c)) + spread(c));
    const expected = answer.mean.map((_, c) => (1 - MOMENTUM) * old[c] + MOMENTUM * now(c));
    kinds[name] = { expected, size };
    allowed[name] =
      unitRoundoff.float32 * Math.max(...expected.map((_, c) => 2 * size(c))) +
      MOMENTUM * allowed[name === 'runningMean' ? 'mean' : 'var'];
  };
  if (before) {
    const n = outer * inner;
    blended(
      'runningMean',
      before.mean,
      (c) => answer.mean[c],
      (c) => Math.sqrt(answer.var[c]),
    );
    blended(
      'runningVar',
      before.var,
      (c) => (answer.var[c] * n) / (n - 1),
      () => 0,
    );
  }

  return {
    /** @param results y, dx, dweight, dbias, runningMean, runningVar: those there are, of the whole tensor */
    judge(results) {
      let ulp = 0;
      const faults = [];
      for (const [name, actual] of Object.entries(results)) {
        const { expected, size, at = (i) => i } = kinds[name];
        const limit = (i) => (typeof allowed[name] === 'number' ? allowed[name] : allowed[name][i]);
        for (let i = 0; i < expected.length; i++) {
          const off = abs(actual[at(i)] - expected[i]);
          if (!(off <= limit(i)) && faults.length < 3)
            faults.push(`${name}[${at(i)}] is off by ${off}, allowed ${limit(i)}`);
          ulp = Math.max(ulp, off / ulpOf(size(i)));
        }
      }
      return { ulp, faults };
    },
  };
}
