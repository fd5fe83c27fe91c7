import { noGrad } from '../grad-mode';
import { BatchNorm2d } from '../layers/batch-norm';
import { LayerNorm } from '../layers/layer-norm';
import { imagesToTensor, presets, RunningMoments } from '../preprocessing';
import { getNumThreads, isa, setNumThreads } from '../runtime';
import { Tensor } from '../tensor';
import { parse, type Command } from './command';
import { table } from './table';

const usage = `simdnorm bench [--json]

  A look at this machine, ten seconds long: how many gigabytes a second four calls read and write, on each instruction
  set with one thread, and on the best with all. The median of each is printed. For a comparison with other libraries:
  npm run bench, in a clone.`;

const seconds = 10;

function floats(...shape: number[]): Tensor {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < data.length; i++) data[i] = ((i * 7919) % 1009) / 500 - 1;
  return new Tensor(data, shape);
}

/** What is called, and the bytes that it reads and writes. */
function calls(): { name: string; bytes: number; run: () => void }[] {
  const [planes, rows, table] = [floats(32, 64, 56, 56), floats(4096, 768), floats(200_000, 64)];
  const pixels = new Tensor(new Uint8Array(64 * 224 * 224 * 3).fill(100), [64, 224, 224, 3]);
  const [bn, ln] = [new BatchNorm2d(64), new LayerNorm(768)];
  const [y, z, images] = [planes, rows, floats(64, 3, 224, 224)].map(({ size }) => new Float32Array(size));
  const layer = (f: () => unknown) => () => noGrad(() => void f());
  return [
    {
      name: 'BatchNorm2d, training, 32x64x56x56',
      bytes: 8 * planes.size,
      run: layer(() => bn.forward(planes, { out: y! })),
    },
    { name: 'LayerNorm, 4096x768', bytes: 8 * rows.size, run: layer(() => ln.forward(rows, { out: z! })) },
    { name: 'imagesToTensor, 64x224x224x3', bytes: 5 * pixels.size, run: () => void imagesToTensor(pixels, { ...presets.imageNet, out: images! }) }, // prettier-ignore
    { name: 'RunningMoments, 200000x64', bytes: 4 * table.size, run: () => void new RunningMoments(64).update(table) },
  ];
}

/** The median of calls for so many milliseconds, in GB/s. */
function rate(run: () => void, bytes: number, ms: number): number {
  run();
  const times: number[] = [];
  for (const end = performance.now() + ms; times.length < 3 || performance.now() < end;) {
    const began = performance.now();
    run();
    times.push(performance.now() - began);
  }
  return bytes / times.sort((a, b) => a - b)[times.length >> 1]! / 1e6;
}

async function run(args: string[]): Promise<void> {
  const { values } = parse(args, { json: { type: 'boolean' } });
  const [active, threads] = [isa.active, getNumThreads()];
  const ways = [
    ...isa.supported.map((name) => ({ name, threads: 1 })),
    ...(threads > 1 ? [{ name: active, threads }] : []),
  ];
  const all = calls();
  const each = (seconds * 1000) / (all.length * ways.length);
  const found = all.map(({ name, bytes, run: call }) => {
    const rates = ways.map((way) => {
      isa.use(way.name);
      setNumThreads(way.threads);
      return rate(call, bytes, each);
    });
    return { name, rates };
  });
  isa.use(active);
  setNumThreads(threads);
  const head = ways.map((way) => `${way.name}, ${way.threads} thread${way.threads > 1 ? 's' : ''}`);
  if (values.json) {
    const object = found.map(({ name, rates }) => ({
      name,
      ...Object.fromEntries(head.map((way, i) => [way, rates[i]])),
    }));
    console.log(JSON.stringify(object, null, 1));
  } else {
    console.log(table(['GB/s', ...head], found.map(({ name, rates }) => [name, ...rates.map((r) => r.toFixed(1))]))); // prettier-ignore
  }
}

export const bench: Command = { usage, run };
