// Messages over a socket to whom nobody is known yet: framed, small, and a connection that does not keep to that is
// dropped. Both sides prove that they know a secret, which is never sent.

import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Socket } from 'node:net';

export type Message = { readonly [key: string]: unknown };

const magic = Buffer.from('SNRV');
const headBytes = 8;
/** More would be a peer that talks on without being asked. */
const mostWaiting = 64;

export class Line {
  /** Bytes of a message that is accepted. */
  cap: number;
  #bytes = Buffer.alloc(0);
  readonly #waiting: Message[] = [];
  #wanted: { resolve: (message: Message) => void; reject: (why: Error) => void } | undefined;
  #ended: Error | undefined;

  constructor(
    readonly socket: Socket,
    cap: number,
  ) {
    this.cap = cap;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', (error) => this.drop(error));
    socket.on('close', () => this.drop(new Error('the connection was closed')));
  }

  /** The next message, or what ended the connection. */
  next(): Promise<Message> {
    const message = this.#waiting.shift();
    if (message) return Promise.resolve(message);
    if (this.#ended) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => (this.#wanted = { resolve, reject }));
  }

  send(message: Message): void {
    if (this.#ended) return;
    const body = Buffer.from(JSON.stringify(message));
    const head = Buffer.alloc(headBytes);
    magic.copy(head);
    head.writeUInt32BE(body.length, magic.length);
    this.socket.write(Buffer.concat([head, body]));
  }

  /** Sends nothing after what was sent; resolves when that has left, or cannot. */
  end(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#ended || this.socket.destroyed) return resolve();
      this.socket.once('close', () => resolve());
      this.socket.end(() => resolve());
    });
  }

  drop(why: Error): void {
    this.socket.destroy();
    if (this.#ended) return;
    this.#ended = why;
    this.#bytes = Buffer.alloc(0);
    this.#wanted?.reject(why);
    this.#wanted = undefined;
  }

  #take(chunk: Buffer): void {
    if (this.#ended) return;
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (this.#bytes.length > 0) {
      const known = Math.min(magic.length, this.#bytes.length);
      if (this.#bytes.compare(magic, 0, known, 0, known) !== 0) return this.drop(new Error('it sent something else'));
      if (this.#bytes.length < headBytes) return;
      const length = this.#bytes.readUInt32BE(magic.length);
      if (length > this.cap) return this.drop(new Error(`it sent a message of ${length} bytes`));
      if (this.#bytes.length < headBytes + length) return;
      const message = parse(this.#bytes.subarray(headBytes, headBytes + length));
      this.#bytes = this.#bytes.subarray(headBytes + length);
      if (!message) return this.drop(new Error('it sent something else'));
      this.#give(message);
      if (this.#ended) return;
    }
  }

  #give(message: Message): void {
    if (this.#wanted) {
      this.#wanted.resolve(message);
      this.#wanted = undefined;
    } else if (this.#waiting.push(message) > mostWaiting) {
      this.drop(new Error('it sent too much'));
    }
  }
}

function parse(bytes: Buffer): Message | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString());
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Message) : undefined;
  } catch {
    return undefined;
  }
}

/** What only a holder of `token` can say to these two nonces, as the one or the other side. */
export function proofOf(token: string, side: 'server' | 'client', server: string, client: string): string {
  return createHmac('sha256', token).update(`simdnorm rendezvous ${side} ${server} ${client}`).digest('hex');
}

export function isProof(given: unknown, wanted: string): boolean {
  if (typeof given !== 'string' || given.length !== wanted.length) return false;
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}
