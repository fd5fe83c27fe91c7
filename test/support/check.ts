// The few expectations of what runs with and without jest.

const text = (value: unknown): string =>
  JSON.stringify(value, (_, v: unknown) => {
    if (typeof v === 'bigint') return `${v}n`;
    return typeof v === 'number' && (!Number.isFinite(v) || Object.is(v, -0))
      ? Object.is(v, -0)
        ? '-0'
        : String(v)
      : v;
  });

/** Of plain data. */
export function expectEqual(what: string, actual: unknown, expected: unknown): void {
  if (text(actual) !== text(expected)) throw new Error(`${what}: got ${text(actual)}, expected ${text(expected)}`);
}

/** Throws unless `run` does, with such a message; returns what it threw. */
export function expectThrow(what: string, run: () => unknown, message: RegExp): Error {
  let thrown: Error;
  try {
    run();
  } catch (error) {
    thrown = error as Error;
    if (message.test(thrown.message)) return thrown;
    throw new Error(`${what}: threw "${thrown.message}", expected ${message}`);
  }
  throw new Error(`${what}: did not throw, expected ${message}`);
}
