// Files of a folder by their paths below it: what reads them need not know where they are.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

export interface Files {
  /** Paths with slashes, sorted. */
  names(): string[];
  read(name: string): Uint8Array;
}

export function filesIn(folder: string): Files {
  return {
    names: () =>
      readdirSync(folder, { recursive: true, encoding: 'utf8' })
        .filter((name) => statSync(join(folder, name)).isFile())
        .map((name) => name.replaceAll('\\', '/'))
        .sort(),
    read: (name) => readFileSync(join(folder, name)),
  };
}

/** The cases that nobody here wrote; where a compiled copy of this runs, it is told where they are. */
export const vectorsRoot = join(__dirname, '..', 'vectors');
export const vectors = filesIn(vectorsRoot);
