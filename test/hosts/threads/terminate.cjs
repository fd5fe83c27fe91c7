// Workers that end in the middle of a call, which may be any that takes time: the process lives and computes rightly.
const assert = require('node:assert/strict');
const { Worker, isMainThread, workerData } = require('node:worker_threads');
const { setTimeout: sleep } = require('node:timers/promises');

const calls = {
  forward: (s) => {
    const layer = new s.LayerNorm(1024);
    const x = s.tensor(new Float32Array(4 * 2 ** 20).fill(1), [4096, 1024]);
    return () => layer.forward(x);
  },
  forwardAsync: (s) => {
    const layer = new s.LayerNorm(1024);
    const x = s.tensor(new Float32Array(4 * 2 ** 20).fill(1), [4096, 1024]);
    return () => Promise.all([layer.forwardAsync(x), layer.forwardAsync(x)]);
  },
  imagesToTensorAsync: () => {
    const { imagesToTensorAsync } = require('simdnorm/preprocessing');
    const image = { data: new Uint8Array(2048 * 2048 * 3), width: 2048, height: 2048 };
    return () => imagesToTensorAsync([image, image]);
  },
};

async function main() {
  const name = process.argv[2];
  const { digest } = require('../work.cjs');
  let settled;
  for (let i = 0; i < 24; i++) {
    const begun = new Int32Array(new SharedArrayBuffer(4));
    const worker = new Worker(__filename, { workerData: { name, begun } });
    const failed = new Promise((_, reject) => worker.once('error', reject));
    const ready = (async () => {
      while (Atomics.load(begun, 0) < 2) await sleep(1);
      await sleep(i % 8);
      return worker.terminate();
    })();
    assert.equal(await Promise.race([ready, failed]), 1);
    assert.equal(digest(), process.env.DIGEST);
    if (i === 7) settled = process.memoryUsage.rss();
  }
  const grown = (process.memoryUsage.rss() - settled) / 2 ** 20;
  console.log(`right, ${grown.toFixed(1)} MiB more after the last 16 of 24`);
  // One call has over 30 in memory of its own.
  assert(grown < 100, `${grown} MiB stayed behind`);
}

async function work({ name, begun }) {
  const call = calls[name](require('simdnorm'));
  for (;;) {
    Atomics.add(begun, 0, 1);
    await call();
  }
}

if (isMainThread) main();
else work(workerData);
