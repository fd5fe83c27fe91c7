import { StateError } from '../../internal/errors';

/** An optional package, or an error that says how to get it. */
export async function peer<T>(load: () => Promise<T>, name: string, purpose: string): Promise<T> {
  try {
    return await load();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const missing = (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND') && message.includes(`'${name}'`);
    if (!missing) throw error;
    throw new StateError('ERR_MISSING_PACKAGE', `${purpose} needs the package ${name}: npm install ${name}`);
  }
}
