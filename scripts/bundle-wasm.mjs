// Makes dist/wasm/index.mjs of lib/wasm/index.mts: one module without imports, for browsers as for Node. What finds the
// binary is lib/wasm/load.mts, in the place of lib/internal/load.ts. Its types are tsc's.
import { build } from 'esbuild';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

await build({
  absWorkingDir: root,
  entryPoints: ['lib/wasm/index.mts'],
  outfile: 'dist/wasm/index.mjs',
  bundle: true,
  format: 'esm',
  platform: 'browser', // so an import of Node's is an error
  target: 'es2022',
  define: { __VERSION__: JSON.stringify(version) },
  plugins: [
    {
      name: 'load',
      setup: ({ onResolve }) =>
        onResolve({ filter: /^\.\/load$/ }, ({ importer }) =>
          importer === join(root, 'lib/internal/addon.ts') ? { path: join(root, 'lib/wasm/load.mts') } : undefined,
        ),
    },
  ],
});
