// Promise: no sequence of calls corrupts the process, and a refused call leaves everything as it was.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(__dirname, '..');
const node = (
  args: string[],
  env: Record<string, string> = {},
): { status: number | null; signal: string | null; output: string } => {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  return { status, signal, output: stdout + stderr };
};

it('100,000 hostile calls, half of them with one lie that reaches the native side', () => {
  const { status, signal, output } = node([join('test', 'hostile', 'hostile.cjs'), '--calls=100000']);
  console.info(output);
  expect({ status, signal }).toEqual({ status: 0, signal: null });
  const tally = JSON.parse(output.trim().split('\n').at(-1)!) as Record<string, number>;
  expect(tally.corrupted).toBeGreaterThanOrEqual(50_000);
  expect(tally.refused).toBeGreaterThan(40_000);
  expect(tally.accepted).toBeGreaterThan(5_000);
});

it.each(['main', 'Workers only'])('an addon loaded in %s outlives the Workers that used it', (where) => {
  const script = `
    const { Worker } = require('node:worker_threads');
    const work = "const s = require('./dist'); s.setNumThreads(3); const bn = new s.BatchNorm1d(64);" +
      "for (let i = 0; i < 20; i++) bn.forward(new s.Tensor(new Float32Array(64 * 3000).fill(1), [3000, 64]));";
    ${where === 'main' ? 'eval(work);' : ''}
    (async () => {
      for (let round = 0; round < 5; round++) {
        await Promise.all([1, 2, 3].map(() => new Promise((ok, no) => new Worker(work, { eval: true }).on('exit', (c) => (c ? no(new Error('exit ' + c)) : ok())).on('error', no))));
      }
      const busy = new Worker(work.replace('20', '1e9'), { eval: true });
      await new Promise((ok) => setTimeout(ok, 300));
      await busy.terminate();
      eval(work);
      console.log('done');
    })();`;
  const { status, signal, output } = node(['-e', script]);
  expect({ status, signal, output }).toEqual({ status: 0, signal: null, output: 'done\n' });
});

it('another Worker may change the threads and the instruction set during calls: the bits stay', () => {
  const script = `
    const { Worker } = require('node:worker_threads');
    const s = require('./dist');
    const restless = "const s = require('./dist'); for (let i = 0; ; i++) { s.setNumThreads(1 + i % 7); s.isa.use(s.isa.supported[i % s.isa.supported.length]); }";
    const workers = [1, 2].map(() => new Worker(restless, { eval: true }));
    const x = Float32Array.from({ length: 60 * 40 * 500 }, (_, i) => Math.sin(i));
    const forms = [[new s.BatchNorm1d(40), [60, 40, 500]], [new s.InstanceNorm1d(40), [60, 40, 500]], [new s.LayerNorm(500), [2400, 500]], [new s.BatchNorm1d(500), [2400, 500]]];
    const sum = (t) => Buffer.from(t.data.buffer).toString('latin1');
    const step = ([layer, shape]) => { const y = layer.forward(s.tensor(x, shape)); return sum(y) + sum(layer.backward(y)); };
    const first = forms.map(step);
    const end = Date.now() + 4000;
    let rounds = 0;
    for (; Date.now() < end; rounds++) forms.forEach((form, i) => { if (step(form) !== first[i]) throw new Error('other bits'); });
    Promise.all(workers.map((w) => w.terminate())).then(() => console.log(rounds > 3 ? 'done' : 'too few rounds'));`;
  expect(node(['-e', script])).toEqual({ status: 0, signal: null, output: 'done\n' });
});

it('works in a vm context, where typed arrays are of another realm', () => {
  const script = `
    const vm = require('node:vm');
    const s = require('./dist');
    const data = vm.runInNewContext('new Float32Array([1, 2, 3, 4])');
    const y = new s.LayerNorm(2).forward({ data, shape: vm.runInNewContext('[2, 2]') }, { out: vm.runInNewContext('new Float32Array(4)') });
    console.log(y.toArray().map(Math.round).join());`;
  expect(node(['-e', script])).toEqual({ status: 0, signal: null, output: '-1,1,-1,1\n' });
});

it('require and import both give the named exports', () => {
  const script = `import { BatchNorm2d, isa } from 'simdnorm'; import * as all from 'simdnorm';
    console.log(new BatchNorm2d(2).numFeatures, isa.supported.length > 0, typeof all.tensor);`;
  expect(node(['--input-type=module', '-e', script]).output).toBe('2 true function\n');
  expect(node(['-e', "console.log(Object.keys(require('simdnorm')).includes('BatchNorm2d'))"]).output).toBe('true\n');
});

it('a missing addon explains itself', () => {
  const alone = mkdtempSync(join(tmpdir(), 'simdnorm-'));
  try {
    for (const part of ['dist', 'package.json']) cpSync(join(root, part), join(alone, part), { recursive: true });
    const script = `try { require(${JSON.stringify(join(alone, 'dist'))}); } catch (error) { console.log(error.code, error.message); }`;
    const { output } = node(['-e', script]);
    expect(output).toMatch(
      /^ERR_ADDON_NOT_FOUND simdnorm: no native addon for \w+-\w+.*Looked for .*npm run build:native/s,
    );
    expect(output).toContain(`Looked for ${alone}`);
    expect(output).toContain('no such file');
  } finally {
    rmSync(alone, { recursive: true });
  }
});
