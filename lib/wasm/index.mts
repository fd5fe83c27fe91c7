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

import { Module, Tensor } from '../index.js';

// The bundler has renamed the classes that refer to themselves, which consoles and messages would show.
for (const [name, Class] of Object.entries({ Module, Tensor })) Object.defineProperty(Class, 'name', { value: name });
