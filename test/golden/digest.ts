// SHA-256 of what a call gives on each instruction set and number of threads, by way of the interface that all runtimes
// and browsers have.

import type { TensorData } from 'simdnorm';
import type { Call, GoldenApi, Outputs } from './calls';

/** What all NaNs are made, as 16-bit halves of an element, the lowest first: which of them arises is up to the CPU. */
const oneNaN: Record<string, number[]> = {
  float32: [0, 0x7fc0],
  float64: [0, 0, 0, 0x7ff8],
  float16: [0x7e00],
  bfloat16: [0x7fc0],
};

function bytesOf(data: TensorData, dtype: string): Uint8Array {
  const copy = data.slice();
  const nan = oneNaN[dtype];
  if (nan) {
    const halves = new Uint16Array(copy.buffer);
    const infinity = dtype === 'float16' ? 0x7c00 : 0x7f80;
    for (let i = 0; i < copy.length; i++) {
      const element = copy[i]!;
      const isNaN = nan.length === 1 ? ((element as number) & 0x7fff) > infinity : element !== element;
      if (isNaN) halves.set(nan, i * nan.length);
    }
  }
  return new Uint8Array(copy.buffer);
}

async function sha256({ simdnorm }: GoldenApi, outputs: Outputs): Promise<string> {
  const parts = outputs.flatMap((output) => {
    if (output == null) return [];
    if (ArrayBuffer.isView(output)) return [bytesOf(output, kinds[output.constructor.name] ?? '')];
    if (!(output instanceof simdnorm.Tensor)) throw new Error('an output is neither an array nor a tensor');
    const { data, offset, size, dtype } = output;
    return [bytesOf(data.subarray(offset, offset + size) as TensorData, dtype)];
  });
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', all));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
const kinds: Record<string, string> = { Float32Array: 'float32', Float64Array: 'float64' };

/** The digest, which is the same on every instruction set here and for one thread and two; or throws. */
export async function digestOf(api: GoldenApi, call: Call): Promise<string> {
  const { isa, getNumThreads, setNumThreads } = api.simdnorm;
  const before = { isa: isa.active, threads: getNumThreads() };
  const compute = call.prepare(api);
  const found = new Map<string, string[]>();
  try {
    for (const name of isa.supported) {
      for (const threads of [1, 2]) {
        isa.use(name);
        setNumThreads(threads);
        const digest = await sha256(api, compute());
        found.set(digest, [...(found.get(digest) ?? []), `${name} with ${threads} threads`]);
      }
    }
  } finally {
    isa.use(before.isa);
    setNumThreads(before.threads);
  }
  const [only, ...others] = found.keys();
  if (others.length === 0) return only!;
  throw new Error(`bits differ: ${[...found].map(([digest, ways]) => `${digest} on ${ways.join(', ')}`).join('; ')}`);
}
