// The golden suite: what must be the same wherever the package runs. Needs no jest, and is given what is in files.

import { expectEqual } from '../support/check';
import type { Files } from '../support/files';
import { everyWayOf } from '../support/ways';
import { casesOf, prepareCase } from '../support/run-case';
import { calls, type GoldenApi } from './calls';
import { digestOf } from './digest';

/** One test. */
export type Test = [name: string, run: () => void | Promise<void>];

/** Every case of test/vectors on every instruction set. */
export function vectorTests(api: GoldenApi, files: Files): Test[] {
  return casesOf(files).map((test) => [
    `${test.source}: ${test.name}`,
    () => void everyWayOf(api.simdnorm, prepareCase(api, files, test), [2]),
  ]);
}

/** The digests, by name of the call, are those of this machine. `quick` leaves out what is large. */
export function digestTests(api: GoldenApi, digests: Readonly<Record<string, string>>, quick = false): Test[] {
  const known: Test = [
    'there is a digest of each call',
    () =>
      expectEqual(
        'names',
        Object.keys(digests),
        calls.map(({ name }) => name),
      ),
  ];
  const some = calls.filter(({ large }) => !large || !quick);
  return [
    known,
    ...some.map((call): Test => [
      `bits: ${call.name}`,
      async () => expectEqual('digest', await digestOf(api, call), digests[call.name]),
    ]),
  ];
}

/** Runs them one after the other and tells of each failure; how many passed and failed. */
export async function runAll(
  tests: readonly Test[],
  tell: (line: string) => void,
): Promise<{ passed: number; failed: number }> {
  let failed = 0;
  for (const [name, run] of tests) {
    try {
      await run();
    } catch (error) {
      failed++;
      tell(`FAILED ${name}: ${(error as Error).stack ?? String(error)}`);
    }
  }
  return { passed: tests.length - failed, failed };
}
