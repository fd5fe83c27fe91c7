import { imagesToTensor } from '../images';
import type { Open } from '.';
import { peer } from './peer';
import { dataError } from './table';

/** Red, green and blue of an image in sRGB, in [0, 1]. */
export const openImage: Open = async (path) => {
  const { default: sharp } = await peer(() => import('sharp'), 'sharp', `reading ${path}`);
  async function* read() {
    const image = await sharp(path)
      .toColourspace('srgb')
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true })
      .catch((error: Error) => {
        throw dataError(path, error.message);
      });
    const { channels } = image.info;
    const names = channels === 3 ? ['red', 'green', 'blue'] : null;
    yield { data: imagesToTensor(image), axis: 0, names };
  }
  return { parts: 1, read };
};
