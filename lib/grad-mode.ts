// Whether forward keeps what backward needs.

let depth = 0;

/** True outside of every `noGrad`. */
export function isGradEnabled(): boolean {
  return depth === 0;
}

/**
 * Runs `f` with gradients off: forward keeps nothing for backward, and may work in place.
 *
 * `eval()` alone does not turn gradients off, as in torch.
 *
 * @throws TypeError where `f` is no function, or returns a promise: what it awaits would run with gradients on again.
 *   Use `noGrad` inside the asynchronous function.
 * @see torch.no_grad
 * @example
 * const y = noGrad(() => layer.forward(x));
 */
export function noGrad<T>(f: () => T): T {
  if (typeof f !== 'function') throw new TypeError('noGrad: expected a function');
  depth++;
  try {
    const result = f();
    const then = (result as { then?: unknown } | null | undefined)?.then;
    if (typeof then === 'function') {
      // Refused below; a rejection of it must not end the process as well.
      then.call(result, undefined, () => {});
      throw new TypeError(
        'noGrad: the function returned a promise, and what it awaits would run with gradients on; ' +
          'call noGrad inside the asynchronous function',
      );
    }
    return result;
  } finally {
    depth--;
  }
}
