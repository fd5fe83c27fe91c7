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
