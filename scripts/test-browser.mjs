// examples/browser in a headless Chromium, spoken to in its DevTools protocol over a pipe: a picture is dropped on the page,
// and what the page shows is compared with the native addon on the same pixels, bit by bit. CHROMIUM names another one.
//
//   node scripts/test-browser.mjs [folder]    keeps screenshots there
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { crc32, deflateSync } from 'node:zlib';
import { serve } from '../examples/browser/serve.mjs';
import { ensureWasm } from './build-wasm.mjs';
import { finish, holds, root, start, temporary } from './checks.mjs';

const simdnorm = createRequire(import.meta.url)(join(root, 'dist'));
const { imagesToTensor } = createRequire(import.meta.url)(join(root, 'dist', 'preprocessing'));
const functional = createRequire(import.meta.url)(join(root, 'dist', 'functional'));
const screenshots = process.argv[2];
const limit = 120_000; // for all of it

// --- a picture, and the browser

/** Truecolour pixels as a PNG. */
function png(pixels, width, height) {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2], 8); // bits, truecolour
  const rows = Array.from({ length: height }, (_, y) =>
    Buffer.concat([Buffer.alloc(1), pixels.subarray(3 * width * y, 3 * width * (y + 1))]),
  );
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(Buffer.concat(rows))),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function findBrowser() {
  const places = ['chromium', 'chromium-browser', 'google-chrome'].map((name) => join('/usr/bin', name));
  const found = process.env.CHROMIUM ?? places.find((file) => existsSync(file));
  if (!found) throw new Error('test-browser: no Chromium (Debian: apt-get install chromium); CHROMIUM may name one');
  return found;
}

const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--remote-debugging-pipe'];

/** A page of the browser. */
async function open(browser) {
  const [, , , input, output] = browser.stdio;
  input.on('error', () => {}); // it has ended, which is heard of
  const waiting = new Map();
  const events = [];
  let received = '';
  output.setEncoding('utf8');
  output.on('data', (text) => {
    received += text;
    for (let end; (end = received.indexOf('\0')) >= 0;) {
      const message = JSON.parse(received.slice(0, end));
      received = received.slice(end + 1);
      if (message.id === undefined) events.push(message);
      else waiting.get(message.id)(message);
    }
  });
  let id = 0;
  const send = async (method, params = {}, sessionId = undefined) => {
    input.write(`${JSON.stringify({ id: ++id, method, params, sessionId })}\0`);
    const { result, error } = await new Promise((resolve) => waiting.set(id, resolve));
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  };
  const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
  const page = (method, params) => send(method, params, sessionId);
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await page('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  const until = async (expression) => {
    for (let i = 0; i < 200; i++) {
      if (await evaluate(expression)) return;
      await pause(50);
    }
    throw new Error(`test-browser: never ${expression}; the page says: ${await evaluate('document.body.innerText')}`);
  };
  return { page, evaluate, until, events };
}

// --- what the page shows

const layers = {
  batch: () => new simdnorm.BatchNorm2d(3, { affine: false, trackRunningStats: false }),
  layer: () => new simdnorm.LayerNorm(3, { axis: 1, elementwiseAffine: false }),
  instance: () => new simdnorm.InstanceNorm2d(3),
  group: () => new simdnorm.GroupNorm(1, 3, { affine: false }),
};
const bytesOf = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength);
const shortly = (value) => (Math.abs(value) < 0.0005 ? 0 : value).toFixed(3).replace('-', '−');

/** window.example, with arrays as Buffers. */
async function example(evaluate) {
  const text = await evaluate(`JSON.stringify(window.example, (_, value) => {
    if (!ArrayBuffer.isView(value)) return value;
    let text = '';
    for (const byte of new Uint8Array(value.buffer, value.byteOffset, value.byteLength)) text += String.fromCharCode(byte);
    return { base64: btoa(text) };
  })`);
  return JSON.parse(text, (_, value) => (value?.base64 === undefined ? value : Buffer.from(value.base64, 'base64')));
}

async function checkPage(name, evaluate) {
  const { shape, images, outputs, moments } = await example(evaluate);
  const [, , height, width] = shape;
  const x = imagesToTensor(images.map((data) => ({ data: new Uint8Array(data), width, height })));
  const native = { input: x };
  for (const [key, make] of Object.entries(layers)) native[key] = make().forward(x);
  const shown = [];
  for (const [key, y] of Object.entries(native)) {
    holds(`${name}: ${key} has the native bits`, outputs[key].equals(bytesOf(y.data)));
    const { mean, var: variance } = functional.moments(y, [2, 3]);
    holds(
      `${name}: moments of ${key}`,
      [mean, variance].every(({ data }, i) => moments[key][i].equals(bytesOf(data))),
    );
    for (let item = 0; item < 4; item++) {
      for (const { data } of [mean, variance]) shown.push(...[...data.subarray(3 * item, 3 * item + 3)].map(shortly));
    }
  }
  const cells = await evaluate(`[...document.querySelectorAll('td')].map((cell) => cell.textContent)`);
  holds(
    `${name}: the numbers on the page`,
    cells.join() === shown.join(),
    `\n  ${cells.slice(0, 30)}\n  ${shown.slice(0, 30)}`,
  );
  const colours = await evaluate(`[...document.querySelectorAll('canvas')].map((canvas) => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
  })`);
  holds(`${name}: 40 canvases have pixels`, colours.length === 40 && colours.every((n) => n > 8), colours.join());
  return { images, width, height };
}

/** What it does not serve does not end it. */
async function checkServer(url) {
  const { port } = new URL(url);
  for (const path of ['/', '//', '/nothing', '/?a']) {
    const status = await new Promise((resolve, reject) => {
      get({ port, path, host: '127.0.0.1', agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode);
      }).on('error', reject);
    });
    holds(`the server's answer to ${path}`, status === (['/', '/?a'].includes(path) ? 200 : 404), status);
  }
}

async function checkAll({ page, evaluate, until, events }, url) {
  for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await page(`${domain}.enable`);
  await page('Emulation.setDeviceMetricsOverride', { width: 1400, height: 1000, deviceScaleFactor: 1, mobile: false });
  const screenshot = async (name) => {
    if (!screenshots) return;
    mkdirSync(screenshots, { recursive: true });
    const { data } = await page('Page.captureScreenshot', { captureBeyondViewport: true });
    writeFileSync(join(screenshots, `${name}.png`), Buffer.from(data, 'base64'));
  };
  await page('Page.navigate', { url });
  await until('window.example !== undefined');
  await checkPage('the sample', evaluate);
  holds(
    'it names the instruction set',
    await evaluate(`document.querySelector('#engine').textContent.includes('simd128')`),
  );
  await screenshot('light');

  // A picture of two gradients with noise: its own pixels arrive.
  const [width, height] = [61, 47];
  const pixels = Buffer.alloc(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    const [u, v, noise] = [(i % width) / width, Math.floor(i / width) / height, ((i * 2654435761) % 4096) / 4096];
    pixels.set([255 * u, 200 * v + 40 * noise, 90 + 120 * u * v + 30 * noise], 3 * i);
  }
  const drop = async (file) => {
    const data = { items: [], files: [file], dragOperationsMask: 1 };
    for (const type of ['dragEnter', 'dragOver', 'drop'])
      await page('Input.dispatchDragEvent', { type, x: 300, y: 400, data });
  };
  const picture = join(temporary, 'picture.png');
  writeFileSync(picture, png(pixels, width, height));
  await drop(picture);
  await until(`window.example.name === 'picture.png'`);
  const dropped = await checkPage('a dropped picture', evaluate);
  holds('its size', dropped.width === width && dropped.height === height);
  holds('its pixels', dropped.images[0].equals(pixels));
  await screenshot('dropped');

  const text = join(temporary, 'notes.txt');
  writeFileSync(text, 'no picture');
  await drop(text);
  await until(`document.querySelector('#status').textContent.includes('cannot read notes.txt')`);
  holds('what is no picture changes nothing', (await evaluate('window.example.name')) === 'picture.png');

  // With the keyboard alone.
  const press = async (key, code, character) => {
    for (const type of ['keyDown', 'keyUp']) {
      const typed = type === 'keyDown' && character ? { text: character } : {};
      await page('Input.dispatchKeyEvent', { type, key, code: key, windowsVirtualKeyCode: code, ...typed });
    }
  };
  await evaluate('document.activeElement.blur()');
  const focused = [];
  for (let i = 0; i < 2; i++) {
    await press('Tab', 9);
    focused.push(await evaluate('document.activeElement.id'));
  }
  holds('the keyboard reaches both ways to a picture', focused.join() === 'file,sample', focused.join());
  await press('Enter', 13, '\r');
  await until(`window.example.name === 'The sample'`);
  holds(
    'every canvas says what it shows',
    await evaluate(`[...document.querySelectorAll('canvas')].every((c) => c.getAttribute('aria-label'))`),
  );

  const background = () => evaluate('getComputedStyle(document.body).backgroundColor');
  const light = await background();
  await page('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: 'dark' }] });
  holds('there is a dark form', (await background()) !== light);
  await screenshot('dark');
  await page('Emulation.setDeviceMetricsOverride', { width: 390, height: 844, deviceScaleFactor: 2, mobile: true });
  await pause(300);
  holds('nothing is wider than a telephone', await evaluate('document.documentElement.scrollWidth <= 390'));
  await screenshot('narrow');

  const complaints = events.filter(
    ({ method, params }) =>
      method === 'Runtime.exceptionThrown' ||
      (method === 'Runtime.consoleAPICalled' && ['error', 'warning'].includes(params.type)) ||
      (method === 'Log.entryAdded' && ['error', 'warning'].includes(params.entry.level)),
  );
  holds('nothing in the console', complaints.length === 0, JSON.stringify(complaints).slice(0, 500));
  const asked = events
    .filter(({ method }) => method === 'Network.requestWillBeSent')
    .map(({ params }) => params.request.url);
  const strange = asked.filter((one) => !one.startsWith(url) && !one.startsWith('data:'));
  holds('no network but the server', asked.length > 4 && strange.length === 0, strange.join());
}

await ensureWasm();
try {
  const { url } = await serve(0);
  const browser = start(findBrowser(), [...flags, `--user-data-dir=${join(temporary, 'profile')}`, 'about:blank'], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
  });
  // A browser that ends, or hangs, answers nothing any more.
  const stopped = new Promise((_, reject) => {
    browser.once('error', reject);
    browser.once('exit', () => reject(new Error('test-browser: Chromium has ended')));
    setTimeout(() => reject(new Error(`test-browser: not done in ${limit / 1000} s`)), limit);
  });
  const all = async () => {
    await checkServer(url);
    await checkAll(await open(browser), url);
  };
  await Promise.race([all(), stopped]);
} catch (error) {
  holds('the run', false, error.stack);
}
finish();
