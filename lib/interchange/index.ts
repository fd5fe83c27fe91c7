// Normalization layers of other frameworks as ours, and ours as theirs.

export { fromFlax, toFlax, type FlaxModule } from './flax';
export { fromKeras, toKeras, type KerasLayer } from './keras';
export { fromOnnx, type FromOnnxOptions, type OnnxNode } from './onnx';
export type { FromOptions, NormLayer, ToOptions } from './build';
