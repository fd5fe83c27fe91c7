// The public names of simdnorm/preprocessing, nothing else.

export {
  imagesToTensor,
  presets,
  tensorToImages,
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
export type { BatchOptions } from './samples';
