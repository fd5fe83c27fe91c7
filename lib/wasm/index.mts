// The public names of simdnorm/wasm: those of simdnorm, with simdnorm/functional and the images of
// simdnorm/preprocessing beside them.

export * from '../index.js';
export * as functional from '../functional/index.js';
export {
  imagesToTensor,
  presets,
  tensorToImages,
  type ImageLike,
  type ImageOptions,
  type ImageSource,
  type RawImage,
  type TensorToImagesOptions,
} from '../preprocessing/images.js';
