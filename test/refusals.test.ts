// Bad input: each a TypeError, a RangeError or an Error with a code, in torch's words where torch has them; and the
// layer is exactly as before.

import {
  BatchNorm1d,
  BatchNorm2d,
  GroupNorm,
  InstanceNorm1d,
  LayerNorm,
  noGrad,
  Parameter,
  RMSNorm,
  StateError,
  Tensor,
  tensor,
} from '../lib';

const f32 = (...shape: number[]): Tensor => tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1), shape);

type Kind = new (...args: never[]) => Error;
const everything: [string, () => unknown, Kind, RegExp][] = [
  // rank, channels, lengths
  [
    'another rank',
    () => new BatchNorm2d(3).forward(f32(2, 3)),
    RangeError,
    /BatchNorm2d\.forward: expected 4D input \(got 2D input\)/,
  ],
  [
    'rank 4 for BatchNorm1d',
    () => new BatchNorm1d(3).forward(f32(2, 3, 1, 1)),
    RangeError,
    /expected 2D or 3D input \(got 4D input\)/,
  ],
  [
    'another number of channels',
    () => new BatchNorm1d(3).forward(f32(2, 4)),
    RangeError,
    /running_mean should contain 4 elements not 3/,
  ],
  [
    'the same without running statistics',
    () => new BatchNorm1d(3, { trackRunningStats: false }).forward(f32(2, 4)),
    RangeError,
    /weight should contain 4 elements not 3/,
  ],
  [
    'the same without any',
    () => new BatchNorm1d(3, { trackRunningStats: false, affine: false }).forward(f32(2, 4)),
    RangeError,
    /3 channels, but got 4/,
  ],
  [
    'InstanceNorm with other channels',
    () => new InstanceNorm1d(3).forward(f32(2, 4, 5)),
    RangeError,
    /expected input's size at dim=1 to match num_features \(3\), but got: 4\./,
  ],
  [
    'GroupNorm with other channels',
    () => new GroupNorm(2, 4).forward(f32(2, 6, 5)),
    RangeError,
    /Expected weight to be a vector of size equal to the number of channels/,
  ],
  [
    'GroupNorm that cannot divide',
    () => new GroupNorm(4, 6),
    RangeError,
    /num_channels must be divisible by num_groups, but got 6 and 4/,
  ],
  [
    'LayerNorm with another tail',
    () => new LayerNorm([3, 4]).forward(f32(2, 3, 5)),
    RangeError,
    /Given normalized_shape=\[3, 4\], expected input with shape \[\*, 3, 4\], but got input of size\[2, 3, 5\]/,
  ],
  [
    'LayerNorm over nothing',
    () => new LayerNorm([]),
    RangeError,
    /Expected normalized_shape to be at least 1-dimensional/,
  ],
  [
    'data shorter than the shape',
    () => new LayerNorm(4).forward({ data: new Float32Array(7), shape: [2, 4] }),
    RangeError,
    /input: data has 7 elements, shape \[2, 4\] needs 8/,
  ],
  [
    'data longer than the shape',
    () => new LayerNorm(4).forward({ data: new Float32Array(9), shape: [2, 4] }),
    RangeError,
    /data has 9 elements, shape \[2, 4\] needs 8/,
  ],
  [
    'strides that leave the data',
    () => new Tensor(new Float32Array(4), [2, 2], { strides: [3, 1] }),
    RangeError,
    /needs elements 0 to 4/,
  ],
  [
    'strides that leave it below',
    () => new Tensor(new Float32Array(4), [2, 2], { strides: [-1, 1] }),
    RangeError,
    /needs elements -1 to 1/,
  ],
  ['ragged arrays', () => tensor([[1, 2], [3]]), RangeError, /ragged/],
  [
    'one value per channel',
    () => new BatchNorm1d(3).forward(f32(1, 3)),
    RangeError,
    /Expected more than 1 value per channel when training, got input size \[1, 3\]/,
  ],
  [
    'another number of channels, unbatched',
    () => new InstanceNorm1d(3).forward(f32(2, 5)),
    RangeError,
    /expected input's size at dim=0 to match num_features \(3\), but got: 2\./,
  ],
  [
    'neither batched nor unbatched',
    () => new InstanceNorm1d(3).forward(f32(2, 3, 5, 7)),
    RangeError,
    /expected 2D or 3D input \(got 4D input\)/,
  ],
  [
    'one spatial element',
    () => new InstanceNorm1d(3).forward(f32(2, 3, 1)),
    RangeError,
    /Expected more than 1 spatial element when training, got input size \[2, 3, 1\]/,
  ],
  [
    'one value per group',
    () => new GroupNorm(3, 3).forward(f32(1, 3)),
    RangeError,
    /Expected more than 1 value per channel when training/,
  ],
  // kinds
  [
    'a string',
    () => new LayerNorm(4).forward('x' as never),
    TypeError,
    /LayerNorm\.forward: input must be a tensor.*but got the string "x"/,
  ],
  [
    'undefined',
    () => new LayerNorm(4).forward(undefined as never),
    TypeError,
    /input must be a tensor.*but got undefined/,
  ],
  [
    'a bare typed array',
    () => new LayerNorm(4).forward(new Float32Array(4) as never),
    TypeError,
    /input must be a tensor.*but got a Float32Array/,
  ],
  ['no shape', () => new LayerNorm(4).forward({ data: new Float32Array(4) }), TypeError, /must have a shape/],
  [
    'uint8 data',
    () => new LayerNorm(4).forward({ data: new Uint8Array(4), shape: [4] }),
    TypeError,
    /input is uint8, the layer is float32: layers take floating point data/,
  ],
  [
    'float64 data',
    () => new LayerNorm(4).forward({ data: new Float64Array(4), shape: [4] }),
    TypeError,
    /input is float64, the layer is float32: mixed dtype: all inputs must share same datatype/,
  ],
  [
    'Uint32Array data',
    () => new LayerNorm(4).forward({ data: new Uint32Array(4) as never, shape: [4] }),
    TypeError,
    /data must be a Float32Array.*but got a Uint32Array/,
  ],
  [
    'a Proxy of a typed array',
    () => new LayerNorm(4).forward({ data: new Proxy(new Float32Array(4), {}), shape: [4] }),
    TypeError,
    /data must be/,
  ],
  [
    'NaN for a size',
    () => new BatchNorm1d(NaN),
    RangeError,
    /BatchNorm1d: numFeatures must be an integer of at least 0, but got NaN/,
  ],
  ['a fraction for a size', () => new LayerNorm([2.5]), RangeError, /normalizedShape\[0\] must be an integer/],
  [
    'a string for a size',
    () => new BatchNorm1d('3' as never),
    TypeError,
    /numFeatures must be an integer, but got the string "3"/,
  ],
  [
    'a shape with NaN',
    () => tensor(new Float32Array(1), [NaN]),
    RangeError,
    /shape\[0\] must be an integer of at least 0, but got NaN/,
  ],
  [
    'a shape beyond 2^53',
    () => tensor(new Float32Array(1), [2 ** 30, 2 ** 30]),
    RangeError,
    /more than 2\^53 elements/,
  ],
  [
    'a misspelled option',
    () => new BatchNorm1d(3, { track_running_stats: false } as never),
    TypeError,
    /unknown option "track_running_stats"; did you mean "trackRunningStats"\?/,
  ],
  [
    'an unknown option',
    () => new LayerNorm(3, { momentum: 1 } as never),
    TypeError,
    /unknown option "momentum"; known options are eps/,
  ],
  [
    'an option of another type',
    () => new BatchNorm1d(3, { affine: 1 } as never),
    TypeError,
    /affine must be a boolean, but got 1/,
  ],
  ['eps that is no number', () => new BatchNorm1d(3, { eps: '1e-5' } as never), TypeError, /eps must be a number/],
  ['eps NaN', () => new RMSNorm(3, { eps: NaN }), RangeError, /eps must be finite/],
  [
    'eps 0 in training',
    () => new BatchNorm1d(3, { eps: 0 }).forward(f32(2, 3)),
    RangeError,
    /batch_norm eps must be positive during training, but got 0/,
  ],
  [
    'eps negative in eval',
    () => new BatchNorm1d(3, { eps: -1 }).eval().forward(f32(2, 3)),
    RangeError,
    /batch_norm eps must be non-negative, but got -1/,
  ],
  [
    'another dtype',
    () => new BatchNorm1d(3, { dtype: 'float16' as never }),
    TypeError,
    /dtype must be 'float32' or 'float64', but got the string "float16"/,
  ],
  [
    'options that are no object',
    () => new BatchNorm1d(3, 5 as never),
    TypeError,
    /options must be an object, but got 5/,
  ],
  [
    'a mode that is not boolean',
    () => new BatchNorm1d(3).train(1 as never),
    TypeError,
    /training mode is expected to be boolean, but got 1/,
  ],
  // buffers
  [
    'a detached buffer',
    () => {
      const x = f32(2, 3);
      structuredClone(x.data.buffer, { transfer: [x.data.buffer as ArrayBuffer] });
      return new LayerNorm(3).forward(x);
    },
    RangeError,
    /input has 0 elements.*its buffer is detached or was shrunk/,
  ],
  [
    'a shrunk buffer',
    () => {
      const buffer = new ArrayBuffer(24, { maxByteLength: 24 });
      const x = tensor(new Float32Array(buffer), [2, 3]);
      buffer.resize(20);
      return new LayerNorm(3).forward(x);
    },
    RangeError,
    /input has 5 elements/,
  ],
  [
    'a running mean taken away',
    () => {
      const bn = new BatchNorm1d(3);
      structuredClone(bn.runningMean!.data.buffer, { transfer: [bn.runningMean!.data.buffer as ArrayBuffer] });
      return bn.forward(f32(2, 3));
    },
    RangeError,
    /running_mean has 0 elements.*its buffer is detached/,
  ],
  [
    'an input taken away before backward',
    () => {
      const x = f32(2, 3);
      const ln = new LayerNorm(3);
      ln.forward(x);
      structuredClone(x.data.buffer, { transfer: [x.data.buffer as ArrayBuffer] });
      return ln.backward(f32(2, 3));
    },
    RangeError,
    /the kept input has 0 elements/,
  ],
  // out
  [
    'out too short',
    () => new LayerNorm(3).forward(f32(2, 3), { out: new Float32Array(5) }),
    RangeError,
    /out must be float32 with 6 elements, but got a Float32Array with 5/,
  ],
  [
    'out of another dtype',
    () => new LayerNorm(3).forward(f32(2, 3), { out: new Float64Array(6) }),
    TypeError,
    /out must be float32/,
  ],
  [
    'out of another shape',
    () => new LayerNorm(3).forward(f32(2, 3), { out: f32(3, 2) }),
    RangeError,
    /out must have shape \[2, 3\]/,
  ],
  [
    'out that is no array',
    () => new LayerNorm(3).forward(f32(2, 3), { out: {} as never }),
    TypeError,
    /out must be a typed array or a Tensor, but got an object/,
  ],
  [
    'out over the input with gradients on',
    () => {
      const x = f32(2, 3);
      return new LayerNorm(3).forward(x, { out: x });
    },
    RangeError,
    /out overlaps the input.*noGrad.*saveInput: 'copy'/,
  ],
  [
    'out shifted over the input',
    () => {
      const both = new Float32Array(7);
      return noGrad(() => new LayerNorm(3).forward(tensor(both.subarray(0, 6), [2, 3]), { out: both.subarray(1) }));
    },
    RangeError,
    /out overlaps another argument/,
  ],
  [
    'out over the weight',
    () => {
      const ln = new LayerNorm(3);
      return noGrad(() => ln.forward(f32(1, 3), { out: ln.weight!.data }));
    },
    RangeError,
    /out overlaps another argument/,
  ],
  [
    'an unknown saveInput',
    () => new LayerNorm(3).forward(f32(1, 3), { saveInput: 'no' as never }),
    TypeError,
    /saveInput must be 'reference' or 'copy'/,
  ],
  [
    "another layer's context",
    () => new LayerNorm(3).forward(f32(1, 3), { context: new LayerNorm(3).context() }),
    RangeError,
    /the context belongs to another layer/,
  ],
  [
    'a context that is none',
    () => new LayerNorm(3).forward(f32(1, 3), { context: {} as never }),
    TypeError,
    /context must come from LayerNorm\.context\(\)/,
  ],
  [
    'a gradient of another shape',
    () => {
      const ln = new LayerNorm([2, 3]);
      ln.forward(f32(2, 3));
      ln.weight!.grad = f32(3, 2);
      return ln.backward(f32(2, 3));
    },
    RangeError,
    /weight\.grad has shape \[3, 2\], weight has \[2, 3\]/,
  ],
  [
    'a gradient with strides',
    () => {
      const ln = new LayerNorm([2, 3]);
      ln.forward(f32(2, 3));
      ln.weight!.grad = f32(3, 2).permute(1, 0);
      return ln.backward(f32(2, 3));
    },
    RangeError,
    /weight\.grad must be contiguous/,
  ],
  [
    'the same shared memory under two names',
    () => {
      const memory = new SharedArrayBuffer(24);
      const [x, out] = [memory, structuredClone(memory)].map((buffer) => new Float32Array(buffer));
      return new LayerNorm(3).forward(tensor(x!, [2, 3]), { out: out! });
    },
    RangeError,
    /out overlaps/,
  ],
  [
    'a counter that is none',
    () => {
      const bn = new BatchNorm1d(1, { momentum: null });
      bn.numBatchesTracked = -1;
      return bn.forward(f32(2, 1));
    },
    RangeError,
    /numBatchesTracked must be an integer of at least 0, but got -1/,
  ],
  [
    'nested arrays without end',
    () => {
      const endless: unknown[] = [];
      endless.push(endless);
      return tensor(endless as never);
    },
    RangeError,
    /nested more than 64 deep/,
  ],
  // backward
  [
    'backward before forward',
    () => new LayerNorm(3).backward(f32(1, 3)),
    StateError,
    /LayerNorm\.backward: there is no forward to go back through/,
  ],
  [
    'backward twice',
    () => {
      const ln = new LayerNorm(3);
      ln.forward(f32(1, 3));
      ln.backward(f32(1, 3));
      return ln.backward(f32(1, 3));
    },
    StateError,
    /one backward releases it/,
  ],
  [
    'backward with another shape',
    () => {
      const ln = new LayerNorm(3);
      ln.forward(f32(2, 3));
      return ln.backward(f32(1, 3));
    },
    RangeError,
    /grad_output has shape \[1, 3\], the latest forward's output has \[2, 3\]/,
  ],
  // tensors
  ['permute with a repeated axis', () => f32(2, 3).permute(0, 0), RangeError, /each of the 2 axes once/],
  ['reshape to another size', () => f32(2, 3).reshape(4), RangeError, /shape \[4\] is invalid for input of size 6/],
  [
    'tensor with another dtype',
    () => tensor(new Float32Array(2), [2], { dtype: 'float64' }),
    TypeError,
    /dtype float64 asked for, but the data are float32/,
  ],
  ['strings in nested arrays', () => tensor([['1']] as never), TypeError, /must hold numbers/],
];

it.each(everything)('%s', (_, call, Kind, message) => {
  let error: unknown;
  try {
    call();
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(Kind);
  expect((error as Error).message).toMatch(message);
  if (error instanceof StateError) expect(error.code).toBe('ERR_NO_FORWARD');
});

describe('a refused call leaves the layer as it was', () => {
  const state = (bn: BatchNorm1d): unknown => [
    [...(bn.runningMean!.data as Float32Array)],
    [...(bn.runningVar!.data as Float32Array)],
    bn.numBatchesTracked,
    bn.parameters().map((p) => p.grad && [...(p.grad.data as Float32Array)]),
  ];
  const bad: [string, (bn: BatchNorm1d) => unknown][] = [
    ['another rank', (bn) => bn.forward(f32(3))],
    ['one value per channel', (bn) => bn.forward(f32(1, 3))],
    ['other channels', (bn) => bn.forward(f32(2, 4))],
    ['out over the weight', (bn) => bn.forward(f32(1, 3, 1).reshape(1, 3), { out: bn.weight!.data })],
    ['out over the running mean', (bn) => noGrad(() => bn.eval().forward(f32(1, 3), { out: bn.runningMean!.data }))],
    [
      'a shared grad array',
      (bn) => {
        bn.bias!.grad = bn.weight!.grad;
        return bn.backward(f32(2, 3));
      },
    ],
    ['backward with another shape', (bn) => bn.backward(f32(3, 3))],
    ['backward with another dtype', (bn) => bn.backward({ data: new Float64Array(6), shape: [2, 3] })],
    [
      'a weight of another length',
      (bn) => {
        (bn as { weight: Parameter }).weight = new Parameter(new Float32Array(4), [4]);
        return bn.forward(f32(2, 3));
      },
    ],
  ];
  it.each(bad)('%s', (_, call) => {
    const bn = new BatchNorm1d(3);
    bn.forward(f32(4, 3));
    bn.backward(f32(4, 3));
    bn.forward(f32(2, 3));
    const [weight, grad] = [bn.weight!, bn.bias!.grad];
    const before = state(bn);
    expect(() => call(bn)).toThrow(/./);
    (bn as { weight: Parameter }).weight = weight;
    bn.bias!.grad = grad;
    expect(state(bn)).toEqual(before);
    // and the forward before it can still go back
    expect(bn.train().backward(f32(2, 3)).shape).toEqual([2, 3]);
  });
});
