// What an installed package must do besides computing: find its binary, choose the instruction set, refuse, load in a
// Worker, and compute on another thread.

import { dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Tensor } from 'simdnorm';
import { expectEqual, expectThrow } from '../support/check';
import type { GoldenApi } from './calls';
import type { Test } from './suite';

export interface Installed extends GoldenApi {
  require: NodeJS.Require;
  /** The folder whose node_modules has the package, or the package's own. */
  folder: string;
}

/** The binary that was loaded. */
export function binaryOf({ require, simdnorm }: Installed): string {
  const loaded = Object.keys(require.cache).filter((name) => name.endsWith('.node'));
  // Nothing remembers where a module of WebAssembly was read.
  if (isWasm(simdnorm)) loaded.push(require.resolve('simdnorm/wasm/simdnorm.wasm'));
  if (loaded.length !== 1) throw new Error(`expected one binary, but there are: ${loaded.join(', ')}`);
  return loaded[0]!;
}
const isWasm = ({ isa }: Installed['simdnorm']): boolean => isa.all.join() === 'simd128';

export function installTests(api: Installed, expectedIsa: string | undefined): Test[] {
  const { simdnorm, require, folder } = api;
  const { isa, LayerNorm } = simdnorm;
  const input = (): Tensor =>
    new simdnorm.Tensor(
      Float32Array.from({ length: 40 }, (_, i) => (i * 7) % 11),
      [5, 8],
    );
  return [
    [
      'the binary is of the version of the package',
      () => {
        const manifest = require.resolve('simdnorm/package.json');
        const { version } = require(manifest) as { version: string };
        const internal = require(join(dirname(manifest), 'dist', 'internal', 'addon.js')) as {
          addon: { identity(): string };
        };
        const [first, hash] = internal.addon.identity().split(' ');
        expectEqual('version', first, version);
        expectEqual('a hash of the sources', /^[0-9a-f]+$/.test(hash ?? ''), true);
      },
    ],
    [
      'the best instruction set is in use, and those the CPU lacks are refused by name',
      () => {
        expectEqual('active', isa.active, isa.supported[0]);
        expectEqual('last', isa.supported.at(-1), isWasm(simdnorm) ? 'simd128' : 'portable');
        if (expectedIsa !== undefined) expectEqual('active', isa.active, expectedIsa);
        for (const name of isa.all.filter((each) => !isa.supported.includes(each))) {
          const error = expectThrow(name, () => isa.use(name), new RegExp(`this CPU does not support ${name}`));
          expectEqual('error', error.name, 'RangeError');
        }
        expectEqual('still active', isa.active, isa.supported[0]);
      },
    ],
    [
      'calls that do not fit are errors, and the next one works',
      () => {
        const layer = new LayerNorm(8);
        const refuse = (kind: string, message: RegExp, run: () => unknown): void =>
          expectEqual(String(message), expectThrow(String(message), run, message).name, kind);
        refuse('RangeError', /normalized_shape/, () => layer.forward({ data: new Float32Array(9), shape: [3, 3] }));
        refuse('RangeError', /needs 64/, () => layer.forward({ data: new Float32Array(40), shape: [8, 8] }));
        refuse('TypeError', /float64/, () => layer.forward({ data: new Float64Array(40), shape: [5, 8] }));
        const gone = new Float32Array(40);
        const x = new simdnorm.Tensor(gone, [5, 8]);
        structuredClone(gone.buffer, { transfer: [gone.buffer] });
        refuse('RangeError', /detached/, () => layer.forward(x));
        expectEqual('shape', layer.forward(input()).shape, [5, 8]);
      },
    ],
    [
      'a Worker loads it, computes and ends',
      async () => {
        const worker = new Worker(join(__dirname, 'worker.js'), { workerData: { folder } });
        const [message, code] = await Promise.all([
          new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject)),
          new Promise((resolve) => worker.on('exit', resolve)),
        ]);
        expectEqual('exit code', code, 0);
        expectEqual('outputs', message, Array.from(new LayerNorm(8).forward(input()).data as Float32Array));
      },
    ],
    [
      'forwardAsync gives the bits of forward',
      async () => {
        const [layer, twin] = [new simdnorm.BatchNorm1d(8), new simdnorm.BatchNorm1d(8)];
        const y = await layer.forwardAsync(input());
        expectEqual('y', y.toArray(), twin.forward(input()).toArray());
        expectEqual('running mean', layer.runningMean!.toArray(), twin.runningMean!.toArray());
      },
    ],
  ];
}
