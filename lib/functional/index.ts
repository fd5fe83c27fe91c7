// The public names of simdnorm/functional, nothing else.

export { batchNorm, groupNorm, instanceNorm, layerNorm, rmsNorm } from './norms';
export {
  nativeBatchNorm,
  nativeBatchNormBackward,
  nativeGroupNorm,
  nativeGroupNormBackward,
  nativeLayerNorm,
  nativeLayerNormBackward,
  nativeRmsNorm,
  nativeRmsNormBackward,
} from './native';
export { localResponseNorm, localResponseNormBackward, type LocalResponseNormOptions } from './local-response';
export { moments, type MomentsOptions } from './moments';
export { normalize, type NormalizeOptions } from './normalize';
export type {
  AffineOptions,
  BatchNormOptions,
  InstanceNormOptions,
  LayerNormOptions,
  NormalizedShape,
  OutOption,
  RMSNormOptions,
} from './arguments';
export type {
  BackwardOptions,
  BatchNormBackwardOptions,
  Gradients,
  Normalized,
  OutputMask,
  SavedStatistics,
} from './native';
