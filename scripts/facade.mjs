// Two binaries under the facade in one process, to compare them.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const dist = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist');
const require = createRequire(import.meta.url);

/** The compiled package anew, on what SIMDNORM_ADDON would name: '' is the one that it finds by itself. */
export function facade(binary) {
  for (const file of Object.keys(require.cache)) if (file.startsWith(dist)) delete require.cache[file];
  process.env.SIMDNORM_ADDON = binary;
  const part = (name) => require(join(dist, name));
  const all = { ...part('index.js'), functional: part('functional'), preprocessing: part('preprocessing') };
  const { addon } = part('internal/addon.js');
  delete process.env.SIMDNORM_ADDON;
  return { ...all, addon };
}
