// What a tensor keeps and how it converts it: every dtype, every way in.

import { LayerNorm, Parameter, Tensor, tensor, type DType } from '../lib';

const bits = Uint16Array.of(0x3f80, 0x4000, 0xc040, 0x7fc0, 0x7f80, 0x0001);
const halfArrays = (globalThis as { Float16Array?: new (values: number[]) => Uint16Array }).Float16Array;

describe('raw bits of half precision', () => {
  it('are kept, not copied, and read as numbers', () => {
    const x = tensor(bits, [2, 3], { dtype: 'bfloat16' });
    expect(x.data).toBe(bits);
    expect(x.toArray()).toEqual([1, 2, -3, NaN, Infinity, 2 ** -133]);
    expect(String(x)).toBe('Tensor(bfloat16, [2, 3])');
    const h = new Tensor(Uint16Array.of(0x3c00, 0xfbff, 0x0001), [3], { dtype: 'float16' });
    expect(h.toArray()).toEqual([1, -65504, 2 ** -24]);
  });

  it('keep their dtype through every view and copy', () => {
    const x = tensor(bits, [2, 3], { dtype: 'bfloat16' });
    const t = x.permute(1, 0);
    expect(t.toArray()).toEqual([1, NaN, 2, Infinity, -3, 2 ** -133]);
    const all = [t, t.contiguous(), t.copy(), t.reshape(6), x.reshape(3, -1), x.copy()];
    expect(all.map((y) => y.dtype)).toEqual(all.map(() => 'bfloat16'));
    expect(t.reshape([2, 3]).toArray()).toEqual(t.toArray());
  });

  it('are made of nested arrays, rounded once', () => {
    expect([...(tensor([1, 2049, 1e-8, 65520], [4], { dtype: 'float16' }).data as Uint16Array)]).toEqual([
      0x3c00, 0x6800, 0, 0x7c00,
    ]);
    expect(tensor([[1 + 2 ** -9 + 2 ** -40]], undefined, { dtype: 'bfloat16' }).toArray()).toEqual([1]);
    expect(tensor([[1 + 2 ** -8 + 2 ** -40]], undefined, { dtype: 'bfloat16' }).toArray()).toEqual([1 + 2 ** -7]);
  });

  it.each([
    ['tensor', () => tensor(bits, [6])],
    ['Tensor', () => new Tensor(bits, [6])],
    ['{data, shape}', () => new LayerNorm(6).forward({ data: bits, shape: [6] })],
    ['another dtype', () => tensor(bits, [6], { dtype: 'float32' })],
    ['uint16 of onnxruntime', () => new LayerNorm(6).forward({ data: bits, dims: [6], type: 'uint16' })],
  ])('need their dtype named: %s', (_, call) => {
    expect(call).toThrow(TypeError);
    expect(call).toThrow(/a Uint16Array holds the bits of float16 or bfloat16; say which with dtype/);
  });

  it.each(['dtype', 'type'])('pass with a %s beside them, to what takes them', (field) => {
    const like = { data: bits, shape: [6], [field]: 'bfloat16' };
    expect(() => new LayerNorm(6, { dtype: 'float64' }).forward(like)).toThrow(
      /input is bfloat16, the layer is float64/,
    );
    expect(new LayerNorm(6).forward(like).dtype).toBe('bfloat16');
  });

  // Node 20 has none; no test is skipped by name there.
  (halfArrays ? it : () => {})('come from a Float16Array as the same memory', () => {
    const data = new halfArrays!([1, 0.5, -2]);
    const x = tensor(data as never, [3]);
    expect(x.dtype).toBe('float16');
    expect(x.data.buffer).toBe(data.buffer);
    expect(x.toArray()).toEqual([1, 0.5, -2]);
    expect(() => tensor(data as never, [3], { dtype: 'bfloat16' })).toThrow(/dtype bfloat16 asked for/);
    expect(tensor(data.subarray(1) as never).toArray()).toEqual([0.5, -2]);
  });
});

describe('Tensor.to', () => {
  const every: DType[] = ['float32', 'float64', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'uint8'];

  it.each(every.flatMap((from) => every.map((to) => [from, to] as const)))('%s to %s', (from, to) => {
    const values = [0, 1, 2, 100, 64, 127];
    const x = tensor(values, [2, 3], { dtype: from });
    const y = x.to(to);
    expect(y.dtype).toBe(to);
    expect(y.shape).toEqual([2, 3]);
    expect(y.toArray().map(Number)).toEqual(values);
    if (from === to) expect(y).toBe(x);
    else expect(y.data).not.toBe(x.data);
    expect(x.permute(1, 0).to(to).toArray().map(Number)).toEqual([0, 100, 1, 64, 2, 127]);
  });

  it('keeps channels-last memory, and makes a plain tensor of a parameter', () => {
    const x = tensor(
      Float32Array.from({ length: 24 }, (_, i) => i),
      [1, 2, 3, 4],
    ).permute(0, 3, 1, 2);
    const y = x.to('float16');
    expect(y.strides).toEqual(x.strides);
    expect(y.toArray()).toEqual(x.toArray());
    expect(new Parameter(new Float32Array(2), [2]).to('float64')).not.toBeInstanceOf(Parameter);
  });

  it('rounds 64-bit integers once', () => {
    // A tie of float32 and of bfloat16 but for the last bit, which a double would lose.
    const above = 2n ** 60n + 2n ** 36n + 1n;
    const below = 2n ** 60n + 3n * 2n ** 36n - 1n;
    expect(tensor([above, -above, below], [3], { dtype: 'int64' }).to('float32').toArray()).toEqual([
      2 ** 60 + 2 ** 37,
      -(2 ** 60) - 2 ** 37,
      2 ** 60 + 2 ** 37,
    ]);
    const wide = 2n ** 60n + 2n ** 52n + 1n;
    expect(tensor([wide], [1], { dtype: 'int64' }).to('bfloat16').toArray()).toEqual([2 ** 60 + 2 ** 53]);
    expect(
      tensor([-(2n ** 63n), 2n ** 63n - 1n], [2], { dtype: 'int64' })
        .to('float64')
        .toArray(),
    ).toEqual([-(2 ** 63), 2 ** 63]);
  });

  it('truncates towards zero', () => {
    expect(tensor([-2.7, 2.7, -0.5]).to('int64').toArray()).toEqual([-2n, 2n, 0n]);
    expect(tensor([255.9, -0.9]).to('uint8').toArray()).toEqual([255, 0]);
    expect(tensor([2147483647.9], [1], { dtype: 'float64' }).to('int32').toArray()).toEqual([2147483647]);
  });

  it.each([
    [[NaN], 'int64', /Tensor\.to: NaN does not fit int64/],
    [[-Infinity], 'int32', /-Infinity does not fit int32, which holds -2147483648 to 2147483647/],
    [[2 ** 63], 'int64', /does not fit int64/],
    [[1, 256], 'uint8', /256 does not fit uint8, which holds 0 to 255/],
    [[-1], 'uint8', /-1 does not fit/],
  ] as const)('refuses %j as %s', (values, dtype, message) => {
    expect(() => tensor([...values]).to(dtype)).toThrow(RangeError);
    expect(() => tensor([...values]).to(dtype)).toThrow(message);
  });

  it('refuses what is no dtype', () => {
    expect(() => tensor([1]).to('half' as never)).toThrow(
      /dtype must be one of float32, .*, but got the string "half"/,
    );
  });
});

describe('what cannot be a tensor', () => {
  const endless = new Array(2 ** 31) as number[][];
  endless[0] = new Array(2 ** 31) as number[];
  it.each([
    [() => tensor([1n]), TypeError, /must hold numbers, but got 1n; float32 takes no bigints, dtype: 'int64' does/],
    [() => tensor([1, 2n]), TypeError, /but got 2n/],
    [() => tensor([300], [1], { dtype: 'uint8' }), RangeError, /tensor: 300 does not fit uint8/],
    [() => tensor([NaN], [1], { dtype: 'int64' }), RangeError, /tensor: NaN does not fit int64/],
    [() => tensor(endless), RangeError, /tensor: there is no memory for 4611686018427388000 elements of float32/],
    [() => new LayerNorm(2 ** 50), RangeError, /no memory for 1125899906842624 elements of float32/],
    [() => tensor(new DataView(new ArrayBuffer(8)) as never), TypeError, /data must be .*, but got a DataView/],
    [() => tensor(new Uint32Array(2) as never), TypeError, /data must be .*, but got a Uint32Array/],
  ])('%#', (call, Kind, message) => {
    expect(call).toThrow(Kind);
    expect(call).toThrow(message);
  });

  it('mixed integers are', () => {
    expect(tensor([1n, 2], [2], { dtype: 'int64' }).toArray()).toEqual([1n, 2n]);
  });
});

it('axes and sizes may come in one array', () => {
  const x = tensor(
    Float32Array.from({ length: 24 }, (_, i) => i),
    [2, 3, 4],
  );
  expect(x.permute([0, 2, 1]).toArray()).toEqual(x.permute(0, 2, 1).toArray());
  expect(x.reshape([4, -1]).shape).toEqual([4, 6]);
  expect(tensor([5]).reshape([]).shape).toEqual([]);
  expect(tensor([5]).reshape().shape).toEqual([]);
  expect(() => x.permute([0, 1])).toThrow(/each of the 3 axes once, but got \[0, 1\]/);
  expect(() => x.reshape([5])).toThrow(/shape \[5\] is invalid for input of size 24/);
});
