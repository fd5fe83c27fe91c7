// The numbers that a call takes beside its arrays: where each stands. native/bindings/addon.cc has the same lists.

/** After the six numbers of the geometry. */
export const Block = {
  offsetX: 6,
  offsetY: 7,
  offsetDy: 8,
  offsetAdd: 9,
  eps: 10,
  momentum: 11,
  flags: 12,
  /** Which optional arguments there are: the sum of 2^argument over them. */
  given: 13,
  /** Behind each statistic, where those are of more than the input; else 0. */
  values: 14,
  length: 15,
} as const;
/** Of a window over the channels: [outer][channels][inner], then how far it reaches, offsets, and what s^beta is made of. */
export const WindowBlock = {
  outer: 0,
  channels: 1,
  inner: 2,
  before: 3,
  after: 4,
  offsetX: 5,
  offsetY: 6,
  offsetDy: 7,
  k: 8,
  scale: 9,
  beta: 10,
  flags: 11,
  length: 12,
} as const;
/** Of images: how many an array has, their sizes, strides in bytes, the channels taken, and four numbers each from `order`, `mean` and `std` on. */
export const ImageBlock = {
  count: 0,
  height: 1,
  width: 2,
  step: 3,
  rowStride: 4,
  imageStride: 5,
  channels: 6,
  planar: 7,
  offsetTensor: 8,
  flags: 9,
  order: 10,
  mean: 14,
  std: 18,
  length: 22,
} as const;
/** Of data [outer][channels][inner]; `stride` elements from one outer to the next. */
export const TallyBlock = {
  outer: 0,
  channels: 1,
  inner: 2,
  stride: 3,
  offset: 4,
  flags: 5,
  given: 6,
  length: 7,
} as const;
export const Flag = {
  aboutZero: 1,
  zeroVarIsZero: 2,
  useRunning: 4,
  keepsInput: 8,
  relu: 16,
  bfloat16: 32,
  /** y by the statistics that stand in `saved`. */
  useSaved: 64,
} as const;
