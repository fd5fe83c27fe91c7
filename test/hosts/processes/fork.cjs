// Children by fork, and the workers of a cluster, each with threads of its own.
const assert = require('node:assert/strict');
const { fork } = require('node:child_process');
const cluster = require('node:cluster');
const { digest } = require('../work.cjs');

const answer = (child) =>
  new Promise((resolve, reject) => child.once('message', resolve).once('exit', () => reject(new Error('no answer'))));

async function main() {
  digest(); // the parent has threads before there are children
  const children = Array.from({ length: 3 }, () => fork(__filename, ['child']));
  const workers = Array.from({ length: 3 }, () => cluster.fork());
  const digests = await Promise.all([...children, ...workers].map(answer));
  assert.deepEqual(new Set([digest(), ...digests]), new Set([process.env.DIGEST]));
  console.log('right');
}

if (process.argv[2] === 'child' || cluster.isWorker) {
  process.send(digest(), () => process.disconnect());
} else {
  main();
}
