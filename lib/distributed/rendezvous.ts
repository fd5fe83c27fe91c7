// How the ranks of a group find each other: rank 0 listens at an address that all know, each rank brings a blob, and
// all get all of them.
//
// The port is open to strangers: who does not prove in a few seconds and bytes to know the token is dropped, and harms
// nobody. Rank 0 is a rank like the others to the server that it runs.

import { randomBytes } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { connect, createServer, isIP, type Server, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { StateError } from '../internal/errors';
import { version } from '../internal/version';
import { GroupError } from './process-group';
import { isProof, Line, proofOf, type Message } from './rendezvous-line';

export interface Where {
  address: string;
  port: number;
  rank: number;
  size: number;
  /** The same on all ranks; '' where all are on this machine. */
  token: string;
  timeoutMs: number;
  /** At which the others reach this rank, if it is not the one that reaches rank 0. */
  host?: string;
}

const caller = 'initProcessGroup';
/** Of the messages here, and of what engines put into blobs. */
const wireVersion = 1;
const nonceBytes = 32;
/** Until a rank has proved itself, and until the server knows it. */
const proofCap = 512;
const helloCap = 16384;
const greetingMs = 5000;
const mostStrangers = 64;
const retryMs = 50;
/** A port that is taken, by the group before this one, say; a name that is not known yet. */
const passing = ['EADDRINUSE', 'ENOTFOUND', 'EAI_AGAIN'];
/** What the last words to others may take, and the last of rank 0. */
const farewellMs = 1000;
const verdictMs = 500;

const seconds = (ms: number): string => `${ms / 1000} s`;
const places = ({ address, port }: Where): string => (address.includes(':') ? `[${address}]` : address) + `:${port}`;
const named = (ranks: readonly number[]): string => `${ranks.length === 1 ? 'rank' : 'ranks'} ${ranks.join(', ')}`;
const reason = (error: unknown): string => (error instanceof Error ? error.message : String(error));
const isNonce = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
const now = (): number => performance.now();
const isLoopback = (address: string): boolean => /^(::ffff:)?127\.|^::1$/.test(address);
const plain = (address: string): string => address.replace(/^::ffff:/, '');
/** As a failure crosses the wire. */
const told = ({ code, message, ...more }: StateError): Message => ({
  failed: { code, message, ranks: (more as Partial<GroupError>).ranks },
});

interface Member {
  line: Line;
  isAsked: boolean;
  blob: string | undefined;
}

function serve(at: { host?: string; port: number }, greet: (socket: Socket) => void): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer(greet);
    server.once('error', reject);
    server.listen({ ...at, exclusive: true }, () => {
      // Without descriptors, say, a connection is not accepted: others may be.
      server.off('error', reject).on('error', () => undefined);
      resolve(server);
    });
  });
}

/** The server of rank 0. */
class Meeting {
  readonly #where: Where;
  #server: Server | undefined;
  readonly #lines = new Set<Line>();
  /** Oldest first. */
  readonly #strangers = new Set<Line>();
  readonly #members = new Map<number, Member>();
  #failure: StateError | undefined;
  #isComplete = false;
  /** Where one came from that did not know the token. */
  #refused: string | undefined;

  constructor(where: Where) {
    this.#where = where;
  }

  /**
   * Resolves with the address at which rank 0 itself gets there. A name need not mean here what it means elsewhere: the
   * own host's is often a loopback address, and a service's is of no interface. Behind it rank 0 listens at all.
   */
  async listen(deadline: number): Promise<string> {
    const { address, port, token } = this.#where;
    let isOpen = token !== '' && isIP(address) === 0 && address.toLowerCase() !== 'localhost';
    for (;;) {
      try {
        this.#server = await serve(isOpen ? { port } : { host: address, port }, (socket) => void this.#greet(socket));
        return isOpen ? '127.0.0.1' : address;
      } catch (error) {
        const { code = '' } = error as NodeJS.ErrnoException;
        if (code === 'EADDRNOTAVAIL' && token !== '' && !isOpen) {
          isOpen = true;
        } else if (passing.includes(code) && now() + retryMs <= deadline) {
          await pause(retryMs);
        } else {
          throw this.#error(`rank 0 cannot listen there: ${reason(error)}`);
        }
      }
    }
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server!.close(resolve));
    for (const line of this.#strangers) line.drop(new Error('the rendezvous is over'));
    const said = Promise.all([...this.#lines].map((line) => line.end()));
    await Promise.race([said, pause(farewellMs, undefined, { ref: false })]);
    for (const line of this.#lines) line.drop(new Error('the rendezvous is over'));
    await closed;
  }

  async #greet(socket: Socket): Promise<void> {
    const line = new Line(socket, proofCap);
    this.#lines.add(line);
    this.#strangers.add(line);
    const [oldest] = this.#strangers;
    if (this.#strangers.size > mostStrangers) {
      this.#strangers.delete(oldest!);
      oldest!.drop(new Error('too many connections'));
    }
    const late = setTimeout(() => line.drop(new Error('it did not say who it is')), greetingMs);
    socket.once('close', () => {
      clearTimeout(late);
      this.#lines.delete(line);
      this.#strangers.delete(line);
    });
    try {
      const hello = await this.#hello(line);
      clearTimeout(late);
      this.#strangers.delete(line);
      await this.#attend(line, hello);
    } catch (error) {
      line.drop(error as Error);
    }
  }

  async #hello(line: Line): Promise<Message> {
    const challenge = randomBytes(nonceBytes).toString('hex');
    line.send({ challenge });
    const { nonce, proof } = await line.next();
    const { token } = this.#where;
    if (!isNonce(nonce) || !isProof(proof, proofOf(token, 'client', challenge, nonce))) {
      this.#refused = line.socket.remoteAddress;
      line.send({ refused: 'token' });
      await line.end();
      throw new Error('it does not know the token');
    }
    line.cap = helloCap;
    line.send({ proof: proofOf(token, 'server', challenge, nonce) });
    return line.next();
  }

  /** The whole conversation with a rank that is known to be one. */
  async #attend(line: Line, hello: Message): Promise<void> {
    const rank = Number(hello['rank']);
    const wrong = this.#failure ?? this.#misfit(hello, rank);
    if (wrong) {
      line.send(told(wrong));
      return this.#fail(wrong);
    }
    const member: Member = { line, isAsked: false, blob: undefined };
    this.#members.set(rank, member);
    // One that goes before all are there may come again.
    line.socket.once('close', () => {
      if (!this.#isComplete && this.#members.get(rank) === member) this.#members.delete(rank);
    });
    line.send({ welcome: true });
    this.#ask();
    for (;;) {
      const { blob, gaveUp, why } = await line.next();
      if (typeof why === 'string') return this.#fail(this.#error(`rank ${rank} cannot take part: ${why}`));
      if (typeof gaveUp === 'number') return this.#fail(this.#absence(gaveUp));
      if (typeof blob === 'string' && member.isAsked) {
        member.blob ??= blob;
        this.#deliver();
      }
    }
  }

  /**
   * Once all are there. Who came from this machine, by an address that means nothing on others, is to be reached where
   * those have reached rank 0.
   */
  #ask(): void {
    if (this.#members.size !== this.#where.size) return;
    const members = [...this.#members.values()];
    const here = members.map(({ line }) => line.socket.localAddress ?? '').find((at) => at !== '' && !isLoopback(at));
    for (const member of members) {
      if (member.isAsked) continue;
      member.isAsked = true;
      const isNear = isLoopback(member.line.socket.remoteAddress ?? '');
      member.line.send({ bring: isNear && here !== undefined ? plain(here) : '' });
    }
  }

  #deliver(): void {
    const blobs = Array.from({ length: this.#where.size }, (_, r) => this.#members.get(r)?.blob);
    if (this.#isComplete || blobs.includes(undefined)) return;
    this.#isComplete = true;
    for (const { line } of this.#members.values()) line.send({ blobs });
  }

  #error(why: string): StateError {
    return new StateError('ERR_RENDEZVOUS', `${caller}: the rendezvous at ${places(this.#where)}: ${why}`);
  }

  #absence(ms: number): StateError {
    const ranks = Array.from({ length: this.#where.size }, (_, r) => r);
    const away = ranks.filter((r) => !this.#members.has(r));
    // Where all have come, one may have stopped since.
    const absent = away.length > 0 ? away : ranks.filter((r) => this.#members.get(r)!.blob === undefined);
    const hint = this.#refused === undefined ? '' : `; a process at ${this.#refused} came with another token`;
    const why = `${named(absent)} of ${this.#where.size} did not come within ${seconds(ms)}${hint}`;
    return new GroupError('ERR_PEER_TIMEOUT', this.#error(why).message, absent, caller, ms / 1000);
  }

  #misfit(hello: Message, rank: number): StateError | undefined {
    const { size } = this.#where;
    const [theirs, ours] = [`${hello['version']} (wire ${hello['wire']})`, `${version} (wire ${wireVersion})`];
    if (theirs !== ours) return this.#error(`rank ${rank} has simdnorm ${theirs}, but rank 0 has ${ours}`);
    if (hello['size'] !== size) {
      return this.#error(`rank ${rank} is of a group of ${hello['size']}, but rank 0 of one of ${size}`);
    }
    if (!Number.isInteger(rank) || rank < 0 || rank >= size) return this.#error(`there is no rank ${rank} of ${size}`);
    if (!this.#members.has(rank)) return undefined;
    return this.#error(`two processes say that they are rank ${rank} of ${size}`);
  }

  #fail(failure: StateError): void {
    if (this.#isComplete) return;
    this.#failure ??= failure;
    for (const { line } of this.#members.values()) line.send(told(this.#failure));
  }
}

/** One rank's side. */
class Visit {
  readonly #where: Where;
  readonly #blobFor: (host: string) => Uint8Array;
  readonly #deadline: number;
  readonly #address: string;
  #brought: { host: string; blob: string } | undefined;

  constructor(where: Where, blobFor: (host: string) => Uint8Array, deadline: number, address = where.address) {
    this.#where = where;
    this.#address = address;
    this.#blobFor = blobFor;
    this.#deadline = deadline;
  }

  async run(): Promise<{ host: string; blobs: Uint8Array[] }> {
    let latest: unknown = new Error('no answer');
    while (now() < this.#deadline) {
      try {
        const blobs = await this.#attempt();
        return { host: this.#brought!.host, blobs };
      } catch (error) {
        if (error instanceof StateError) throw error;
        latest = error;
      }
      await pause(Math.max(0, Math.min(retryMs, this.#deadline - now())));
    }
    const { timeoutMs } = this.#where;
    const where = `nobody answers as rank 0 of the group at ${places(this.#where)}`;
    throw new StateError('ERR_RENDEZVOUS', `${caller}: ${where} within ${seconds(timeoutMs)}: ${reason(latest)}`);
  }

  /** A StateError is final; after another error it tries again. */
  async #attempt(): Promise<Uint8Array[]> {
    const socket = connect({ host: this.#address, port: this.#where.port });
    const line = new Line(socket, proofCap);
    const drop = (why: string) => () => line.drop(new Error(why));
    // A server that answers nothing may be a stranger at this port, or the connection is only half open.
    const silence = setTimeout(drop('it does not answer'), Math.min(greetingMs, this.#deadline - now()));
    const late = setTimeout(() => line.send({ gaveUp: this.#where.timeoutMs }), this.#deadline - now());
    const end = setTimeout(drop('it answers no more'), this.#deadline + verdictMs - now());
    try {
      await this.#introduce(line);
      return await this.#blobs(line, silence);
    } finally {
      for (const timer of [silence, late, end]) clearTimeout(timer);
      void line.end().then(drop('it is over'));
    }
  }

  async #introduce(line: Line): Promise<void> {
    const { token, rank, size } = this.#where;
    const { challenge } = await line.next();
    if (!isNonce(challenge)) throw new Error('it is no rendezvous');
    const nonce = randomBytes(nonceBytes).toString('hex');
    line.send({ nonce, proof: proofOf(token, 'client', challenge, nonce) });
    const { proof, refused } = await line.next();
    if (refused === 'token' || !isProof(proof, proofOf(token, 'server', challenge, nonce))) {
      const other = `the rendezvous at ${places(this.#where)} knows another token than this rank ${rank}`;
      throw new StateError('ERR_TOKEN', `${caller}: ${other}: SIMDNORM_TOKEN must be the same on all ranks`);
    }
    // Only now: the other side is rank 0.
    line.cap = proofCap + size * (helloCap + 3);
    line.send({ rank, size, version, wire: wireVersion });
  }

  async #blobs(line: Line, silence: NodeJS.Timeout): Promise<Uint8Array[]> {
    for (;;) {
      const { bring, blobs, failed } = await line.next();
      clearTimeout(silence);
      if (typeof failed === 'object' && failed !== null) throw this.#failure(failed as Message);
      if (typeof bring === 'string') this.#bring(line, bring);
      if (Array.isArray(blobs)) return blobs.map((blob) => new Uint8Array(Buffer.from(String(blob), 'base64')));
    }
  }

  #bring(line: Line, seen: string): void {
    const host = this.#where.host ?? (isIP(seen) !== 0 ? seen : plain(line.socket.localAddress ?? ''));
    try {
      this.#brought ??= { host, blob: Buffer.from(this.#blobFor(host)).toString('base64') };
    } catch (error) {
      line.send({ why: reason(error) });
      throw error instanceof StateError ? error : new StateError('ERR_RENDEZVOUS', `${caller}: ${reason(error)}`);
    }
    line.send({ blob: this.#brought.blob });
  }

  #failure({ code, message, ranks }: Message): StateError {
    if (!Array.isArray(ranks)) return new StateError(String(code), String(message));
    const waited = (this.#where.timeoutMs - (this.#deadline - now())) / 1000;
    return new GroupError(String(code), String(message), ranks.map(Number), caller, waited);
  }
}

/** Without a token only this machine is trusted. */
async function checkToken(where: Where, deadline: number): Promise<void> {
  if (where.token !== '') return;
  for (;;) {
    try {
      const found = await lookup(where.address, { all: true });
      if (found.every(({ address }) => isLoopback(address))) return;
      break;
    } catch (error) {
      if (now() + retryMs > deadline) {
        throw new StateError('ERR_RENDEZVOUS', `${caller}: no address of ${where.address}: ${reason(error)}`);
      }
      await pause(retryMs);
    }
  }
  throw new StateError(
    'ERR_TOKEN',
    `${caller}: ${places(where)} can be reached from other machines: set SIMDNORM_TOKEN to the same secret on all machines`,
  );
}

/**
 * Brings `blobFor(host)`, where host is this machine's address as the others see it, and resolves with the blobs of all
 * ranks. All ranks call it; rank 0 is at `address`. Afterwards the port is free again.
 */
export async function meet(
  where: Where,
  blobFor: (host: string) => Uint8Array,
): Promise<{ host: string; blobs: Uint8Array[] }> {
  const deadline = now() + where.timeoutMs;
  await checkToken(where, deadline);
  if (where.rank !== 0) return new Visit(where, blobFor, deadline).run();
  const meeting = new Meeting(where);
  const address = await meeting.listen(deadline);
  try {
    return await new Visit(where, blobFor, deadline, address).run();
  } finally {
    await meeting.close();
  }
}
