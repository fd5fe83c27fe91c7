import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest } from '../work.cjs';

test('the same beside another file', () => {
  for (let i = 0; i < 20; i++) assert.equal(digest(), process.env.DIGEST);
});
