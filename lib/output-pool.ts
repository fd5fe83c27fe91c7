// Memory that outputs use again. A block changes hands by ArrayBuffer's own transfer: whoever gives it back loses it at
// that moment, with every view of it, and V8 owns and counts it all the time. So whatever a program keeps, no memory has
// two users, nothing here can leak or dangle, and it works where external buffers are not allowed.

import { addon } from './internal/addon';
import { checkOptions, checkSize } from './internal/errors';
import { allocateOutput, detach } from './internal/memory';
import { giveBack, kindOfDtype, lenders, type DType, type TensorData } from './tensor';

export interface OutputPoolOptions {
  /** The most that the pool holds, lent and idle together, in bytes; default 2^30. Past it, outputs are plain arrays. */
  maxBytes?: number | undefined;
}

interface Block {
  buffer: ArrayBuffer;
  /** Where its first cache line begins. */
  offset: number;
}

const line = 64;

/** Similar sizes share blocks: up to the next multiple of an eighth of the power of two below, and of a cache line. */
function sizeOfBlock(bytes: number): number {
  const step = Math.max(line, 2 ** (Math.floor(Math.log2(bytes)) - 3));
  return Math.ceil(bytes / step) * step;
}

/**
 * Lends memory to outputs, and takes it back for later ones: `forward(x, { out: pool })`.
 *
 * A new large array costs several times the call that fills it, because the system has to map its pages; V8 frees an old
 * one only with a garbage collection. `y.dispose()` gives the memory back at once, which costs a microsecond. From that
 * moment y and all views of its memory have length 0, and who still needs them gets an error: a backward whose input was
 * y, for one. What is never disposed is collected like any array.
 *
 * From some 16 KiB on; an output of 4 KiB is made anew in less time than it is lent and taken back.
 *
 * Do not dispose what an asynchronous call, such as fs.write, still reads.
 *
 * *Options*: `maxBytes` (2^30), of lent and idle blocks together; sizes are rounded up by at most an eighth.
 *
 * *Throws* TypeError, RangeError for a maxBytes that is not a whole number.
 *
 * *Matches* nothing in torch, whose allocator always does this.
 *
 * @example
 * const pool = new OutputPool({ maxBytes: 256 * 2 ** 20 });
 * for (const x of batches) {
 *   const y = layer.forward(x, { out: pool });
 *   use(y);
 *   y.dispose(); // or `using y = ...`
 * }
 */
export class OutputPool {
  readonly maxBytes: number;
  /** By size, the least recently used size first. */
  readonly #blocks = new Map<number, Block[]>();
  #lent = 0;
  #idle = 0;
  /** What the call that is running has been lent. */
  #latest: ArrayBuffer | null = null;
  // Only for the count: the memory of what is never disposed, V8 frees by itself.
  readonly #lost = new FinalizationRegistry<{ bytes: number }>(({ bytes }) => (this.#lent -= bytes));

  constructor(options: OutputPoolOptions = {}) {
    checkOptions('OutputPool', options, ['maxBytes']);
    this.maxBytes = checkSize('OutputPool', 'maxBytes', options.maxBytes ?? 2 ** 30);
  }

  /** In outputs that were neither disposed nor collected. */
  get lentBytes(): number {
    return this.#lent;
  }
  /** In blocks that wait for an output. */
  get idleBytes(): number {
    return this.#idle;
  }

  /** Lets go of the idle blocks; the next garbage collection frees them. */
  clear(): void {
    this.#blocks.clear();
    this.#idle = 0;
  }

  /** @internal */
  lend(dtype: DType, length: number, where: string): TensorData {
    const Kind = kindOfDtype[dtype];
    const bytes = length === 0 ? 0 : sizeOfBlock(length * Kind.BYTES_PER_ELEMENT);
    if (bytes === 0 || this.#lent + bytes > this.maxBytes) {
      const plain = allocateOutput(dtype, length, where);
      lenders.set(plain.buffer, detach);
      return plain;
    }
    const { buffer, offset } = this.#take(bytes) ?? this.#make(bytes, where);
    const loan = { bytes };
    this.#lent += bytes;
    this.#lost.register(buffer, loan, loan);
    lenders.set(buffer, () => {
      this.#lost.unregister(loan);
      this.#lent -= bytes;
      const back = detach(buffer);
      if (back) this.#keep(bytes, { buffer: back, offset });
    });
    this.#latest = buffer;
    return new Kind(buffer, offset, length);
  }

  /**
   * Makes a call, and takes back what it has been lent should it throw.
   * @internal
   */
  attempt<T>(call: () => T): T {
    try {
      return call();
    } catch (error) {
      if (this.#latest) giveBack(this.#latest);
      throw error;
    } finally {
      this.#latest = null;
    }
  }

  #take(bytes: number): Block | undefined {
    const block = this.#blocks.get(bytes)?.pop();
    if (block) this.#idle -= bytes;
    return block;
  }

  #keep(bytes: number, block: Block): void {
    const blocks = this.#blocks.get(bytes) ?? [];
    blocks.push(block);
    this.#blocks.delete(bytes);
    this.#blocks.set(bytes, blocks);
    this.#idle += bytes;
  }

  #make(bytes: number, where: string): Block {
    for (const [size, blocks] of this.#blocks) {
      while (blocks.length > 0 && this.#lent + this.#idle + bytes > this.maxBytes) {
        blocks.pop();
        this.#idle -= size;
      }
      if (blocks.length > 0) break;
      this.#blocks.delete(size);
    }
    const buffer = allocateOutput('uint8', bytes + line, where).buffer as ArrayBuffer;
    return { buffer, offset: addon.bytesToCacheLine(buffer) };
  }
}

/**
 * Makes a call whose output goes to `out`: should it throw, a pool has its memory back.
 * @internal
 */
export function lending<T>(out: unknown, call: () => T): T {
  return out instanceof OutputPool ? out.attempt(call) : call();
}
