// What SyncBatchNorm has to do for many ranks beside the exchange: a group whose other ranks are copies of this one.

import { setNumThreads, SyncBatchNorm, tensor } from 'simdnorm';
import { ProcessGroup } from 'simdnorm/distributed';
import { median } from '../statistics.mjs';

class Copies {
  name = 'single';
  rank = 0;

  constructor(size) {
    this.size = size;
  }
  run({ input, output }) {
    for (let rank = 0; rank < this.size; rank++) output.set(input, rank * input.length);
    return { outcome: 0, missing: [], headers: [], detail: '' };
  }
  close() {}
}

/** By number of channels: microseconds of { forward, backward }. */
export function withoutNetwork(size, { channels, rows, rounds }) {
  setNumThreads(1);
  const processGroup = new ProcessGroup(new Copies(size), 60_000);
  const timesOf = (c) => {
    const layer = new SyncBatchNorm(c, { processGroup });
    const x = tensor(
      Float32Array.from({ length: rows * c }, (_, i) => ((i * 2654435761) % 1009) / 250 - 1),
      [rows, c],
    );
    const steps = Array.from({ length: 4 * rounds + 2 }, () => {
      const begin = performance.now();
      layer.forward(x);
      const middle = performance.now();
      layer.backward(x);
      return { forward: middle - begin, backward: performance.now() - middle };
    }).slice(2);
    const us = (what) => 1000 * median(steps.map((step) => step[what]));
    return { forward: us('forward'), backward: us('backward') };
  };
  return Object.fromEntries(channels.map((c) => [c, timesOf(c)]));
}
