import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BatchNorm1d, LayerNorm, tensor } from 'simdnorm';
import { digest } from '../work.cjs';

test('numbers and errors', async () => {
  const y = new BatchNorm1d(1).forward(tensor(new Float32Array([1, 3]), [2, 1]));
  assert(y.data instanceof Float32Array && Math.abs(y.data[1] - 1) < 1e-4);
  assert.throws(() => new BatchNorm1d('a'), TypeError);
  assert((await new LayerNorm(4).forwardAsync([[1, 2, 3, 4]])).data instanceof Float32Array);
});

test('at once', { concurrency: true }, async (t) => {
  await Promise.all([1, 2, 3].map((n) => t.test(`${n}`, async () => assert.equal(digest(), process.env.DIGEST))));
});
