// Reads test/vectors: cases that nobody here wrote. The format is in test/vectors/README.md.

import type { Files } from './files';

export interface Figures {
  max_abs: number | null;
  nonfinite: number;
}
export interface Entry {
  tensor?: string | { float32: string; float64: string };
  scale: number;
  abs?: number;
  precision?: 'float32' | 'printed';
  optional?: boolean;
  magnitude?: number;
  floor?: Record<Dtype, number>;
  torch_float32?: Figures;
  torch_float64?: Figures;
  shape?: number[];
  index?: string | number[];
  values?: string | number[];
  block_sums?: string | number[];
  block?: number;
}
export interface Step {
  op: 'forward' | 'backward' | 'set' | 'reset_running_stats';
  mode?: 'train' | 'eval';
  input?: string;
  grad_output?: string;
  state?: Record<string, string | number>;
  expect?: Record<string, Entry | number>;
}
export type Dtype = 'float32' | 'float64';
export interface Case {
  name: string;
  source: string;
  kind: 'module' | 'functional' | 'sync' | 'state_dict' | 'error';
  module: string | null;
  options: Record<string, unknown>;
  dtypes: Dtype[];
  state: Record<string, string | number>;
  initial?: Record<string, { shape: number[]; fill: number } | number>;
  steps: Step[];
  functional?: { name: string; args: Record<string, unknown> };
  or_error?: string;
  bar?: boolean;
  tensors?: string;
  generated?: Record<string, { gen: Generator; shape: number[] }>;
  on?: string;
  mode?: 'train' | 'eval';
  input_shape?: number[];
  error?: string;
  then?: string;
  /** Of errors in loading: shapes by key. */
  entries?: Record<string, number[]>;
  strict?: boolean;
  /** Of saved states. */
  file?: string;
  modules?: SavedModule[];
}
export interface SavedModule {
  prefix: string;
  module: string;
  options: Record<string, unknown>;
  input: string;
  expect: { output: Entry };
  state: Record<string, string | number>;
}
interface Generator {
  seed: number;
  dist: 'uniform' | 'bell';
  a: number;
  b: number;
  dtype?: Dtype;
  permute?: { from: number[]; axes: number[] };
}
export interface Data {
  shape: number[];
  values: Float64Array;
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

export function readCases(files: Files): Case[] {
  return files
    .names()
    .filter((name) => name.endsWith('.json'))
    .map((name) => JSON.parse(text(files.read(name))) as Case);
}

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** The stored and generated tensors of a case, by name. */
export function readTensors(test: Case, files: Files): Map<string, Data> {
  const found = new Map<string, Data>();
  if (test.tensors) {
    const file = files.read(`${test.source}/${test.tensors}`);
    const end = 8 + new DataView(file.buffer, file.byteOffset).getUint32(0, true); // its upper half is 0
    const header = JSON.parse(text(file.subarray(8, end))) as Header;
    delete header.__metadata__;
    for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
      const [from, to] = data_offsets;
      const bytes = new Uint8Array(file.subarray(end + from, end + to)).buffer;
      const read: Record<string, () => Float64Array> = {
        F32: () => Float64Array.from(new Float32Array(bytes)),
        F64: () => new Float64Array(bytes),
        I32: () => Float64Array.from(new Int32Array(bytes)),
        I64: () => Float64Array.from(new BigInt64Array(bytes), Number),
      };
      found.set(name, { shape, values: read[dtype]!() });
    }
  }
  for (const [name, { gen, shape }] of Object.entries(test.generated ?? {})) found.set(name, generate(gen, shape));
  return found;
}

// Bound here: inside jest's sandbox each look-up of a global costs more than the rest of hash().
const { imul, fround } = Math;

function hash(i: number, seed: number): number {
  let x = (imul(i, 0x9e3779b1) + seed) | 0;
  x ^= x >>> 16;
  x = imul(x, 0x85ebca6b);
  x ^= x >>> 13;
  x = imul(x, 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Seeded values in [a, b) or around a, element by element; used by our own tests too. */
export function generate({ seed, dist, a, b, dtype, permute }: Generator, shape: number[]): Data {
  const unit = 2 ** -24;
  const u = (i: number): number => (hash(i, seed) >>> 8) * unit;
  const size = shape.reduce((product, n) => product * n, 1);
  const raw = new Float64Array(size);
  for (let i = 0; i < size; i++) {
    const value =
      dist === 'uniform'
        ? a + (b - a) * u(i)
        : a + b * ((u(4 * i) + u(4 * i + 1) + (u(4 * i + 2) + u(4 * i + 3)) - 2) * 1.7320508075688772);
    raw[i] = dtype === 'float64' ? value : fround(value);
  }
  if (!permute) return { shape, values: raw };
  const { from, axes } = permute;
  const step = from.map((_, axis) => from.slice(axis + 1).reduce((product, n) => product * n, 1));
  const values = raw.map((_, to) => {
    let rest = to;
    let at = 0;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at += (rest % shape[axis]!) * step[axes[axis]!]!;
      rest = Math.floor(rest / shape[axis]!);
    }
    return raw[at]!;
  });
  return { shape, values };
}
