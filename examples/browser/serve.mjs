// Serves the page and what it loads, and nothing else of this folder's disk: npm run example:browser
import { createReadStream, existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');
const files = new Map([
  ['/', join(here, 'index.html')],
  ['/style.css', join(here, 'style.css')],
  ['/main.js', join(here, 'main.js')],
  ['/drawing.js', join(here, 'drawing.js')],
  // As they lie to each other in the package.
  ['/dist/wasm/index.mjs', join(root, 'dist', 'wasm', 'index.mjs')],
  ['/prebuilds/wasm/simdnorm.wasm', join(root, 'prebuilds', 'wasm', 'simdnorm.wasm')],
]);
const kinds = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.wasm': 'application/wasm',
};

/** On this machine only; port 0 takes a free one. */
export function serve(port) {
  const missing = [...files.values()].filter((file) => !existsSync(file));
  if (missing.length > 0) throw new Error(`no ${missing.join(', ')}: npm run build:lib && npm run build:wasm`);
  const server = createServer((request, response) => {
    const file = files.get(request.url.split('?')[0]);
    if (!file) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { 'content-type': kinds[extname(file)], 'cache-control': 'no-cache' });
    createReadStream(file).pipe(response);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve({ server, url: `http://127.0.0.1:${server.address().port}/` }));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await serve(Number(process.env.PORT ?? 8000));
  console.log(`${url} (Ctrl-C ends it)`);
}
