// A padded batch has the bits of its sequences without padding: forward, backward and running statistics, whatever the
// padding holds. What is expected is computed by the same layer class from unpadded sequences, built here element by
// element; the layers themselves are judged by the oracle elsewhere.

import fc from 'fast-check';
import {
  BatchNorm1d,
  BatchNorm2d,
  GroupNorm,
  InstanceNorm1d,
  InstanceNorm2d,
  LayerNorm,
  noGrad,
  RMSNorm,
  Tensor,
  tensor,
  type Parameter,
} from '../../lib';
import { onEveryIsa } from '../support/isa';
import { values, type AnyLayer } from '../support/shapes';
import { expectSameBits, type Dtype } from '../support/tolerance';

const arrays = { float32: Float32Array, float64: Float64Array };
const data = (t: Tensor | null | undefined): Float64Array => t!.data as Float64Array;
const product = (sizes: readonly number[]): number => sizes.reduce((p, n) => p * n, 1);
const logical = (t: Tensor): number[] => t.toArray() as number[];

/** The tensor of logical elements in contiguous or channels-last memory. */
function build(elements: number[], shape: number[], dtype: Dtype, channelsLast = false): Tensor {
  if (!channelsLast) return new Tensor(new arrays[dtype](elements), shape);
  const [n, c, ...spatial] = shape as [number, number, ...number[]];
  const s = product(spatial);
  const memory = new arrays[dtype](elements.length);
  elements.forEach((v, e) => {
    const [i, rest] = [Math.floor(e / (c * s)), e % (c * s)];
    memory[(i * s + (rest % s)) * c + Math.floor(rest / s)] = v;
  });
  const axes = spatial.map((_, i) => i + 1);
  return new Tensor(memory, [n, ...spatial, c]).permute(0, spatial.length + 1, ...axes);
}

/** [sample][channel][valid values] of logical elements (N, C, S). */
function sequences(elements: number[], [n, c, s]: [number, number, number], flags: Uint8Array): number[][][] {
  return Array.from({ length: n }, (_, i) =>
    Array.from({ length: c }, (_, j) =>
      elements.slice((i * c + j) * s, (i * c + j + 1) * s).filter((_, k) => flags[i * s + k]),
    ),
  );
}

/** The batches that unpadded sequences make: one of equal lengths, or one sequence of all, or each alone. */
function batches(all: number[][][], together: boolean): number[][][][] {
  const some = all.filter((sequence) => sequence[0]!.length > 0);
  if (some.every((sequence) => sequence[0]!.length === some[0]![0]!.length)) return [some];
  if (!together) return some.map((sequence) => [sequence]);
  return [[some[0]!.map((_, channel) => some.flatMap((sequence) => sequence[channel]!))]];
}

/** Sequences one after the other as they come out of batches, back in their places among zeros. */
function scattered(
  results: Tensor[],
  [n, c, s]: [number, number, number],
  flags: Uint8Array,
  together: boolean,
): Float64Array {
  const out = new Float64Array(n * c * s);
  const counts = Array.from({ length: n }, (_, i) => flags.subarray(i * s, (i + 1) * s).reduce((sum, f) => sum + f, 0));
  const some = counts.filter((count) => count > 0);
  const joined = together && !some.every((count) => count === some[0]);
  const flat = results.map(logical);
  let [seen, from] = [0, 0];
  counts.forEach((count, i) => {
    if (count === 0) return;
    for (let channel = 0; channel < c; channel++) {
      let k = 0;
      for (let at = 0; at < s; at++) {
        if (!flags[i * s + at]) continue;
        const source = joined
          ? flat[0]![channel * (flat[0]!.length / c) + from + k]
          : results.length === 1
            ? flat[0]![(seen * c + channel) * count + k]
            : flat[seen]![channel * count + k];
        out[(i * c + channel) * s + at] = source!;
        k++;
      }
    }
    seen++;
    from += count;
  });
  return out;
}

interface Kind {
  name: string;
  make(c: number, rank: number, dtype: Dtype): AnyLayer;
  together(layer: AnyLayer): boolean;
}
const training = (layer: AnyLayer): boolean => (layer as unknown as { training: boolean }).training;
const kinds: Kind[] = [
  {
    name: 'BatchNorm',
    make: (c, rank, dtype) => new (rank === 3 ? BatchNorm1d : BatchNorm2d)(c, { dtype }) as unknown as AnyLayer,
    together: () => true,
  },
  {
    name: 'InstanceNorm',
    make: (c, rank, dtype) =>
      new (rank === 3 ? InstanceNorm1d : InstanceNorm2d)(c, {
        dtype,
        affine: true,
        trackRunningStats: true,
      }) as unknown as AnyLayer,
    together: (layer) => !training(layer),
  },
  {
    name: 'GroupNorm',
    make: (c, _, dtype) => new GroupNorm(c / 2, c, { dtype }) as unknown as AnyLayer,
    together: () => false,
  },
];

function setWeights(layers: AnyLayer[], size: number, dtype: Dtype): void {
  const [weight, bias] = [values(size, dtype, 1, 0.5), values(size, dtype, 0, 0.5)];
  for (const layer of layers) {
    data(layer.weight).set(weight);
    if (layer.bias) data(layer.bias).set(bias);
  }
}

function compareState(layer: AnyLayer, twin: AnyLayer): void {
  for (const name of ['weight', 'bias'] as const) {
    if (layer[name]) expectSameBits(`d${name}`, data(layer[name].grad), data(twin[name]!.grad));
  }
}

/** Runs a layer on a padded batch of NaN, and a twin on the sequences; everything must be equal. */
function check(
  kind: Kind,
  dtype: Dtype,
  shape: number[],
  flags: Uint8Array,
  given: object,
  mode: 'train' | 'eval',
  channelsLast: boolean,
): void {
  const [n, c, ...spatial] = shape as [number, number, ...number[]];
  const s = product(spatial);
  const sizes: [number, number, number] = [n, c, s];
  const layer = kind.make(c, shape.length, dtype);
  const twin = kind.make(c, 3, dtype);
  setWeights([layer, twin], c, dtype);
  if (layer.runningVar) for (const l of [layer, twin]) data(l.runningVar).set(values(c, dtype, 2, 0.1, 7));
  for (const l of [layer, twin]) l.train(mode === 'train');
  const together = kind.together(layer);

  const elements = [...values(product(shape), dtype, 3, 2)];
  const gradients = [...values(product(shape), dtype, 0.1, 1)];
  const spoiled = (list: number[]): number[] =>
    list.map((v, e) => (flags[Math.floor(e / (c * s)) * s + (e % s)] ? v : NaN));
  const y = layer.forward(build(spoiled(elements), shape, dtype, channelsLast), given);
  const dx = layer.backward(build(spoiled(gradients), shape, dtype, channelsLast));

  const pieces = batches(sequences(elements, sizes, flags), together);
  const pieceGradients = batches(sequences(gradients, sizes, flags), together);
  const made = (piece: number[][][]): Tensor =>
    build(piece.flat(2), [piece.length, c, piece[0]![0]!.length], dtype, channelsLast);
  const before = twin.runningMean && [data(twin.runningMean).slice(), data(twin.runningVar).slice()];
  const statistics: [Float64Array, Float64Array][] = [];
  const outs = pieces.map((piece, i) => {
    const alone = kind.name === 'InstanceNorm' && pieces.length > 1;
    if (alone) {
      // Each sequence's own statistics, to be averaged below.
      const other = new InstanceNorm1d(c, { dtype, trackRunningStats: true, momentum: 1 });
      other.forward(made(piece));
      statistics.push([data(other.runningMean), data(other.runningVar)]);
    }
    const context = twin.context();
    return { y: twin.forward(made(piece), { context }), dx: twin.backward(made(pieceGradients[i]!), { context }) };
  });
  expectSameBits(
    'y',
    logical(y),
    scattered(
      outs.map((o) => o.y),
      sizes,
      flags,
      together,
    ),
  );
  expectSameBits(
    'dx',
    logical(dx),
    scattered(
      outs.map((o) => o.dx),
      sizes,
      flags,
      together,
    ),
  );
  expect([y.shape, dx.shape]).toEqual([shape, shape]);
  if (channelsLast) expect([y.isChannelsLast, dx.isChannelsLast]).toEqual([true, true]);
  compareState(layer, twin);
  expect(layer.numBatchesTracked).toBe(twin.numBatchesTracked);
  if (!before) return;
  if (statistics.length > 0) {
    const average = (which: 0 | 1): Float64Array =>
      before[which]!.map(
        (old, j) => 0.1 * (statistics.reduce((sum, s) => sum + s[which][j]!, 0) / statistics.length) + 0.9 * old,
      );
    const found = [data(layer.runningMean), data(layer.runningVar)];
    for (const which of [0, 1] as const) {
      average(which).forEach((e, j) => {
        const limit = dtype === 'float64' ? 1e-15 : 1e-6;
        expect(Math.abs(found[which]![j]! - e)).toBeLessThanOrEqual(limit * (1 + Math.abs(e)));
      });
    }
  } else {
    expectSameBits('running mean', data(layer.runningMean), data(twin.runningMean));
    expectSameBits('running var', data(layer.runningVar), data(twin.runningVar));
  }
}

const flagsOfLengths = (lengths: number[], l: number): Uint8Array =>
  Uint8Array.from(lengths.flatMap((length) => Array.from({ length: l }, (_, k) => (k < length ? 1 : 0))));
const random = (seed: number, n: number): Uint8Array =>
  Uint8Array.from(values(n, 'float64', 0, 1, seed), (v) => (v > -0.3 ? 1 : 0));

onEveryIsa('a padded batch has the bits of its sequences', () => {
  describe.each<Dtype>(['float32', 'float64'])('%s', (dtype) => {
    describe.each(kinds.map((kind) => [kind.name, kind] as const))('%s', (_, kind) => {
      describe.each([false, true])('channels-last %p', (channelsLast) => {
        it.each<'train' | 'eval'>(['train', 'eval'])('in %s', (mode) => {
          const of = (shape: number[], flags: Uint8Array, given: object): void =>
            check(kind, dtype, shape, flags, given, mode, channelsLast);
          for (const lengths of [
            [5, 2, 7, 3],
            [7, 7, 7, 7],
            [4, 4, 4, 4],
            [0, 5, 0, 6],
            [0, 5, 0, 5],
          ]) {
            of([4, 6, 7], flagsOfLengths(lengths, 7), { lengths });
          }
          const long = [513, 300, 17];
          of([3, 4, 600], flagsOfLengths(long, 600), { lengths: new Int32Array(long) });
          const flags = random(5, 3 * 4 * 5);
          of([3, 4, 4, 5], flags, { mask: new Tensor(flags, [3, 4, 5]) });
          of([3, 4, 4, 5], flags, { mask: flags });
          const byRow = flagsOfLengths([3, 1, 4], 4).reduce<number[]>((all, f) => [...all, f, f, f, f, f], []);
          of([3, 4, 4, 5], Uint8Array.from(byRow), { lengths: [3n, 1n, 4n] });
        });
      });
    });
    it('all valid is no mask at all', () => {
      for (const kind of kinds) {
        const [layer, twin] = [kind.make(4, 3, dtype), kind.make(4, 3, dtype)];
        const x = build([...values(3 * 4 * 50, dtype, 3)], [3, 4, 50], dtype);
        expectSameBits('y', data(layer.forward(x, { lengths: [50, 50, 50] })), data(twin.forward(x)));
        expectSameBits('dx', data(layer.backward(x)), data(twin.backward(x)));
        compareState(layer, twin);
        if (layer.runningVar) expectSameBits('running', data(layer.runningVar), data(twin.runningVar));
      }
    });
  });
});

const trailing = [
  ['LayerNorm', (shape: number[], dtype: Dtype): AnyLayer => new LayerNorm(shape, { dtype }) as unknown as AnyLayer],
  ['RMSNorm', (shape: number[], dtype: Dtype): AnyLayer => new RMSNorm(shape, { dtype }) as unknown as AnyLayer],
] as const;

onEveryIsa('rows and their elements', () => {
  describe.each<Dtype>(['float32', 'float64'])('%s', (dtype) => {
    describe.each(trailing)('%s', (_, make) => {
      const spoil = (list: number[], flags: ArrayLike<number>, each: number): number[] =>
        list.map((v, e) => (flags[Math.floor(e / each)] ? v : NaN));

      it('a mask of leading dimensions takes rows out, of the gradients too', () => {
        for (const [shape, dims, maskDims] of [
          [[3, 5, 19], 1, 2],
          [[3, 5, 2, 9], 2, 2],
          [[3, 5, 2, 9], 1, 2],
          [[6, 35], 1, 1],
        ] as const) {
          const tail = shape.slice(shape.length - dims);
          const d = product(tail);
          const [layer, twin] = [make([...tail], dtype), make([...tail], dtype)];
          setWeights([layer, twin], d, dtype);
          const maskShape = shape.slice(0, maskDims);
          const flags = random(shape.length + maskDims, product(maskShape));
          const each = product(shape) / flags.length;
          const [x, dy] = [[...values(product(shape), dtype, 2)], [...values(product(shape), dtype)]];
          const kept = (list: number[]): number[] => list.filter((_, e) => flags[Math.floor(e / each)]);
          const back = (t: Tensor): number[] => {
            const rows = logical(t);
            let at = 0;
            return x.map((_, e) => (flags[Math.floor(e / each)] ? rows[at++]! : 0));
          };
          const y = layer.forward(build(spoil(x, flags, each), [...shape], dtype), {
            mask: new Tensor(flags, maskShape),
          });
          const dx = layer.backward(build(spoil(dy, flags, each), [...shape], dtype));
          const rows = kept(x).length / d;
          expectSameBits('y', logical(y), back(twin.forward(build(kept(x), [rows, ...tail], dtype))));
          expectSameBits('dx', logical(dx), back(twin.backward(build(kept(dy), [rows, ...tail], dtype))));
          compareState(layer, twin);
        }
      });

      it('a mask into the normalized dimensions leaves each row its valid elements and their weights', () => {
        for (const [shape, dims, flags, maskShape] of [
          [[4, 23], 1, random(3, 4 * 23), [4, 23]],
          [[4, 6, 5], 2, random(4, 24), [4, 6]],
          [[2, 3, 7], 1, random(9, 42), [2, 3, 7]],
          [[3, 8], 1, flagsOfLengths([5, 5, 5], 8), [3, 8]],
        ] as [number[], number, Uint8Array, number[]][]) {
          const tail = shape.slice(shape.length - dims);
          const d = product(tail);
          const each = product(shape) / flags.length;
          const layer = make(tail, dtype);
          setWeights([layer], d, dtype);
          const [x, dy] = [[...values(product(shape), dtype, 2)], [...values(product(shape), dtype)]];
          const y = layer.forward(build(spoil(x, flags, each), shape, dtype), { mask: new Tensor(flags, maskShape) });
          const dx = layer.backward(build(spoil(dy, flags, each), shape, dtype));

          const [expectedY, expectedDx] = [new Float64Array(x.length), new Float64Array(x.length)];
          const grads = { weight: new arrays[dtype](d), bias: new arrays[dtype](d) };
          const rows = x.length / d;
          const elementsOf = (row: number): number[] =>
            Array.from({ length: d }, (_, i) => i).filter((i) => flags[Math.floor((row * d + i) / each)]);
          const groups: number[][] =
            elementsOf(0).join() === elementsOf(1).join() ? [[0, 1, 2]] : Array.from({ length: rows }, (_, r) => [r]);
          for (const group of groups) {
            const own = elementsOf(group[0]!);
            const twin = make([own.length], dtype);
            const take = (list: number[]): Tensor =>
              build(
                group.flatMap((row) => own.map((i) => list[row * d + i]!)),
                [group.length, own.length],
                dtype,
              );
            for (const name of ['weight', 'bias'] as const) {
              if (!twin[name]) continue;
              data(twin[name]).set(own.map((i) => data(layer[name])[i]!));
              twin[name].grad = new Tensor(new arrays[dtype](own.map((i) => grads[name][i]!)), [own.length]);
            }
            const [outY, outDx] = [logical(twin.forward(take(x))), logical(twin.backward(take(dy)))];
            group.forEach((row, r) =>
              own.forEach((i, k) => {
                expectedY[row * d + i] = outY[r * own.length + k]!;
                expectedDx[row * d + i] = outDx[r * own.length + k]!;
              }),
            );
            for (const name of ['weight', 'bias'] as const) {
              own.forEach((i, k) => void (twin[name] && (grads[name][i] = data(twin[name].grad)[k]!)));
            }
          }
          expectSameBits('y', logical(y), expectedY);
          expectSameBits('dx', logical(dx), expectedDx);
          for (const name of ['weight', 'bias'] as const) {
            if (layer[name]) expectSameBits(name, data(layer[name].grad), grads[name]);
          }
        }
      });

      it('lengths are of the dimension after the batch', () => {
        const [layer, twin] = [make([4], dtype), make([4], dtype)];
        const x = build([...values(24, dtype)], [2, 3, 4], dtype);
        const mask = [
          [true, true, false],
          [true, false, false],
        ];
        expectSameBits('rows', data(layer.forward(x, { lengths: [2, 1] })), data(twin.forward(x, { mask })));
        const row = build([...values(8, dtype)], [2, 4], dtype);
        const elements = [
          [1, 1, 0, 0],
          [1, 1, 1, 0],
        ];
        expectSameBits(
          'elements',
          data(layer.forward(row, { lengths: [2, 3] })),
          data(twin.forward(row, { mask: elements })),
        );
      });
    });
  });
});

describe('masks and the rest of a call', () => {
  const x = tensor([
    [
      [1, 2, NaN],
      [3, 5, NaN],
    ],
    [
      [7, 1, 2],
      [0, 2, 9],
    ],
  ]);
  const lengths = [2, 3];
  it('random masks, against the sequences', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 1e6 }),
        fc.constantFrom(...kinds),
        fc.boolean(),
        (n, s, seed, kind, channelsLast) => {
          const flags = random(seed, n * s);
          const counts = Array.from({ length: n }, (_, i) =>
            flags.subarray(i * s, (i + 1) * s).reduce((a, b) => a + b, 0),
          );
          fc.pre(counts.every((count) => count === 0 || count > 1) && counts.some((count) => count > 1));
          check(kind, 'float32', [n, 4, s], flags, { mask: new Tensor(flags, [n, s]) }, 'train', channelsLast);
        },
      ),
      { numRuns: 150 },
    );
  });
  it('contexts keep each forward', () => {
    const bn = new BatchNorm1d(2);
    const [first, second] = [bn.context(), bn.context()];
    bn.forward(x, { lengths, context: first });
    bn.forward(x, { lengths: [1, 2], context: second });
    const dy = tensor(new Float32Array(12).fill(1), [2, 2, 3]);
    expect(data(bn.backward(dy, { context: second }))[1]).toBe(0);
    expect(data(bn.backward(dy, { context: first }))[2]).toBe(0);
    expect(() => bn.backward(dy, { context: first })).toThrow(/no forward/);
  });
  it('works in place with gradients on: what backward needs is packed apart', () => {
    const own = tensor(new Float32Array(data(x) as never), x.shape as number[]);
    const [layer, twin] = [new GroupNorm(1, 2), new GroupNorm(1, 2)];
    const y = layer.forward(own, { lengths, out: own });
    expect(y).toBe(own);
    expectSameBits('y', data(y), data(twin.forward(x, { lengths })));
    const dy = tensor(new Float32Array(12).fill(1), [2, 2, 3]);
    expectSameBits(
      'dx',
      data(layer.backward(dy, { out: dy })),
      data(twin.backward(tensor(new Float32Array(12).fill(1), [2, 2, 3]))),
    );
  });
  it('inside noGrad keeps nothing, and moves the running statistics all the same', () => {
    const [bn, twin] = [new BatchNorm1d(2), new BatchNorm1d(2)];
    noGrad(() => bn.forward(x, { lengths }));
    twin.forward(x, { lengths });
    expectSameBits('mean', data(bn.runningMean), data(twin.runningMean));
    expect(() => bn.backward(x)).toThrow(/no forward/);
    bn.forward(x, { lengths, updateStats: false });
    expectSameBits('mean', data(bn.runningMean), data(twin.runningMean));
    expect(bn.numBatchesTracked).toBe(1);
  });
  it('running_var is unbiased by the number of valid positions', () => {
    const bn = new BatchNorm1d(2, { momentum: 1 });
    bn.forward(x, { lengths });
    expect(data(bn.runningMean)[0]).toBeCloseTo(13 / 5, 6);
    expect(data(bn.runningVar)[0]).toBeCloseTo(6.3, 5);
  });
  it('a batch of padding alone is an empty one: zeros, counted, and the statistics as they were', () => {
    const bn = new BatchNorm1d(2);
    expect(data(bn.forward(x, { lengths: [0, 0] })).every((v) => v === 0)).toBe(true);
    expect([bn.numBatchesTracked, data(bn.runningMean)[0], data(bn.runningVar)[0]]).toEqual([1, 0, 1]);
    expect(data(bn.backward(x)).every((v) => v === 0)).toBe(true);
    expect([...data(bn.weight!.grad)]).toEqual([0, 0]);
    const ln = new LayerNorm(3);
    expect(data(ln.forward(x, { mask: new Tensor(new Uint8Array(12), [2, 2, 3]) })).every((v) => v === 0)).toBe(true);
    expect(data(ln.backward(x)).every((v) => v === 0)).toBe(true);
  });
  it('unbatched InstanceNorm takes a mask of its length', () => {
    const layer = new InstanceNorm1d(2);
    const y = layer.forward(
      [
        [1, 2, NaN],
        [3, 5, NaN],
      ],
      { mask: [true, true, false] },
    );
    const twin = layer.forward([
      [1, 2],
      [3, 5],
    ]);
    expect(y.shape).toEqual([2, 3]);
    expect([0, 1, 3, 4].map((i) => data(y)[i])).toEqual([...data(twin)]);
    expect(
      data(
        layer.forward(
          [
            [1, 2, NaN],
            [3, 5, NaN],
          ],
          { lengths: [2] },
        ),
      ),
    ).toEqual(data(y));
  });
  it('parameters that are frozen or need no gradient get none', () => {
    const ln = new LayerNorm(3);
    ln.bias!.requiresGrad = false;
    ln.forward(x, { lengths: [2, 1] });
    ln.backward(x);
    expect([(ln.weight as Parameter).grad !== null, ln.bias!.grad]).toEqual([true, null]);
  });

  it.each<[string, () => unknown, ErrorConstructor, RegExp]>([
    [
      'both',
      () => new BatchNorm1d(2).forward(x, { lengths, mask: [[1]] }),
      TypeError,
      /mask and lengths say the same thing/,
    ],
    [
      'mask shape',
      () =>
        new BatchNorm1d(2).forward(x, {
          mask: [
            [1, 1],
            [1, 1],
          ],
        }),
      RangeError,
      /mask must have the input's shape without the channel axis, \[2, 3\], but has \[2, 2\]/,
    ],
    [
      'mask with channels',
      () => new GroupNorm(1, 2).forward(x, { mask: new Tensor(new Uint8Array(12), [2, 2, 3]) }),
      RangeError,
      /without the channel axis, \[2, 3\], but has \[2, 2, 3\]/,
    ],
    [
      'array of another size',
      () => new BatchNorm1d(2).forward(x, { mask: new Uint8Array(5) }),
      RangeError,
      /mask has 5 elements, one for each position of \[2, 3\] is needed/,
    ],
    [
      'ragged',
      () => new BatchNorm1d(2).forward(x, { mask: [[1, 1, 1], [1]] }),
      RangeError,
      /ragged mask: expected 3 entries in dimension 1/,
    ],
    [
      'of strings',
      () => new BatchNorm1d(2).forward(x, { mask: [['a']] as never }),
      TypeError,
      /mask must hold booleans or numbers, but got the string "a"/,
    ],
    ['no mask', () => new BatchNorm1d(2).forward(x, { mask: 5 as never }), TypeError, /mask must be a tensor/],
    [
      'too long',
      () => new InstanceNorm1d(2).forward(x, { lengths: [2, 4] }),
      RangeError,
      /lengths\[1\] must be an integer from 0 to 3, but got 4/,
    ],
    ['not whole', () => new InstanceNorm1d(2).forward(x, { lengths: [2, 1.5] }), RangeError, /but got 1.5/],
    [
      'too few',
      () => new InstanceNorm1d(2).forward(x, { lengths: [2] }),
      RangeError,
      /lengths must have one entry for each of 2 samples, but has 1/,
    ],
    [
      'no list',
      () => new InstanceNorm1d(2).forward(x, { lengths: 3 as never }),
      TypeError,
      /lengths must be an array, but got 3/,
    ],
    [
      'no length',
      () => new BatchNorm1d(2).forward([[1, 2]], { lengths: [1] }),
      RangeError,
      /lengths need a dimension after the batch and the channels/,
    ],
    [
      'one valid position',
      () => new BatchNorm1d(2).forward(x, { lengths: [1, 0] }),
      RangeError,
      /Expected more than 1 value per channel when training, got input size \[1, 2, 1\]/,
    ],
    [
      'instance of one',
      () => new InstanceNorm1d(2).forward(x, { lengths: [1, 3] }),
      RangeError,
      /Expected more than 1 spatial element when training/,
    ],
    [
      'LayerNorm mask',
      () => new LayerNorm(3).forward(x, { mask: [[1, 1, 1]] }),
      RangeError,
      /mask must have the input's first dimensions, of \[2, 2, 3\], but has \[1, 3\]/,
    ],
    [
      'wrong channels',
      () => new BatchNorm1d(5).forward(x, { lengths }),
      RangeError,
      /running_mean should contain 2 elements not 5/,
    ],
    [
      'wrong gradient',
      () => {
        const bn = new BatchNorm1d(2);
        bn.forward(x, { lengths });
        bn.backward([[1]]);
      },
      RangeError,
      /grad_output has shape \[1, 1\], the latest forward's output has \[2, 2, 3\]/,
    ],
  ])('refuses %s', (_, call, Kind, message) => {
    expect(call).toThrow(Kind);
    expect(call).toThrow(message);
  });
});
