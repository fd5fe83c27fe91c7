// Two threads while every core but one is kept busy by another process: what a helper costs where it gets no processor
// of its own. The time of two threads to that of one, both beside the spinning processes, and both without them.
//
//   node bench/busy.mjs [--rounds=9] [--ms=100] [--at-most=1.2]
//
// Windows of --ms milliseconds of calls, one thread and two in turn, several of a scheduler's slices long: what is
// judged is a window's mean, so that a call that waits for a slice counts in full. --at-most: the exit code is 1 if a
// median ratio beside the spinning processes is larger.

import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { BatchNorm2d, isa, LayerNorm, noGrad, setNumThreads, tensor } from 'simdnorm';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '9' },
    ms: { type: 'string', default: '100' },
    'at-most': { type: 'string' },
    cells: { type: 'string', default: '' },
  },
});

const sizes = { '128 KiB': [8, 16, 16, 16], '1 MiB': [16, 64, 16, 16], '25 MB': [32, 64, 56, 56] };
const cells = Object.entries(sizes).flatMap(([size, shape]) => {
  const elements = shape.reduce((a, b) => a * b);
  const data = Float32Array.from({ length: elements }, (_, i) => ((i * 2654435761) % 1000) / 250 - 1);
  const out = new Float32Array(elements);
  const images = tensor(data, shape);
  const rows = tensor(data, [elements / 512, 512]);
  const [train, evaluation, layer] = [new BatchNorm2d(shape[1]), new BatchNorm2d(shape[1]).eval(), new LayerNorm(512)];
  const backward = new BatchNorm2d(shape[1]);
  const context = backward.context();
  return [
    [`BatchNorm2d train ${size}`, () => noGrad(() => train.forward(images, { out }))],
    [`BatchNorm2d eval ${size}`, () => noGrad(() => evaluation.forward(images, { out }))],
    [
      `BatchNorm2d train and backward ${size}`,
      () => {
        const y = backward.forward(images, { out, context });
        backward.backward(y, { out, context });
      },
    ],
    [`LayerNorm ${size}`, () => noGrad(() => layer.forward(rows, { out }))],
  ];
});

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** us a call, over a window. */
function mean(run, threads) {
  setNumThreads(threads);
  run();
  const begin = performance.now();
  const end = begin + Number(options.ms);
  let calls = 0;
  let now;
  do {
    run();
    calls++;
  } while ((now = performance.now()) < end);
  return ((now - begin) / calls) * 1e3;
}

function race(run) {
  const found = Array.from({ length: Number(options.rounds) }, () => [mean(run, 1), mean(run, 2)]);
  return { one: median(found.map(([one]) => one)), ratio: median(found.map(([one, two]) => two / one)) };
}

/** Processes that spin, each on a core of its own, all but the first. */
async function occupy() {
  const pinned = process.platform === 'linux';
  const spinners = Array.from({ length: availableParallelism() - 1 }, (_, i) => {
    const spin = [process.execPath, '-e', 'for (;;);'];
    const [command, ...args] = pinned ? ['taskset', '--cpu-list', String(i + 1), ...spin] : spin;
    return spawn(command, args, { stdio: 'ignore' });
  });
  await new Promise((resolve) => setTimeout(resolve, 500));
  if (spinners.some(({ exitCode, pid }) => !pid || exitCode !== null))
    throw new Error('a spinning process did not start');
  return () => spinners.forEach((spinner) => spinner.kill('SIGKILL'));
}

const digits = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
console.log(`${isa.active}, ${availableParallelism()} cores, Node ${process.version}; two threads to one\n`);
console.log('cell'.padEnd(40) + ['us, 1 thread', 'busy', 'quiet'].map((name) => name.padStart(14)).join(''));
const beyond = [];
for (const [name, run] of cells.filter(([name]) => name.includes(options.cells))) {
  const quiet = race(run);
  const release = await occupy();
  const busy = race(run);
  release();
  console.log(name.padEnd(40) + [quiet.one, busy.ratio, quiet.ratio].map((v) => digits(v).padStart(14)).join(''));
  if (busy.ratio > Number(options['at-most'] ?? Infinity)) beyond.push(`${name}: ${digits(busy.ratio)}`);
}
if (beyond.length > 0) {
  console.error(`\nmore than ${options['at-most']}:\n  ${beyond.join('\n  ')}`);
  process.exitCode = 1;
}
