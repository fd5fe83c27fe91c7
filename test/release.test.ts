// What a release is made by: the workflows run nothing that somebody else could change under them.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = join(__dirname, '..', '.github', 'workflows');
const uses = readdirSync(folder).flatMap((file) =>
  [...readFileSync(join(folder, file), 'utf8').matchAll(/^\s*-?\s*uses: (.*)$/gm)].map(([, action]) => [file, action!]),
);

it('has workflows', () => expect(uses.length).toBeGreaterThan(0));
it.each(uses)('%s pins %s by its commit', (_, action) => {
  expect(action).toMatch(/^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
});
