// What `npm pack` makes: that it holds what it should and nothing else; that npm, pnpm, yarn and bun install it from an
// empty cache, without the network, a compiler, or any process of ours; that it works where it then lies, says what is
// wrong where it cannot, and builds from source.
//
//   node scripts/test-install.mjs [--tarball=FILE] [--runs=3] [--only=npm,bun] [--build]
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync,
  writeFileSync,
} from 'node:fs'; // prettier-ignore
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, join, posix, relative } from 'node:path';
import { parseArgs } from 'node:util';
import {
  check, chosen, commonjs, esm, expect, finish, node, npm, project, root, run, tarball, temporary, which,
} from './checks.mjs'; // prettier-ignore
import { tool } from './tools.mjs';

const { values: given } = parseArgs({
  options: {
    tarball: { type: 'string' },
    runs: { type: 'string', default: '3' },
    only: { type: 'string' },
    build: { type: 'boolean', default: false },
  },
});
const runs = Number(given.runs);

/** `helpers` are the processes that each starts by itself. */
const managers = {
  npm: { command: () => ['node', npm, 'install', '--no-audit', '--no-fund'] },
  pnpm: { command: () => [tool('pnpm'), 'add'], helpers: [/node --version$/] },
  'pnpm 10': { command: () => ['node', tool('pnpm10'), 'add'] },
  // That of root would not be in its home.
  'yarn 1': {
    command: (home) => ['node', tool('yarn1'), 'add', '--cache-folder', join(home, 'cache')],
    prefix: 'file:',
  },
  'yarn 4': berry('node-modules'),
  'yarn 4 pnp': { ...berry('pnp'), preload: './.pnp.cjs' },
  bun: { command: () => [tool('bun'), 'add'] },
};
function berry(linker) {
  return {
    command: () => ['node', tool('yarn'), 'add'],
    files: {
      'yarn.lock': '',
      '.yarnrc.yml': `nodeLinker: ${linker}\nenableTelemetry: false\nenableGlobalCache: false\npnpEnableEsmLoader: true\n`,
    },
    // It knows no such option.
    ignoring: { YARN_ENABLE_SCRIPTS: 'false' },
  };
}
const only = chosen(given.only, Object.keys(managers));

const packed = await tarball(given.tarball);
const unpacked = join(temporary, 'unpacked');
mkdirSync(unpacked);
execFileSync('tar', ['xzf', packed, '-C', unpacked]);
const own = join(unpacked, 'package');
const files = readdirSync(own, { recursive: true, withFileTypes: true })
  .filter((entry) => !entry.isDirectory())
  .map((entry) => relative(own, join(entry.parentPath, entry.name)));
const manifest = JSON.parse(readFileSync(join(own, 'package.json'), 'utf8'));
const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const sizeOf = (paths) => paths.reduce((sum, file) => sum + statSync(join(own, file)).size, 0);
const some = (list) => list.slice(0, 8).join(', ') + (list.length > 8 ? ', ...' : '');

// ---- what it holds ----

const tracked = (...paths) =>
  execFileSync('git', ['ls-files', '-z', ...paths], { cwd: root, encoding: 'utf8' })
    .split('\0')
    .filter(Boolean);

await check('it holds what it should and nothing else', () => {
  const { exclude } = JSON.parse(readFileSync(join(root, 'tsconfig.build.json'), 'utf8'));
  const compiled = tracked('lib')
    .filter((file) => !exclude.includes(file))
    .flatMap((file) => {
      const name = file.replace(/^lib/, 'dist');
      return [name.replace(/ts$/, 'js'), name.replace(/(m?)ts$/, 'd.$1ts')];
    });
  const engine = tracked('engines/gloo').filter((file) => /\.(cc|h|gyp)$/.test(file));
  const headers = ['js_native_api.h', 'js_native_api_types.h', 'node_api.h', 'node_api_types.h', 'common.gypi', 'LICENSE']
    .map((name) => `native/headers/include/node/${name}`)
    .concat(['napi.h', 'napi-inl.h', 'napi-inl.deprecated.h', 'LICENSE.md'].map((n) => `native/headers/node-addon-api/${n}`))
    .concat('native/headers/identity.h', 'native/headers/node_api_functions.inc', 'native/headers/binding.gyp'); // prettier-ignore
  const build = ['CMakeLists.txt', 'scripts/build-addon.mjs', 'scripts/native-headers.mjs'];
  const texts = ['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'prebuilds/README.md', ...tracked('docs')];
  const expected = new Set([...compiled, ...tracked('native'), ...engine, ...headers, ...build, ...texts]);
  const isPrebuild = (file) =>
    /^prebuilds\/(linux-(x64|arm64)\/simdnorm\.(glibc|musl)\.node|(win32|darwin)-(x64|arm64)\/simdnorm\.node|wasm\/simdnorm\.wasm)$/.test(file); // prettier-ignore
  const missing = [...expected].filter((file) => !files.includes(file));
  const strange = files.filter((file) => !expected.has(file) && !isPrebuild(file));
  expect(missing.length === 0, `it lacks ${some(missing)}`);
  expect(strange.length === 0, `it has ${some(strange)}`);
  const prebuilds = files.filter(isPrebuild);
  expect(
    prebuilds.some((file) => file.includes(`${process.platform}-${process.arch}`)),
    'no prebuild of this machine',
  );
  return `${files.length} files, ${mebibytes(statSync(packed).size)} packed, ${mebibytes(sizeOf(files))} on disk, of which
         ${prebuilds.map((file) => `${file} ${mebibytes(sizeOf([file]))}`).join('\n         ')}`;
});

await check('no text in it names a place on the machine that packed it', () => {
  const homes = [root, homedir()].filter((path) => path.split('/').length > 2);
  const found = files.filter((file) => {
    if (/\.(node|wasm)$/.test(file)) return false;
    const text = readFileSync(join(own, file), 'utf8');
    return homes.some((path) => text.includes(path)) || /\/(home|Users)\/\w|[A-Z]:\\\\?Users/.test(text);
  });
  expect(found.length === 0, some(found));
});

await check('everything that package.json points to is in it', () => {
  const targets = [];
  const walk = (value) => {
    if (typeof value === 'string') targets.push(posix.normalize(value));
    else Object.values(value ?? {}).forEach(walk);
  };
  [manifest.main, manifest.types, manifest.exports, manifest.typesVersions, manifest.bin].forEach(walk);
  const missing = targets.filter((target) => !files.includes(target));
  expect(targets.length > 10 && missing.length === 0, `missing: ${some(missing)}`);
});

await check('it asks for nothing: no script at install, no binding.gyp, no dependency', () => {
  const scripts = ['preinstall', 'install', 'postinstall'].filter((name) => manifest.scripts?.[name] !== undefined);
  expect(scripts.length === 0, `scripts: ${scripts}`);
  expect(manifest.gypfile === false && !files.includes('binding.gyp'), 'yarn and pnpm build what has a binding.gyp');
  const asked = ['dependencies', 'optionalDependencies', 'peerDependencies'].filter(
    (kind) => Object.keys(manifest[kind] ?? {}).length > 0,
  );
  expect(asked.length === 0, `${asked}: some package manager asks the network for them even where they are not needed`);
});

await check('links in its pages lead to its own files, or to what the README says is in the repository only', () => {
  const readme = readFileSync(join(own, 'README.md'), 'utf8');
  const elsewhere = /^In the repository, not in the package: (.*)\.$/m.exec(readme)?.[1].split(', ') ?? [];
  const lost = files.filter((file) => file.endsWith('.md') && !file.startsWith('native/')).flatMap((page) => {
    const text = readFileSync(join(own, page), 'utf8');
    const links = [...text.matchAll(/\]\((?!\w+:)([^)#\s]+)(#[^)]*)?\)/g)].map(([, link]) => link);
    return links
      .map((link) => posix.join(posix.dirname(page), link))
      .filter((to) => !files.includes(to) && !(elsewhere.includes(to.split('/')[0]) && existsSync(join(root, to))))
      .map((to) => `${page}: ${to}`);
  }); // prettier-ignore
  expect(lost.length === 0, some(lost));
});

// ---- installing it ----

const isolation = spawnSync('unshare', ['-n', 'true']).status === 0 ? [which('unshare'), '-n'] : [];
// Installed and not allowed: containers refuse ptrace.
const strace = spawnSync('strace', ['-qq', '-o', '/dev/null', 'true']);
const mayTrace = strace.error !== undefined || strace.status === 0;
let exposed = 0;
let untraced = 0;
/** A check that installs, offline: without a network namespace that is a registry that nobody serves. */
function offline(name, test) {
  if (isolation.length === 0) exposed++;
  return check(name, test);
}

const bin = join(temporary, 'bin');
mkdirSync(bin);
symlinkSync(process.execPath, join(bin, 'node'));
symlinkSync(which('sh'), join(bin, 'sh'));

let homes = 0;
/** Into a folder that is empty but for `files`, by a user who has never installed anything. */
async function install(manager, folder, what, { scripts = false, trace } = {}) {
  const { command, prefix = '', files: more = {}, ignoring } = managers[manager];
  const home = join(temporary, `home-${homes++}`);
  mkdirSync(home);
  project(relative(temporary, folder), more);
  const env = {
    PATH: bin,
    HOME: home,
    npm_config_registry: 'http://127.0.0.1:9',
    YARN_REGISTRY: 'http://127.0.0.1:9',
    YARN_NPM_REGISTRY_SERVER: 'http://127.0.0.1:9',
    ...(scripts ? {} : ignoring),
  };
  // A file for each process: in one file the calls of threads cut each other in two.
  const tracing = trace
    ? [which('strace'), '-ff', '-ttt', '-qq', '-e', 'trace=execve,execveat', '-s', '4096', '-o', join(trace, 'of')]
    : [];
  const ignore = scripts || ignoring ? [] : ['--ignore-scripts'];
  const [program, ...args] = command(home);
  const all = [...isolation, ...tracing, program === 'node' ? join(bin, 'node') : program, ...args, ...ignore];
  const { seconds } = await run(all[0], [...all.slice(1), ...[what].flat().map((file) => prefix + file)], {
    cwd: folder,
    env,
  });
  rmSync(home, { recursive: true });
  return seconds;
}

const userFiles = { 'user.cjs': commonjs, 'user.mjs': esm };
async function use(folder, manager = 'npm', file = '') {
  const { preload } = managers[manager];
  for (const [name, text] of Object.entries(userFiles)) {
    if (file && file !== name) continue;
    writeFileSync(join(folder, name), text);
    const hooks = preload
      ? ['--require', preload, ...(name.endsWith('.mjs') ? ['--loader', './.pnp.loader.mjs'] : [])]
      : [];
    const { output } = await node([...hooks, name], { cwd: folder });
    expect(/^right$/m.test(output), output);
  }
}

/** The same files without the name, so that the difference is what we ask a package manager for. */
const plain = join(temporary, 'plain.tgz');
{
  const folder = join(temporary, 'plain');
  cpSync(own, join(folder, 'package'), { recursive: true });
  writeFileSync(join(folder, 'package', 'package.json'), JSON.stringify({ name: 'plain', version: '1.0.0' }));
  execFileSync('tar', ['czf', plain, '-C', folder, 'package']);
}
const optional = join(temporary, 'csv-parse.tgz');
{
  const folder = project('optional/package', {
    'package.json': { name: 'csv-parse', version: '7.0.3' },
    'index.js': '',
  });
  execFileSync('tar', ['czf', optional, '-C', dirname(folder), 'package']);
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
for (const manager of only) {
  const folderOf = (kind) => join(temporary, `${kind} ${manager}`.replaceAll(' ', '-'));
  const folder = folderOf('user');

  await offline(
    `${manager} installs it offline, from an empty cache, without a compiler, ignoring scripts`,
    async () => {
      const times = { ours: [], plain: [] };
      // The least of each, and more of them where that is not enough, because others use this machine.
      const ratio = () => Math.min(...times.ours) / Math.min(...times.plain);
      for (let i = 0; i < runs || (i < runs + 6 && ratio() >= 2); i++) {
        for (const kind of i % 2 ? ['plain', 'ours'] : ['ours', 'plain']) {
          rmSync(folder, { recursive: true, force: true });
          times[kind].push(await install(manager, folder, kind === 'ours' ? packed : plain));
        }
      }
      expect(
        ratio() < 2,
        () => `it takes ${ratio().toFixed(2)} times as long as the same files without our package.json`,
      );
      return `median ${median(times.ours).toFixed(2)} s, least ${Math.min(...times.ours).toFixed(2)} s of ${times.ours.length}, ${ratio().toFixed(2)} times a package that is only files`;
    },
  );

  if (!mayTrace) untraced++;
  const traced = mayTrace ? offline : () => {};
  await traced(`${manager} runs nothing but itself, allowed scripts`, async () => {
    const trace = folderOf('trace');
    mkdirSync(trace);
    rmSync(folder, { recursive: true, force: true });
    await install(manager, folder, packed, { scripts: true, trace });
    const calls = readdirSync(trace)
      .flatMap((file) => readFileSync(join(trace, file), 'utf8').split('\n'))
      .filter((line) => line.includes('exec') && !/ = -1 E\w+ \(.*\)$/.test(line))
      .sort();
    const processes = calls.map((line) => {
      const [, program, args] = /^\S+ execve\("([^"]*)", \[(.*?)\], 0x\w+.*\) = 0$/.exec(line) ?? [];
      expect(program !== undefined, () => `it ran what cannot be read: ${line}`);
      const words = args.split(', ').slice(1);
      return [program, ...words.map((word) => word.slice(1, -1))];
    });
    const [first, ...rest] = processes.map((words) => words.join(' '));
    const helpers = managers[manager].helpers ?? [];
    const strange = rest.filter(
      (line) => !helpers.some((helper) => helper.test(line)) || line.includes('node_modules'),
    );
    expect(first !== undefined, 'strace saw nothing');
    expect(strange.length === 0, () => `it ran ${strange.join('\n')}`);
    const names = processes.map((words) => words.map((word) => word.replace(/^.*\//, '')).join(' '));
    return names.join('; ');
  });

  await check(`${manager}: what it installed works from CommonJS and ESM`, () => use(folder, manager));

  await offline(`${manager}: an optional package of the user's is found`, async () => {
    const beside = folderOf('optional');
    await install(manager, beside, [packed, optional]);
    const script = "require('node:module').createRequire(require.resolve('simdnorm')).resolve('csv-parse')";
    const { preload } = managers[manager];
    await node([...(preload ? ['--require', preload] : []), '-e', script], { cwd: beside });
  });
}

// ---- as it lies there ----

const user = join(temporary, 'user');
await install('npm', user, packed);
const installed = join(user, 'node_modules', 'simdnorm');
const libc = process.report.getReport().header.glibcVersionRuntime ? 'glibc' : 'musl';
const prebuild = join('prebuilds', `${process.platform}-${process.arch}`, `simdnorm.${libc}.node`);

await check('its command works', async () => {
  const command = join(user, 'node_modules', '.bin', 'simdnorm');
  const [version, info] = [await run(command, ['--version']), await run(command, ['info'])];
  expect(version.output.trim() === manifest.version, version.output);
  expect(info.output.includes(manifest.version) && /threads/.test(info.output), info.output);
});

for (const [compiler, file] of [
  ['', createRequire(import.meta.url).resolve('typescript/bin/tsc')],
  [' 5.4', tool('typescript54')],
]) {
  await check(`TypeScript${compiler} with each way to resolve modules, strict, libraries checked too`, async () => {
    const ways = { node16: 'node16', nodenext: 'nodenext', bundler: 'esnext', node10: 'commonjs' };
    for (const [moduleResolution, module] of Object.entries(ways)) {
      const node16 = moduleResolution.startsWith('node1') && module !== 'commonjs';
      writeFileSync(
        join(user, 'user.ts'),
        `import type { Tensor } from 'simdnorm';\n${esm}\nexport const t: Tensor | null = null;`,
      );
      for (const name of ['user.mts', 'user.cts'])
        if (node16) writeFileSync(join(user, name), readFileSync(join(user, 'user.ts')));
      const compilerOptions = {
        outDir: `out-${moduleResolution}`, target: 'es2022', types: [], strict: true, skipLibCheck: false,
        module, moduleResolution, ...(module === 'commonjs' && compiler === '' && { ignoreDeprecations: '6.0' }),
      }; // prettier-ignore
      const sources = ['user.ts', ...(node16 ? ['user.mts', 'user.cts'] : [])];
      const config = { compilerOptions, files: sources };
      writeFileSync(join(user, 'tsconfig.json'), JSON.stringify(config));
      await node([file, '-p', '.'], { cwd: user });
      const made = readdirSync(join(user, compilerOptions.outDir)).filter(
        (name) => !(module === 'esnext' && name === 'user.js'),
      );
      for (const name of made) {
        const { output } = await node([join(compilerOptions.outDir, name)], { cwd: user });
        expect(/^right$/m.test(output), output);
      }
    }
  });
}

await offline('in a folder with spaces and letters of other alphabets', async () => {
  const folder = join(temporary, 'a folder, ünïcode 漢字');
  await install('npm', folder, packed);
  await use(folder);
});

await offline('for a user who may only read it', async () => {
  const folder = join(temporary, 'read-only');
  await install('npm', folder, packed);
  for (const [name, text] of Object.entries(userFiles)) writeFileSync(join(folder, name), text);
  const change = (mode) => execFileSync('chmod', ['-R', mode, folder]);
  change('a-w,a+rX');
  const other = process.getuid() === 0 ? [which('setpriv'), '--reuid=65534', '--regid=65534', '--clear-groups'] : [];
  for (const name of Object.keys(userFiles)) {
    const [command, ...args] = [...other, process.execPath, name];
    const { output } = await run(command, args, { cwd: folder, env: { PATH: bin, HOME: '/nonexistent' } });
    expect(/^right$/m.test(output), output);
  }
  change('u+w');
});

// ---- what it says where it cannot work ----

let copies = 0;
/** What is thrown from a copy of the installed package that `change` has changed. */
async function refusal(change, { before = '', env = {} } = {}) {
  const folder = project(`changed-${copies++}`);
  const copy = join(folder, 'node_modules', 'simdnorm');
  cpSync(installed, copy, { recursive: true });
  change?.(copy);
  const script = `${before}; try { require('simdnorm'); console.log('loaded'); } catch (e) { console.log(e.code, e.message); }`;
  const { output } = await node(['-e', script], { cwd: folder, env: { ...process.env, ...env } });
  return output;
}
const says = (output, code, ...parts) => {
  for (const part of [code, ...parts]) expect(output.includes(part), () => `${part} is not in: ${output}`);
  return output.trim();
};
const identity = () =>
  execFileSync(process.execPath, ['-p', `require('${installed}/dist/internal/addon.js').addon.identity()`], {
    encoding: 'utf8',
  }).trim();

await check('a binary of another version is refused, with both versions', async () => {
  const other = manifest.version.replace(/^\d/, (digit) => 9 - digit);
  const output = await refusal((copy) => {
    const file = join(copy, prebuild);
    const bytes = readFileSync(file);
    const at = bytes.indexOf(identity());
    expect(at > 0, 'the prebuild does not say what it is');
    bytes.write(other, at);
    writeFileSync(file, bytes);
  });
  return says(output, 'ERR_ADDON_VERSION', `of version ${other}`, `of version ${manifest.version}`, 'build:native');
});

await check('so is a package of another version', async () => {
  const output = await refusal((copy) => {
    writeFileSync(join(copy, 'package.json'), JSON.stringify({ ...manifest, version: '10.11.12' }));
  });
  says(output, 'ERR_ADDON_VERSION', 'of version 10.11.12', `of version ${manifest.version}`);
});

const explained = ['ERR_ADDON_NOT_FOUND', 'npm run build:native', `Node ${process.versions.node}`];
const here = `${process.platform}-${process.arch} (${libc})`;

for (const [kind, size] of Object.entries({ empty: 0, 'cut off early': 5000, 'cut in half': 2_000_000 })) {
  await check(`a binary that is ${kind} is an error, not a crash`, async () => {
    says(await refusal((copy) => truncateSync(join(copy, prebuild), size)), ...explained, here, prebuild);
  });
}

await check('a file that is no binary is an error', async () => {
  says(
    await refusal((copy) => writeFileSync(join(copy, prebuild), 'version https://git-lfs')),
    ...explained,
    here,
    prebuild,
  );
});

const fake = (name, value) => `Object.defineProperty(process, '${name}', { value: '${value}' })`;
const withoutWasm = (copy) => rmSync(join(copy, 'prebuilds', 'wasm'), { recursive: true });

await check('where no prebuild fits, the WebAssembly build does it, with a warning', async () => {
  const output = await refusal(null, { before: fake('arch', 'vax') });
  return says(output, 'loaded', 'SIMDNORM_WASM', `${process.platform}-vax`, 'npm run build:native').split('\n')[1];
});

await check('where that is missing too, it says what for and where it looked', async () => {
  const vax = await refusal(withoutWasm, { before: fake('arch', 'vax') });
  says(vax, ...explained, `${process.platform}-vax`, 'prebuilds has: ', prebuild.slice('prebuilds/'.length));
  says(await refusal(withoutWasm, { before: fake('platform', 'plan9') }), ...explained, `plan9-${process.arch}`);
  const gone = await refusal((copy) => rmSync(join(copy, 'prebuilds'), { recursive: true }));
  return says(gone, ...explained, here, prebuild, 'prebuilds has: nothing');
});

await check('SIMDNORM_ADDON names the binary, and is named if it is wrong', async () => {
  const moved = join(temporary, 'moved.node');
  cpSync(join(installed, prebuild), moved);
  const removed = (copy) => rmSync(join(copy, 'prebuilds'), { recursive: true });
  says(await refusal(removed, { env: { SIMDNORM_ADDON: moved } }), 'loaded');
  says(
    await refusal(null, { env: { SIMDNORM_ADDON: '/nowhere.node' } }),
    ...explained,
    '/nowhere.node, as SIMDNORM_ADDON says',
  );
  says(await refusal(null, { env: { SIMDNORM_ADDON: 'addon.so' } }), 'SIMDNORM_ADDON must name a .node or .wasm file');
});

await check('LIBC chooses the prebuild of another libc, where there must be one', async () => {
  const other = process.report.getReport().header.glibcVersionRuntime ? 'musl' : 'glibc';
  const file = join('prebuilds', `${process.platform}-${process.arch}`, `simdnorm.${other}.node`);
  const without = (copy) => rmSync(join(copy, file), { force: true });
  const missing = await refusal(without, { env: { LIBC: other } });
  says(missing, ...explained, file, `(${other})`);
  expect(!missing.includes('SIMDNORM_WASM'), 'a broken copy runs, slowly');
  says(await refusal((copy) => cpSync(join(copy, prebuild), join(copy, file)), { env: { LIBC: other } }), 'loaded');
  says(await refusal(null, { env: { LIBC: 'gnu' } }), "LIBC must be glibc or musl, but it is 'gnu'");
});

// ---- from source ----

if (given.build) {
  await offline(
    'it builds from source, offline, with the node-gyp of npm, to the same version and sources',
    async () => {
      const before = identity();
      const home = join(temporary, 'home-build');
      mkdirSync(home);
      const env = { PATH: process.env.PATH, HOME: home, npm_config_registry: 'http://127.0.0.1:9' };
      const [command, ...args] = [...isolation, process.execPath, npm, 'run', 'build:native'];
      const { seconds } = await run(command, args, { cwd: installed, env, seconds: 1800 });
      const leftovers = ['binding.gyp', 'node_modules'].filter((name) => existsSync(join(installed, name)));
      expect(leftovers.length === 0, `it left ${leftovers}`);
      rmSync(join(installed, 'prebuilds'), { recursive: true });
      expect(identity() === before, () => `built ${identity()}, the prebuild is ${before}`);
      await use(user);
      return `${Math.round(seconds)} s, ${before}`;
    },
  );
}
if (untraced > 0) console.log(`${untraced} checks of processes were left out: strace is not allowed here`);
if (exposed > 0) console.log(`${exposed} checks ran without a network namespace: unshare -n is not allowed here`);
finish();
