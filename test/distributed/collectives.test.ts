// Every collective over every engine; the checks themselves run on the ranks.

import { onEveryEngine, runRanks, valuesOf, type Result } from '../support/ranks';

const titles = Object.keys(require('./scenarios/collectives.cjs') as object);

onEveryEngine('collectives of four ranks', (engine) => {
  let results: (Result[] | null)[];
  beforeAll(async () => {
    const cases = titles.map((title) => ({ scenario: ['collectives', title] as [string, string] }));
    results = await runRanks(engine, { size: 4, cases, memory: { groups: 40 } });
  });

  it.each(titles.map((title, i) => [title, i] as const))('%s', (_, i) => {
    const values = valuesOf(results, i);
    for (const value of values) expect(value).toEqual(values[0]);
  });
});

it.each([2, 3])('the same of %p threads, whose slots are small', async (size) => {
  const cases = titles.map((title) => ({ scenario: ['collectives', title] as [string, string] }));
  const threads = { name: 'threads', engine: 'threads' as const };
  const results = await runRanks(threads, { size, cases, memory: { groups: 40, slotBytes: 1001 } });
  titles.forEach((_, i) => valuesOf(results, i));
});
