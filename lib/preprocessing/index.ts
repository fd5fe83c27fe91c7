// The public names of simdnorm/preprocessing, nothing else.

export {
  imagesToTensor,
  imagesToTensorAsync,
  presets,
  tensorToImages,
  type ImageAsyncOptions,
  type ImageLike,
  type ImageOptions,
  type ImageSource,
  type RawImage,
  type SharpImage,
  type TensorToImagesOptions,
} from './images';
export {
  RunningMoments,
  type RunningMomentsJSON,
  type RunningMomentsOptions,
  type VarianceOptions,
} from './running-moments';
export type { Batch, BatchOptions } from './samples';
export type { FitOptions, TransformOptions } from './scaler';
export { StandardScaler, type StandardScalerOptions } from './standard-scaler';
export { MinMaxScaler, type MinMaxScalerOptions } from './min-max-scaler';
export { Normalize } from './normalize';
export { fit } from './fit';
export {
  fitParallel,
  type FailedFile,
  type FitParallelOptions,
  type FitProgress,
  type FitResult,
  type FitState,
} from './fit-parallel';
export { listData, type DataOptions } from './data';
