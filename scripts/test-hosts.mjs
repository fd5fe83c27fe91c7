// The packed package, with its prebuild, in the hosts that people run it in: test runners, threads, processes, contexts,
// flags of Node, bundles. The programs are in test/hosts.
//
//   node scripts/test-hosts.mjs [--tarball=FILE] [--only=jest,Workers]
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'; // prettier-ignore
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { check, commonjs, esm, expect, finish, node, npm, project, root, run, tarball } from './checks.mjs';
import { tool, toolsRoot } from './tools.mjs';

const programs = join(root, 'test', 'hosts');
const { values: given } = parseArgs({ options: { tarball: { type: 'string' }, only: { type: 'string' } } });
const packed = await tarball(given.tarball);

/** The packages of test/hosts/package-lock.json, fetched once. */
async function hosts() {
  const lock = readFileSync(join(programs, 'package-lock.json'));
  const home = join(toolsRoot, `hosts-${createHash('sha256').update(lock).digest('hex').slice(0, 16)}`);
  if (!existsSync(home)) {
    const temporary = `${home}-${process.pid}`;
    mkdirSync(temporary, { recursive: true });
    for (const name of ['package.json', 'package-lock.json']) cpSync(join(programs, name), join(temporary, name));
    await node([npm, 'ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: temporary, seconds: 300 });
    renameSync(temporary, home);
  }
  return join(home, 'node_modules');
}
const packages = await hosts();

const folder = project('hosts', {
  'package.json': {
    name: 'user',
    private: true,
    jest: { testEnvironment: 'node', testMatch: ['**/jest/*.test.js'], transform: {} },
  },
});
await node([npm, 'install', '--ignore-scripts', '--no-audit', '--no-fund', '--offline', packed], { cwd: folder });
const installed = join(folder, 'node_modules', 'simdnorm');
symlinkSync(join(packages, 'vitest'), join(folder, 'node_modules', 'vitest'));
for (const entry of readdirSync(programs, { withFileTypes: true })) {
  const own = entry.isDirectory() || entry.name.endsWith('.cjs');
  if (own && entry.name !== 'node_modules')
    cpSync(join(programs, entry.name), join(folder, entry.name), { recursive: true });
}
for (const file of ['jest/beside.test.js', 'vitest/beside.test.mjs']) {
  for (const n of [2, 3]) cpSync(join(folder, file), join(folder, file.replace('beside', `beside-${n}`)));
}
writeFileSync(join(folder, 'user.cjs'), commonjs);
writeFileSync(join(folder, 'user.mjs'), esm);
writeFileSync(
  join(folder, 'user.mts'),
  `import type { Tensor } from 'simdnorm';\n${esm}\nconst none: Tensor | null = null;\nvoid none;\n`,
);

const digest = (await node(['-p', "require('./work.cjs').digest()"], { cwd: folder })).output.trim();
const env = { ...process.env, DIGEST: digest };

/** Parts of names. */
const only = given.only?.split(',') ?? [''];
const unused = new Set(only);
async function host(name, test) {
  const parts = only.filter((part) => name.includes(part));
  for (const part of parts) unused.delete(part);
  if (parts.length > 0) await check(name, test);
}

/** Runs one in the project, of which the last line is to begin with "right"; says what stands behind that. */
async function right(command, args, options = {}) {
  const { output } = await run(command, args, { cwd: folder, env, seconds: 300, ...options });
  const said = /^right(?:, (.*))?$/m.exec(output);
  expect(said, output);
  return said[1];
}
const program = (...args) => right(process.execPath, args);

/** A test runner, which has to have run as many tests as there are. */
async function runner(args, counted) {
  const { output } = await node(args, { cwd: folder, env, seconds: 300 });
  const found = counted.exec(output);
  expect(found, output);
  return found[0].trim().replace(/\s+/g, ' ');
}

// ---- test runners ----

const jest = createRequire(join(root, 'package.json')).resolve('jest/bin/jest');
for (const [how, args] of [
  ['processes', []],
  ['threads', ['--workerThreads']],
]) {
  await host(`jest, its files in ${how}`, () =>
    runner([jest, '--rootDir', folder, '--maxWorkers=4', ...args], /Tests: +8 passed, 8 total/),
  );
}
for (const pool of ['threads', 'forks', 'vmThreads']) {
  await host(`vitest, pool ${pool}`, () =>
    runner(
      [join(packages, 'vitest', 'vitest.mjs'), 'run', '--dir', 'vitest', `--pool=${pool}`, '--no-color'],
      /Tests +5 passed \(5\)/,
    ),
  );
}
await host('node:test, two files at once', () =>
  runner(
    ['--test', '--test-concurrency=2', '--test-reporter=tap', 'node/use.test.mjs', 'node/beside.test.mjs'],
    /^# tests 6$.*^# pass 6$/ms,
  ),
);

// ---- threads, processes, contexts ----

await host('16 Workers at once agree with the main thread', () => program('threads/many.cjs'));
await host('Workers load and drop it 100 times', () => program('threads/cycles.cjs'));
for (const call of ['forward', 'forwardAsync', 'imagesToTensorAsync']) {
  await host(`Workers are terminated during ${call}`, () => program('threads/terminate.cjs', call));
}
await host('vm contexts', () => program('node/contexts.cjs'));
await host('child_process.fork and cluster', () => program('processes/fork.cjs'));

// ---- what Node can be started with ----

await host('import and require of one package are one', async () => {
  const script = `import { BatchNorm2d } from 'simdnorm'; import { createRequire } from 'node:module';
    if (createRequire(process.cwd() + '/x')('simdnorm').BatchNorm2d !== BatchNorm2d) throw new Error('two'); console.log('right')`;
  await program('--input-type=module', '-e', script);
});
await host('every name of the package can be imported by name', async () => {
  const script = `for (const [name, to] of Object.entries(require('./node_modules/simdnorm/package.json').exports)) {
      if (!to.default?.endsWith('.js')) continue; // what is no CommonJS
      const specifier = name.replace('.', 'simdnorm');
      const [given, wanted] = [Object.keys(await import(specifier)), Object.keys(require(specifier))];
      const lost = wanted.filter((key) => !given.includes(key));
      if (lost.length || !wanted.length) throw new Error(specifier + ' lacks ' + lost);
    }
    console.log('right')`;
  await program('-e', `(async () => { ${script} })()`);
});
await host('--frozen-intrinsics', () => program('--frozen-intrinsics', 'user.cjs'));
await host('--disallow-code-generation-from-strings --disable-proto=throw', () =>
  program('--disallow-code-generation-from-strings', '--disable-proto=throw', 'user.cjs'),
);
const node24 = tool('node24');
for (const [version, command, flag] of [
  [20, tool('node20'), '--experimental-permission'],
  [24, node24, '--permission'],
]) {
  await host(`Node ${version} ${flag}, reading the project only`, () =>
    right(command, [flag, '--allow-addons', `--allow-fs-read=${folder}/*`, 'user.cjs']),
  );
}
for (const args of [['--no-addons'], ['--permission', `--allow-fs-read=${folder}/*`]]) {
  await host(`Node 24 ${args[0]} without addons is an error that says so`, async () => {
    const { output, status } = await run(node24, [...args, 'user.cjs'], { cwd: folder, env, mayFail: true });
    expect(status === 1 && /ERR_ADDON_NOT_FOUND/.test(output) && /addons is disabled/.test(output), output);
  });
}
await host('Node 24 runs TypeScript', () => right(node24, ['user.mts']));

for (const [runtime, ...options] of [
  ['node20'],
  ['bun'],
  ['deno', 'run', '--no-prompt', `--allow-read=${folder}`, `--allow-ffi=${installed}`, '--allow-env'],
]) {
  await host(`${runtime}: simdnorm/wasm beside simdnorm, with its bits`, () =>
    right(tool(runtime), [...options, 'wasm/use.mjs']),
  );
}

// ---- bundles ----

/** Elsewhere, where no node_modules is above it. */
const bundles = project('bundles');
const esbuild = join(packages, 'esbuild', 'bin', 'esbuild');
const prebuild = readdirSync(join(installed, 'prebuilds', `${process.platform}-${process.arch}`))
  .map((file) => join(installed, 'prebuilds', `${process.platform}-${process.arch}`, file))
  .find((file) => !file.includes('.musl.')); // prettier-ignore

/** Runs a bundle where only it, and what `beside` puts there, is to be found. */
async function bundled(name, file, { addon, prebuilds } = {}) {
  const home = join(bundles, name);
  if (prebuilds) cpSync(join(installed, 'prebuilds'), join(home, 'prebuilds'), { recursive: true });
  const more = {};
  if (addon) cpSync(prebuild, (more.SIMDNORM_ADDON = join(home, 'simdnorm.node')));
  await right(process.execPath, [join(home, file)], { cwd: home, env: { ...env, ...more } });
}
const bundle = (name, file, ...args) =>
  node(
    [
      esbuild,
      'user.mjs',
      '--bundle',
      '--platform=node',
      `--outfile=${join(bundles, name, file)}`,
      '--log-level=warning',
      ...args,
    ],
    { cwd: folder },
  );
/** What CommonJS in an ESM bundle needs. */
const banner = `--banner:js=import { createRequire } from 'node:module'; const require = createRequire(import.meta.url); const __dirname = import.meta.dirname;`;
const optional = ['cli-progress', 'csv-parse', 'echarts', 'hyparquet', 'hyparquet-compressors', 'sharp'];
const externals = optional.map((name) => `--external:${name}`);

for (const format of ['cjs', 'esm']) {
  await host(`esbuild --external:simdnorm, ${format}`, async () => {
    const file = join(folder, `external.${format === 'esm' ? 'mjs' : 'cjs'}`);
    await node(
      [
        esbuild,
        'user.mjs',
        '--bundle',
        '--platform=node',
        `--format=${format}`,
        '--external:simdnorm',
        `--outfile=${file}`,
      ],
      { cwd: folder },
    );
    await program(file);
  });
}
await host('esbuild --packages=external', async () => {
  await node([esbuild, 'user.mjs', '--bundle', '--platform=node', '--packages=external', '--outfile=packages.cjs'], {
    cwd: folder,
  });
  await program('packages.cjs');
});
await host('esbuild, all in one file, prebuilds/ beside it', async () => {
  const { output } = await bundle('prebuilds', 'main.cjs', ...externals);
  expect(output === '', output);
  await bundled('prebuilds', 'main.cjs', { prebuilds: true });
});
await host('esbuild, all in one file, SIMDNORM_ADDON', async () => {
  await bundle('addon', 'main.cjs', ...externals);
  await bundled('addon', 'main.cjs', { addon: true });
});
await host('esbuild, all in one file, minified', async () => {
  await bundle('minified', 'main.cjs', '--minify', ...externals);
  await bundled('minified', 'main.cjs', { prebuilds: true });
});
await host('esbuild, all in one ESM file with a banner', async () => {
  await bundle('esm', 'main.mjs', '--format=esm', banner, ...externals);
  await bundled('esm', 'main.mjs', { prebuilds: true });
});
await host('esbuild, all in one file, without any binary: an error that says where it looked', async () => {
  await bundle('nothing', 'main.cjs', ...externals);
  const { output } = await node([join(bundles, 'nothing', 'main.cjs')], { env, mayFail: true });
  expect(/ERR_ADDON_NOT_FOUND/.test(output) && /Looked for .*prebuilds/.test(output), output);
});

await host('webpack, external', async () => {
  await webpack('external', "externals: /^simdnorm/, externalsType: 'commonjs'");
  cpSync(join(bundles, 'webpack-external', 'main.cjs'), join(folder, 'webpack.cjs'));
  await program('webpack.cjs');
});
await host('webpack, all in one file, prebuilds/ beside it', async () => {
  const externals = Object.fromEntries(optional.map((name) => [name, `commonjs ${name}`]));
  await webpack('whole', `node: { __dirname: false }, externals: ${JSON.stringify(externals)}`);
  await bundled('webpack-whole', 'main.cjs', { prebuilds: true });
});
/** `settings` as they stand in a configuration, because they may have a regular expression. */
async function webpack(name, settings) {
  const output = { path: join(bundles, `webpack-${name}`), filename: 'main.cjs' };
  const script = `require(${JSON.stringify(join(packages, 'webpack'))})({
      mode: 'production', target: 'node', entry: './user.mjs', output: ${JSON.stringify(output)}, ${settings}
    }, (error, stats) => {
      if (!error && !stats.hasErrors()) return;
      console.error(error ?? stats.toString());
      process.exit(1);
    })`;
  await node(['-e', script], { cwd: folder, seconds: 120 });
}

await host('rollup, external', async () => {
  await rollup('external', { external: '/^simdnorm/' });
  cpSync(join(bundles, 'rollup-external', 'main.mjs'), join(folder, 'rollup.mjs'));
  await program('rollup.mjs');
});
async function rollup(name, { external }) {
  const script = `const { rollup } = require(${JSON.stringify(join(packages, 'rollup'))});
    rollup({ input: 'user.mjs', external: ${external} })
      .then((b) => b.write({ file: ${JSON.stringify(join(bundles, `rollup-${name}`, 'main.mjs'))}, format: 'es' }))
      .catch((error) => { console.error(error); process.exit(1); })`;
  await node(['-e', script], { cwd: folder });
}

for (const part of unused) await check(`--only=${part}`, () => expect(false, 'there is no such host'));
finish();
