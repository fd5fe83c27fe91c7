// Builds build/Release/simdnorm.node, or the addon of the folder that is named (engines/gloo), with node-gyp, without the
// network where that is possible: from the headers beside this node, or else from node-api-headers, which is all that
// Node-API needs. In an installed package, which has no tools of its own, node-gyp is npm's.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, realpathSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const root = join(dirname(fileURLToPath(import.meta.url)), '..');

function find(name) {
  try {
    return require(name);
  } catch {
    return undefined;
  }
}

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

function nodedir() {
  if (process.env.npm_config_nodedir) return process.env.npm_config_nodedir;
  const prefix = resolve(process.execPath, '..', '..');
  if (existsSync(join(prefix, 'include', 'node', 'common.gypi'))) return prefix;
  if (process.platform === 'win32') return undefined; // needs node.lib too, which node-gyp fetches
  const headers = find('node-api-headers')?.include_dir;
  if (!headers) return undefined; // node-gyp fetches them
  const own = join(root, 'build-nodedir');
  const include = join(own, 'include', 'node');
  mkdirSync(include, { recursive: true });
  for (const file of readdirSync(headers)) copyFileSync(join(headers, file), join(include, file));
  const mac = ['-undefined', 'dynamic_lookup'];
  const gypi = {
    target_defaults: {
      default_configuration: 'Release',
      configurations: { Release: {}, Debug: { cflags: ['-O0', '-g'] } },
      conditions: [['OS=="mac"', { xcode_settings: { OTHER_LDFLAGS: mac } }]],
    },
  };
  writeFileSync(join(include, 'common.gypi'), JSON.stringify(gypi));
  return own;
}

const headers = nodedir();
const result = spawnSync(process.execPath, [nodeGyp(), 'rebuild', '--silent'], {
  cwd: resolve(root, process.argv[2] ?? '.'),
  env: {
    ...process.env,
    JOBS: process.env.JOBS ?? String(availableParallelism()),
    ...(headers ? { npm_config_nodedir: headers } : {}),
  },
  stdio: 'inherit',
});
process.exit(result.status ?? 1);
