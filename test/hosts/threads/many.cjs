// Sixteen Workers at once, each of which loads the package and computes what the main thread does meanwhile.
const assert = require('node:assert/strict');
const { Worker, isMainThread, parentPort } = require('node:worker_threads');
const { digest } = require('../work.cjs');

const all = () => Array.from({ length: 20 }, () => digest());
if (isMainThread) {
  const workers = Array.from({ length: 16 }, () => new Worker(__filename));
  const answers = workers.map((w) => new Promise((y, n) => w.once('message', y).once('error', n)));
  const own = all();
  Promise.all(answers).then((theirs) => {
    assert.deepEqual(new Set([...own, ...theirs.flat()]), new Set([process.env.DIGEST]));
    console.log('right');
  });
} else {
  parentPort.postMessage(all());
}
