// The package loaded and dropped again a hundred times, by Workers only: the addon must not go with the first of them, and
// nothing may stay behind each.
const assert = require('node:assert/strict');
const { Worker, isMainThread, parentPort } = require('node:worker_threads');

const cycles = 100;
const cycle = () =>
  new Promise((resolve, reject) => {
    let digest;
    const worker = new Worker(__filename);
    worker.once('message', (answer) => (digest = answer)).once('error', reject);
    worker.once('exit', () => resolve(digest));
  });

async function main() {
  let settled;
  for (let i = 0; i < cycles; i++) {
    assert.equal(await cycle(), process.env.DIGEST);
    if (i === cycles / 4) settled = process.memoryUsage.rss();
  }
  const grown = (process.memoryUsage.rss() - settled) / 2 ** 20;
  console.log(`right, ${grown.toFixed(1)} MiB more after the last three quarters`);
  // 75 copies of what one Worker has would be over 100.
  assert(grown < 40, `${grown} MiB stayed behind`);
}

if (isMainThread) main();
else parentPort.postMessage(require('../work.cjs').digest());
