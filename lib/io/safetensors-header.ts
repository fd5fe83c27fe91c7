// The header of a safetensors file, text to checked entries. JSON.parse would hide duplicate keys, so the few shapes that
// the format has are read one by one, and nothing else is: no depth, no numbers but whole ones, no unknown fields.

import type { DType } from '../tensor';

export interface Entry {
  name: string;
  dtype: DType;
  shape: number[];
  /** In bytes from the end of the header. */
  begin: number;
  end: number;
}

export interface Header {
  entries: Entry[];
  metadata: Map<string, string>;
}

/** Says what is wrong with the file, by throwing. */
export type Refuse = (what: string) => never;

/** What the format's reference implementation takes as well. */
export const mostHeaderBytes = 100_000_000;
const mostDimensions = 64;

export const nameOfDtype: Readonly<Record<DType, string>> = {
  float64: 'F64',
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  int32: 'I32',
  int16: 'I16',
  int8: 'I8',
  uint8: 'U8',
};
const dtypeOfName = new Map(Object.entries(nameOfDtype).map(([dtype, name]) => [name, dtype as DType]));

export const bytesOfDtype: Readonly<Record<DType, number>> = {
  float64: 8,
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int16: 2,
  int8: 1,
  uint8: 1,
};

/** A name as a message can carry it. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}...` : text);
}

/** Length of the header by the first eight bytes of a file of `size` bytes. */
export function headerLength(first: Uint8Array, size: number, refuse: Refuse): number {
  if (first.length < 8) refuse(`it has ${size} bytes, and the length of the header alone takes 8`);
  const length = new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(mostHeaderBytes)) {
    refuse(`its header would have ${length} bytes, and ${mostHeaderBytes} are the most`);
  }
  if (length > BigInt(size - 8)) refuse(`its header would have ${length} bytes, and ${size - 8} follow its length`);
  return Number(length);
}

/** One character after the other; every mismatch says where it is and what was wanted. */
class Scanner {
  at = 0;
  constructor(
    readonly text: string,
    readonly refuse: Refuse,
  ) {}

  wanted(what: string): never {
    const found = this.at < this.text.length ? quote(this.text[this.at]!) : 'the end';
    return this.refuse(`its header has ${found} at character ${this.at}, where ${what} must be`);
  }

  /** Skips what JSON calls white space, and says which character is next. */
  peek(): string | undefined {
    for (; this.at < this.text.length; this.at++) {
      const c = this.text[this.at]!;
      if (c !== ' ' && c !== '\n' && c !== '\r' && c !== '\t') return c;
    }
    return undefined;
  }

  take(character: string): void {
    if (this.peek() !== character) this.wanted(quote(character));
    this.at++;
  }

  /** `item` between the brackets, as often as there are commas. */
  list(open: string, close: string, item: () => void): void {
    this.take(open);
    if (this.peek() !== close) {
      item();
      while (this.peek() === ',') {
        this.at++;
        item();
      }
    }
    this.take(close);
  }

  string(): string {
    this.take('"');
    const { text } = this;
    const from = this.at;
    let escaped = false;
    for (; text[this.at] !== '"'; this.at++) {
      if (this.at >= text.length || text[this.at]! < ' ') this.wanted('the rest of a string');
      if (text[this.at] === '\\') {
        escaped = true;
        this.at++;
      }
    }
    const raw = text.slice(from, this.at++);
    if (!escaped) return raw;
    let read: string;
    try {
      read = JSON.parse(`"${raw}"`) as string;
    } catch {
      return this.refuse(`its header has a string with a bad escape at character ${from}: ${quote(raw)}`);
    }
    if (loneSurrogate.test(read))
      this.refuse(`its header has half a surrogate pair in the string at character ${from}`);
    return read;
  }

  /** 0 to 2^53 - 1, in digits. */
  size(): number {
    const first = this.peek();
    const from = this.at;
    let value = 0;
    for (; this.at < this.text.length; this.at++) {
      const digit = this.text.charCodeAt(this.at) - 48;
      if (!(digit >= 0 && digit <= 9)) break;
      value = value * 10 + digit;
      if (value > Number.MAX_SAFE_INTEGER) this.refuse(`its header has a number beyond 2^53 at character ${from}`);
    }
    const digits = this.at - from;
    if (digits === 0 || (first === '0' && digits > 1)) {
      this.at = from;
      this.wanted('a whole number');
    }
    return value;
  }

  sizes(most: number, what: string): number[] {
    const found: number[] = [];
    this.list('[', ']', () => {
      if (found.length === most) this.refuse(`${what} has more than ${most} numbers`);
      found.push(this.size());
    });
    return found;
  }
}

export const loneSurrogate = /\p{Surrogate}/u;

function readMetadata(scanner: Scanner): Map<string, string> {
  const metadata = new Map<string, string>();
  scanner.list('{', '}', () => {
    const key = scanner.string();
    if (metadata.has(key)) scanner.refuse(`__metadata__ has ${quote(key)} twice`);
    scanner.take(':');
    metadata.set(key, scanner.string());
  });
  return metadata;
}

function readEntry(name: string, scanner: Scanner): Entry {
  const tensor = `tensor ${quote(name)}`;
  const refuse: Refuse = (what) => scanner.refuse(`${tensor} ${what}`);
  let dtypeName: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  scanner.list('{', '}', () => {
    const field = scanner.string();
    scanner.take(':');
    if (field === 'dtype' && dtypeName === undefined) dtypeName = scanner.string();
    else if (field === 'shape' && !shape) shape = scanner.sizes(mostDimensions, `the shape of ${tensor}`);
    else if (field === 'data_offsets' && !offsets) offsets = scanner.sizes(2, `data_offsets of ${tensor}`);
    else if (field === 'dtype' || field === 'shape' || field === 'data_offsets') refuse(`has ${field} twice`);
    else refuse(`has an unknown field ${quote(field)}; there are dtype, shape and data_offsets`);
  });
  if (dtypeName === undefined || !shape || !offsets) {
    return refuse(`has no ${dtypeName === undefined ? 'dtype' : shape ? 'data_offsets' : 'shape'}`);
  }
  const dtype = dtypeOfName.get(dtypeName);
  if (!dtype) return refuse(`has dtype ${quote(dtypeName)}; what is read are ${[...dtypeOfName.keys()].join(', ')}`);
  let bytes = bytesOfDtype[dtype];
  for (const size of shape) {
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) refuse(`has shape [${shape.join(', ')}], which is more than 2^53 bytes`);
  }
  if (offsets.length !== 2) refuse(`has data_offsets [${offsets.join(', ')}]; there must be two`);
  const [begin, end] = offsets as [number, number];
  if (end - begin !== bytes) {
    refuse(
      `has data_offsets [${begin}, ${end}], ${end - begin} bytes; shape [${shape.join(', ')}] of ${dtypeName} needs ${bytes}`,
    );
  }
  return { name, dtype, shape, begin, end };
}

/** That the tensors fill the data, in some order, without gap or overlap. */
function checkCover(entries: readonly Entry[], dataBytes: number, refuse: Refuse): void {
  const ordered = [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end);
  let end = 0;
  for (const entry of ordered) {
    if (entry.begin !== end) {
      const what = entry.begin < end ? 'overlaps the tensor before it' : 'leaves a gap before it';
      refuse(`tensor ${quote(entry.name)} begins at ${entry.begin}, not ${end}: it ${what}`);
    }
    end = entry.end;
  }
  if (end !== dataBytes) refuse(`its tensors have ${end} bytes, and ${dataBytes} follow the header`);
}

/** Everything a header says, once all of it is known to be true of a file with `dataBytes` bytes after it. */
export function readHeader(bytes: Uint8Array, dataBytes: number, refuse: Refuse): Header {
  if (bytes[0] !== 0x7b) refuse('its header does not begin with "{"');
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return refuse('its header is not UTF-8');
  }
  const scanner = new Scanner(text, refuse);
  const found = new Map<string, Entry>();
  let metadata: Map<string, string> | undefined;
  scanner.list('{', '}', () => {
    const name = scanner.string();
    scanner.take(':');
    if (found.has(name) || (name === '__metadata__' && metadata)) refuse(`its header has ${quote(name)} twice`);
    if (name === '__metadata__') metadata = readMetadata(scanner);
    else found.set(name, readEntry(name, scanner));
  });
  if (scanner.peek() !== undefined) scanner.wanted('the end');
  const entries = [...found.values()];
  checkCover(entries, dataBytes, refuse);
  return { entries, metadata: metadata ?? new Map<string, string>() };
}

/** The header's bytes with the length before them, padded with spaces so that the data begin at a multiple of 8. */
export function writeHeader({ entries, metadata }: Header): Uint8Array {
  const fields = entries.map(
    ({ name, dtype, shape, begin, end }) =>
      `${JSON.stringify(name)}:${JSON.stringify({ dtype: nameOfDtype[dtype], shape, data_offsets: [begin, end] })}`,
  );
  if (metadata.size > 0) {
    const pairs = [...metadata].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    fields.unshift(`"__metadata__":{${pairs.join(',')}}`);
  }
  const text = Buffer.from(`{${fields.join(',')}}`);
  const length = Math.ceil(text.length / 8) * 8;
  const bytes = new Uint8Array(8 + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(text, 8);
  return bytes;
}
