// Computes once in a Worker.

import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import type * as Simdnorm from 'simdnorm';

const { folder } = workerData as { folder: string };
const { LayerNorm, Tensor } = createRequire(join(folder, 'x.js'))('simdnorm') as typeof Simdnorm;
const x = new Tensor(
  Float32Array.from({ length: 40 }, (_, i) => (i * 7) % 11),
  [5, 8],
);
parentPort!.postMessage(Array.from(new LayerNorm(8).forward(x).data as Float32Array));
