// One of several that run at once, in processes or threads of their own.
import { expect, test } from 'vitest';
import { digest } from '../work.cjs';
test('computes the same beside others', () => {
  for (let i = 0; i < 20; i++) expect(digest()).toBe(process.env.DIGEST);
});
