// The README's examples, run as they stand.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(__dirname, '..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const examples = [...readme.matchAll(/```js\n([\s\S]*?)```/g)].map((match) => match[1]!);

it('has examples', () => expect(examples.length).toBeGreaterThanOrEqual(5));

it.each(examples.map((code, i) => [i + 1, code] as const))('example %i runs', (_, code) => {
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    cwd: root,
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});

it('has no blank left to fill', () => expect(readme).not.toMatch(/@[A-Z]+@/));

it('every file it links to exists', () => {
  for (const [, path] of readme.matchAll(/\]\(([^)#]+)\)/g)) {
    if (!/^https?:/.test(path!)) expect(() => readFileSync(join(root, path!))).not.toThrow();
  }
});
