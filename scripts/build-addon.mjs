// Builds build/Release/simdnorm.node, or the addon of the folder that is named (engines/gloo), with node-gyp and the
// headers of native-headers.mjs, so without the network. In an installed package, which has no tools of its own,
// node-gyp is npm's.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, realpathSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fillHeaders, headers } from './native-headers.mjs';

const require = createRequire(import.meta.url);
const root = join(dirname(fileURLToPath(import.meta.url)), '..');

function nodeGyp() {
  const gyp = join('node-gyp', 'bin', 'node-gyp.js');
  try {
    return require.resolve(gyp);
  } catch {
    const prefix = dirname(process.execPath);
    const npms = [
      // npm-cli.js, where npm runs this.
      process.env.npm_execpath && resolve(realpathSync(process.env.npm_execpath), '..', '..'),
      resolve(prefix, '..', 'lib', 'node_modules', 'npm'),
      join(prefix, 'node_modules', 'npm'),
      resolve(prefix, '..', 'share', 'nodejs', 'npm'),
    ];
    const places = npms.filter(Boolean).flatMap((npm) => [join(npm, 'node_modules', gyp), join(npm, '..', gyp)]);
    const found = places.find((file) => existsSync(file));
    if (found) return found;
    console.error('simdnorm: no node-gyp, neither here nor with npm: npm install node-gyp');
    process.exit(1);
  }
}

fillHeaders();
// An installed package has it elsewhere: yarn and pnpm build whatever comes with a binding.gyp.
const gypfile = join(root, 'binding.gyp');
const isInstalled = !existsSync(gypfile);
if (isInstalled) copyFileSync(join(headers, 'binding.gyp'), gypfile);
const result = spawnSync(process.execPath, [nodeGyp(), 'rebuild', '--silent'], {
  cwd: resolve(root, process.argv[2] ?? '.'),
  env: {
    ...process.env,
    JOBS: process.env.JOBS ?? String(availableParallelism()),
    npm_config_nodedir: headers,
  },
  stdio: 'inherit',
});
if (isInstalled) rmSync(gypfile);
process.exit(result.status ?? 1);
