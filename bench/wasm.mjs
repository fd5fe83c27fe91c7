// What the WebAssembly build costs beside the native addon and beside plain JavaScript, all on one thread, interleaved in
// one process: the median of the ratios.
//
//   node bench/wasm.mjs    after npm run build:lib, and with a native addon and prebuilds/wasm
import { facade } from '../scripts/facade.mjs';

const native = facade('');
const wasm = facade('wasm');
native.setNumThreads(1);
console.log(`native ${native.isa.active}, WebAssembly ${wasm.isa.active}, Node ${process.versions.node}, one thread\n`);

/** LayerNorm as one writes it, in doubles. */
function plain(x, y, rows, size) {
  for (let row = 0, at = 0; row < rows; row++, at += size) {
    let mean = 0;
    for (let i = at; i < at + size; i++) mean += x[i];
    mean /= size;
    let m2 = 0;
    for (let i = at; i < at + size; i++) m2 += (x[i] - mean) ** 2;
    const rstd = 1 / Math.sqrt(m2 / size + 1e-5);
    for (let i = at; i < at + size; i++) y[i] = (x[i] - mean) * rstd;
  }
}

const images = [4, 64, 56, 56];
const cases = {
  'LayerNorm 10 x 64, a small call': (s) => [new s.LayerNorm(64), [10, 64]],
  'LayerNorm 4096 x 1024': (s) => [new s.LayerNorm(1024), [4096, 1024]],
  'RMSNorm 4096 x 1024': (s) => [new s.RMSNorm(1024), [4096, 1024]],
  [`BatchNorm2d ${images.join(' x ')}`]: (s) => [new s.BatchNorm2d(64), images],
  [`GroupNorm(8) ${images.join(' x ')}`]: (s) => [new s.GroupNorm(8, 64), images],
};
const time = (run, times) => {
  const began = performance.now();
  for (let i = 0; i < times; i++) run();
  return ((performance.now() - began) * 1000) / times;
};
const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];

for (const [name, of] of Object.entries(cases)) {
  const runs = [native, wasm].map((s) => {
    const [layer, shape] = of(s);
    const size = shape.reduce((p, n) => p * n, 1);
    const x = s.tensor(
      Float32Array.from({ length: size }, (_, i) => Math.sin(i * 1.7)),
      shape,
    );
    const [y, dx] = [new Float32Array(size), new Float32Array(size)];
    const dy = s.tensor(y, shape);
    return {
      forward: () => layer.forward(x, { out: y }),
      'and backward': () => {
        layer.forward(x, { out: y });
        layer.backward(dy, { out: dx });
      },
      plain: name.startsWith('LayerNorm') ? () => plain(x.data, y, ...shape) : undefined,
      size,
    };
  });
  for (const way of ['forward', 'and backward']) {
    const all = [runs[0][way], runs[1][way], ...(way === 'forward' && runs[0].plain ? [runs[0].plain] : [])];
    const times = runs[0].size > 10000 ? 3 : 3000;
    for (const run of all) time(run, times); // V8 compiles
    const rounds = Array.from({ length: 15 }, () => all.map((run) => time(run, times)));
    const [a, b, c] = all.map((_, i) => median(rounds.map((round) => round[i])));
    const ratio = median(rounds.map(([here, there]) => there / here));
    const beside =
      c === undefined
        ? ''
        : `, plain JavaScript ${c.toFixed(1)} us (${median(rounds.map((r) => r[2] / r[0])).toFixed(1)})`;
    console.log(
      `${name}, ${way}: native ${a.toFixed(1)} us, WebAssembly ${b.toFixed(1)} us (${ratio.toFixed(1)})${beside}`,
    );
  }
}
