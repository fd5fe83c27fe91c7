// Every way the same numbers are computed in: needs no jest, and takes the package it is to use.

import type * as Simdnorm from 'simdnorm';

/** f() under every supported instruction set and each of these numbers of threads. */
export function everyWayOf<T>(
  { isa, getNumThreads, setNumThreads }: Pick<typeof Simdnorm, 'isa' | 'getNumThreads' | 'setNumThreads'>,
  f: () => T,
  threads: readonly number[],
): { way: string; result: T }[] {
  const before = isa.active;
  const threadsBefore = getNumThreads();
  try {
    return isa.supported.flatMap((name) =>
      threads.map((n) => {
        isa.use(name);
        setNumThreads(n);
        return { way: `${name}, ${n} threads`, result: f() };
      }),
    );
  } finally {
    isa.use(before);
    setNumThreads(threadsBefore);
  }
}
