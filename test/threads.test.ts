// Promise: one pool for the process, whose helpers sleep when there is nothing to do and outlive every Worker.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(__dirname, '..');
const run = (script: string): unknown => {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['-e', script], {
    cwd: root,
    encoding: 'utf8',
  });
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  return JSON.parse(stdout);
};

const compute = `
  const s = require('./dist');
  const x = s.tensor(Float32Array.from({ length: 64 * 40 * 300 }, (_, i) => Math.sin(i)), [64, 40, 300]);
  const step = () => {
    const [batch, layer] = [new s.BatchNorm1d(40), new s.LayerNorm(300)];
    const bits = (t) => Buffer.from(t.data.buffer).toString('latin1');
    const y = batch.forward(x);
    return bits(y) + bits(batch.backward(y)) + bits(layer.forward(x)) + bits(batch.runningVar);
  };`;

it('helpers use no processor from 100 ms after the work', () => {
  // process.cpuUsage is of all threads of the process. Spinning helpers would use some 1000 ms in the second.
  const script = `${compute}
    s.setNumThreads(4);
    const used = (f) => { const before = process.cpuUsage(); const begin = performance.now(); return Promise.resolve(f()).then(() => {
      const { user, system } = process.cpuUsage(before); return { cpu: (user + system) / 1e3, wall: performance.now() - begin }; }); };
    const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    (async () => {
      const busy = await used(() => { for (let i = 0; i < 40; i++) step(); });
      await sleep(100);
      const idle = await used(() => sleep(1000));
      console.log(JSON.stringify({ busy, idle }));
    })();`;
  const { busy, idle } = run(script) as Record<'busy' | 'idle', { cpu: number; wall: number }>;
  expect(busy.cpu / busy.wall).toBeGreaterThan(0.1); // the clock does count
  expect(idle.wall).toBeGreaterThan(990);
  expect(idle.cpu / idle.wall).toBeLessThan(0.05); // the event loop's own, and collections
});

it('Workers come, go and are terminated in the middle of calls; everybody gets the same bits', () => {
  const script = `
    const { Worker } = require('node:worker_threads');
    ${compute}
    s.setNumThreads(3);
    const expected = step();
    const work = \`const { parentPort, workerData } = require('node:worker_threads'); ${compute.replaceAll('`', '\\`')}
      for (let i = 0; i < workerData; i++) parentPort.postMessage(step());\`;
    const tally = { compared: 0, other: 0, terminated: 0, ended: 0 };
    const compare = (bits) => { tally.compared++; if (bits !== expected) tally.other++; };
    const start = (calls) => {
      const worker = new Worker(work, { eval: true, workerData: calls });
      return { worker, computed: new Promise((resolve) => worker.on('message', (bits) => { compare(bits); resolve(); })),
        exited: new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject)) };
    };
    (async () => {
      for (let round = 0; round < 6; round++) {
        const passing = [start(3), start(3)], endless = start(1e9);
        for (let i = 0; i < 4; i++) { compare(step()); await new Promise(setImmediate); }
        await endless.computed;
        await endless.worker.terminate();
        tally.terminated++;
        compare(step());
        for (const { exited } of passing) if ((await exited) === 0) tally.ended++;
      }
      console.log(JSON.stringify(tally));
    })();`;
  const tally = run(script) as Record<string, number>;
  expect(tally).toMatchObject({ other: 0, terminated: 6, ended: 12 });
  expect(tally.compared).toBeGreaterThanOrEqual(6 * (4 + 1 + 2 * 3 + 1));
});
