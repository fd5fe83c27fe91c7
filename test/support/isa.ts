// Every test that computes runs on every instruction set this machine supports, by being inside one of these.

import { getNumThreads, isa, setNumThreads } from '../../lib';
import { everyWayOf } from './ways';

/** `describe` once for each supported instruction set. */
export function onEveryIsa(name: string, body: (isaName: string) => void): void {
  describe.each([...isa.supported])(`${name} [%s]`, (isaName) => {
    const before = isa.active;
    beforeAll(() => isa.use(isaName));
    afterAll(() => isa.use(before));
    body(isaName);
  });
}

/** f() under every supported instruction set and each of these numbers of threads. */
export function everyWay<T>(f: () => T, threads: readonly number[] = [1, 2, 3, 7]): { way: string; result: T }[] {
  return everyWayOf({ isa, getNumThreads, setNumThreads }, f, threads);
}
