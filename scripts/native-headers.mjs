// Fills native/headers with all that a build of the addon includes from elsewhere, so that one build needs neither
// node_modules nor Node's own headers nor the network, in a clone as in an installed package:
//
//   include/node/       Node-API (node-api-headers), with what makes the folder a `nodedir` of node-gyp
//   node_api_functions.inc  SIMDNORM_NODE_API(name) for each function of Node-API 8
//   node-addon-api/     its C++ wrapper, with which the addon sets itself up
//   identity.h          which version this is, and the hash of its sources: what a prebuilt binary says of itself
//
// In an installed package the first two lie there already.
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
/** `npm_config_nodedir` is to be this. */
export const headers = join(root, 'native', 'headers');

function copy(from, to, isWanted) {
  mkdirSync(to, { recursive: true });
  for (const file of readdirSync(from).filter(isWanted)) copyFileSync(join(from, file), join(to, file));
}

// The little of Node's own common.gypi that an addon needs. Symbols of Node-API are found in the process that loads it.
const commonGypi = {
  target_defaults: {
    default_configuration: 'Release',
    configurations: { Release: {}, Debug: { cflags: ['-O0', '-g'] } },
    conditions: [
      ['OS=="linux"', { cflags: ['-pthread'], ldflags: ['-pthread'] }],
      ['OS=="mac"', { xcode_settings: { OTHER_LDFLAGS: ['-undefined', 'dynamic_lookup'] } }],
    ],
  },
};

function* sources(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (path === headers) continue;
    if (entry.isDirectory()) yield* sources(path);
    else yield path;
  }
}

/** Of version and sources, as the binaries have it. */
export function identity() {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const named = [join(root, 'binding.gyp'), ...sources(join(root, 'native'))].map((path) => [
    relative(root, path).replaceAll(sep, '/'),
    path,
  ]);
  const hash = createHash('sha256');
  for (const [name, path] of named.sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(`${name}\0`).update(createHash('sha256').update(readFileSync(path)).digest());
  }
  return { version, sources: hash.digest('hex') };
}

/** Writes only what has changed, so that make has nothing to do. */
function write(file, text) {
  try {
    if (readFileSync(file, 'utf8') === text) return;
  } catch {
    // not there yet
  }
  writeFileSync(file, text);
}

export function fillHeaders() {
  const node = join(headers, 'include', 'node');
  const [nodeApi, addonApi] = ['node-api-headers', 'node-addon-api'].map((name) => join(root, 'node_modules', name));
  // The package's own only: what lies beside an installed one is somebody else's.
  if (existsSync(nodeApi)) {
    copy(join(nodeApi, 'include'), node, (file) => file.endsWith('.h'));
    copy(nodeApi, node, (file) => file === 'LICENSE');
    const { symbols } = createRequire(import.meta.url)(nodeApi);
    const functions = [...symbols.v8.js_native_api_symbols, ...symbols.v8.node_api_symbols];
    write(join(headers, 'node_api_functions.inc'), functions.map((name) => `SIMDNORM_NODE_API(${name})\n`).join(''));
    copy(addonApi, join(headers, 'node-addon-api'), (file) => /^napi.*\.h$|^LICENSE/.test(file));
  }
  mkdirSync(node, { recursive: true });
  write(join(node, 'common.gypi'), `${JSON.stringify(commonGypi, null, 2)}\n`);
  const { version, sources: hash } = identity();
  write(join(headers, 'identity.h'), `#define SIMDNORM_VERSION "${version}"\n#define SIMDNORM_SOURCES "${hash}"\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) fillHeaders();
