// How the ranks of a new group find each other: rank 0 listens at a known address and port, all come there, and all get
// what each has brought (its card) once everybody is there.
//
// The port is open to whoever reaches it. Both sides prove that they know the token, over numbers that the other has
// thrown, so that it never crosses the wire; until then a connection has a few seconds and a few kilobytes.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { connect, createServer, isIP, type Server, type Socket } from 'node:net';
import { describe, StateError } from '../internal/errors';
import { GroupError } from './process-group';

export interface Meeting {
  address: string;
  port: number;
  rank: number;
  size: number;
  /** The secret of the group; may be '' on the machine's own address only. */
  token: string;
  timeoutMs: number;
  /** This machine's address for the others, if it is not the one it comes from. */
  host?: string;
}

const where = 'initProcessGroup';
const protocol = 'simdnorm rendezvous 1';
/** Of a stranger, and of a rank; what rank 0 sends has all cards in it. */
const most = { stranger: 1024, rank: 2 ** 20, server: 2 ** 30 };
const strangerMs = 5000;
const retryMs = 50;

interface Hello {
  protocol: string;
  nonce: string;
}
interface Claim {
  protocol: string;
  nonce: string;
  rank: number;
  size: number;
  proof: string;
}
interface Card {
  card: string;
}
type Answer = { proof: string } | { cards: string[] } | { code: string; message: string; ranks: number[] };

/**
 * The cards of all ranks, by rank. `cardFor` makes this one's, given the address at which the others reach this machine.
 *
 * @throws StateError: 'ERR_RENDEZVOUS' where nobody listens, or this rank is refused; 'ERR_TOKEN' for a token that is missing
 *   or is not the others'; GroupError 'ERR_PEER_TIMEOUT' with the ranks that did not come
 */
export async function meet(meeting: Meeting, cardFor: (host: string) => Uint8Array): Promise<Uint8Array[]> {
  const { address, rank, token, timeoutMs } = meeting;
  if (token === '' && !isLoopback(address)) {
    throw new StateError(
      'ERR_TOKEN',
      `${where}: ${address} can be reached by others; set SIMDNORM_TOKEN to the same secret on all machines`,
    );
  }
  const deadline = performance.now() + timeoutMs;
  const host = rank === 0 ? new Host(meeting, deadline) : null;
  try {
    await host?.listen();
    return await attend(meeting, deadline, cardFor);
  } finally {
    host?.close();
  }
}

const isLoopback = (address: string): boolean =>
  address === 'localhost' || address === '::1' || (isIP(address) === 4 && address.startsWith('127.'));

const proofOf = (token: string, who: string, ...said: (string | number)[]): string =>
  createHmac('sha256', token)
    .update([protocol, who, ...said].join('|'))
    .digest('hex');

function isProof(given: unknown, proof: string): boolean {
  const [a, b] = [Buffer.from(String(given)), Buffer.from(proof)];
  return a.length === b.length && timingSafeEqual(a, b);
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, retryMs));
const left = (deadline: number): number => Math.max(1, deadline - performance.now());

/** Frames on a socket: four bytes of length, then JSON. Ends with the socket, or when a frame is too long or no JSON. */
class Line {
  /** Bytes that a frame may have. */
  most: number;
  #received = Buffer.alloc(0);
  #end: (why: string) => void = () => {};
  onMessage: (message: unknown) => void = () => {};
  readonly ended: Promise<string>;

  constructor(
    readonly socket: Socket,
    bytes: number,
  ) {
    this.most = bytes;
    this.ended = new Promise((resolve) => (this.#end = resolve));
    socket.setNoDelay(true);
    socket.on('error', (error) => this.#end(error.message));
    socket.on('close', () => this.#end('it was closed'));
    socket.on('data', (data: Buffer) => this.#take(data));
  }

  #take(data: Buffer): void {
    this.#received = Buffer.concat([this.#received, data]);
    while (this.#received.length >= 4) {
      const length = this.#received.readUInt32BE(0);
      if (length > this.most) return this.drop();
      if (this.#received.length < 4 + length) return;
      const text = this.#received.subarray(4, 4 + length).toString();
      this.#received = this.#received.subarray(4 + length);
      let message: unknown;
      try {
        message = JSON.parse(text);
      } catch {
        return this.drop();
      }
      if (typeof message !== 'object' || message === null) return this.drop();
      this.onMessage(message);
    }
  }

  send(message: object): void {
    const text = Buffer.from(JSON.stringify(message));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(text.length);
    this.socket.write(Buffer.concat([length, text]));
  }
  /** Ends it when all is sent. */
  finish(message: object): void {
    this.send(message);
    this.socket.end();
  }
  drop(): void {
    this.socket.destroy();
  }
}

/** What rank 0 does for all, itself among them. */
class Host {
  readonly #server: Server;
  readonly #lines = new Set<Line>();
  readonly #here = new Map<number, { line: Line; card: string | null }>();
  readonly #timer: NodeJS.Timeout;
  #strangers = 0;
  /** Why the meeting has failed: whoever comes later hears it too. */
  #failure: { code: string; message: string; ranks: number[] } | null = null;

  constructor(
    private readonly meeting: Meeting,
    private readonly deadline: number,
  ) {
    this.#server = createServer((socket) => this.#welcome(socket));
    this.#server.maxConnections = 4 * meeting.size + 64;
    // A little before those who attend give up, so that they hear who is missing.
    this.#timer = setTimeout(
      () => this.#giveUp(),
      Math.max(1, meeting.timeoutMs - Math.min(200, meeting.timeoutMs / 10)),
    );
  }

  /** Until the port is free, which a group before may still have. */
  async listen(): Promise<void> {
    const { address, port, token } = this.meeting;
    let at: string | undefined = address;
    for (;;) {
      const error = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
        this.#server.once('error', resolve);
        this.#server.listen({ port, host: at }, () => {
          this.#server.off('error', resolve);
          resolve(null);
        });
      });
      if (!error) return;
      // The address of a service that leads here.
      if (error.code === 'EADDRNOTAVAIL' && at !== undefined && token !== '') at = undefined;
      else if (error.code !== 'EADDRINUSE' || performance.now() > this.deadline - retryMs) {
        const message = `${where}: rank 0 cannot listen at ${address}:${port}: ${error.message}`;
        throw new StateError('ERR_RENDEZVOUS', message);
      } else await pause();
    }
  }

  #welcome(socket: Socket): void {
    const line = new Line(socket, most.stranger);
    this.#lines.add(line);
    const nonce = randomBytes(32).toString('hex');
    const patience = setTimeout(() => line.drop(), strangerMs);
    let rank = -1;
    void line.ended.then(() => {
      clearTimeout(patience);
      this.#lines.delete(line);
      if (this.#here.get(rank)?.line === line) this.#here.delete(rank);
    });
    line.onMessage = (message) => {
      if (rank >= 0) return this.#take(rank, message as Card);
      rank = this.#admit(line, nonce, message as Claim);
      if (rank >= 0) clearTimeout(patience);
    };
    const hello: Hello = { protocol, nonce };
    line.send(hello);
  }

  /** The rank that somebody proved to be; -1 for whom it is refused. */
  #admit(line: Line, nonce: string, claim: Claim): number {
    const { rank, size } = claim;
    const refuse = (code: string, message: string): number => {
      line.finish({ code, message, ranks: [] });
      return -1;
    };
    const { token } = this.meeting;
    if (claim.protocol !== protocol) {
      return refuse(
        'ERR_RENDEZVOUS',
        `it speaks ${JSON.stringify(claim.protocol)}, rank 0 ${JSON.stringify(protocol)}`,
      );
    }
    if (!isProof(claim.proof, proofOf(token, 'rank', nonce, claim.nonce, rank, size))) {
      this.#strangers++;
      return refuse(
        'ERR_TOKEN',
        'its token is not that of rank 0: set SIMDNORM_TOKEN to the same secret on all machines',
      );
    }
    if (size !== this.meeting.size) {
      const message = `rank ${rank} is of ${size} ranks, rank 0 of ${this.meeting.size}`;
      this.#fail('ERR_RENDEZVOUS', message, []);
      return refuse('ERR_RENDEZVOUS', message);
    }
    if (this.#failure) return refuse(this.#failure.code, this.#failure.message);
    if (this.#here.has(rank)) return refuse('ERR_RENDEZVOUS', `there are two of rank ${rank}`);
    this.#here.set(rank, { line, card: null });
    line.most = most.rank;
    line.send({ proof: proofOf(token, 'host', claim.nonce, nonce) });
    return rank;
  }

  #take(rank: number, { card }: Card): void {
    const here = this.#here.get(rank);
    if (!here || typeof card !== 'string') return here?.line.drop();
    here.card = card;
    const cards = [...this.#here].sort(([a], [b]) => a - b).map(([, { card: own }]) => own);
    if (cards.length < this.meeting.size || cards.includes(null)) return;
    for (const { line } of this.#here.values()) line.finish({ cards });
  }

  #giveUp(): void {
    const ranks = Array.from({ length: this.meeting.size }, (_, r) => r).filter((r) => !this.#here.get(r)?.card);
    if (ranks.length === 0) return;
    const refused = this.#strangers > 0 ? ` (${this.#strangers} connections with another token were refused)` : '';
    const seconds = (this.meeting.timeoutMs / 1000).toFixed(1);
    const named = `rank${ranks.length > 1 ? 's' : ''} ${ranks.join(', ')}`;
    this.#fail('ERR_PEER_TIMEOUT', `${named} did not come within ${seconds} s${refused}`, ranks);
  }

  /** To all who are here. */
  #fail(code: string, message: string, ranks: number[]): void {
    this.#failure = { code, message, ranks };
    for (const { line } of this.#here.values()) line.finish(this.#failure);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#server.close();
    // Those whom all is sent to end by themselves.
    for (const line of this.#lines) if (!line.socket.writableEnded) line.drop();
  }
}

/** What every rank does. Where nobody listens yet, or a listener ends before its time, it comes again. */
async function attend(
  meeting: Meeting,
  deadline: number,
  cardFor: (host: string) => Uint8Array,
): Promise<Uint8Array[]> {
  const { address, port, rank, timeoutMs } = meeting;
  for (let why = ''; ;) {
    const answer = await converse(meeting, deadline, cardFor);
    if (Array.isArray(answer)) return answer;
    why = answer;
    if (performance.now() < deadline - retryMs) await pause();
    else {
      throw new StateError(
        'ERR_RENDEZVOUS',
        `${where}: rank ${rank} met nobody at ${address}:${port} within ${(timeoutMs / 1000).toFixed(1)} s (${why})`,
      );
    }
  }
}

/** The cards; or why there was no conversation. */
async function converse(
  { address, port, rank, size, token, host }: Meeting,
  deadline: number,
  cardFor: (host: string) => Uint8Array,
): Promise<Uint8Array[] | string> {
  const line = new Line(connect({ port, host: address }), most.stranger);
  const timer = setTimeout(() => line.drop(), left(deadline));
  const nonce = randomBytes(32).toString('hex');
  try {
    return await new Promise<Uint8Array[] | string>((resolve, reject) => {
      const refuse = (code: string, message: string, ranks: number[] = []): void => {
        const full = `${where}: rank ${rank} of ${size} at ${address}:${port}: ${message}`;
        const isLate = code === 'ERR_PEER_TIMEOUT';
        const error = isLate ? new GroupError(code, full, ranks, where, 0) : new StateError(code, full);
        reject(error);
      };
      let theirs: string | null = null;
      let isProven = false;
      line.onMessage = (message) => {
        if (theirs === null) {
          const hello = message as Hello;
          if (hello.protocol !== protocol) {
            return refuse('ERR_RENDEZVOUS', `it speaks ${describe(hello.protocol)}, this rank ${describe(protocol)}`);
          }
          theirs = String(hello.nonce);
          const proof = proofOf(token, 'rank', theirs, nonce, rank, size);
          const claim: Claim = { protocol, nonce, rank, size, proof };
          return line.send(claim);
        }
        const answer = message as Answer;
        if ('code' in answer) return refuse(answer.code, answer.message, answer.ranks);
        if ('proof' in answer) {
          if (!isProof(answer.proof, proofOf(token, 'host', nonce, theirs))) {
            return refuse('ERR_TOKEN', 'who listens there does not know the token');
          }
          isProven = true;
          line.most = most.server;
          let card: Card;
          try {
            card = { card: Buffer.from(cardFor(host ?? line.socket.localAddress!)).toString('base64') };
          } catch (error) {
            return reject(error as Error);
          }
          return line.send(card);
        }
        if (isProven) resolve(answer.cards.map((card) => Buffer.from(card, 'base64')));
        else line.drop();
      };
      void line.ended.then(resolve);
    });
  } finally {
    clearTimeout(timer);
    line.socket.end();
  }
}
