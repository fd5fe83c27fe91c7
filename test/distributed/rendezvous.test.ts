import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { meet, type Where } from '../../lib/distributed/rendezvous';
import { GroupError } from '../../lib/distributed/process-group';
import { isProof, Line, proofOf, type Message } from '../../lib/distributed/rendezvous-line';
import { version } from '../../lib/internal/version';

const address = '127.0.0.1';

/** A port that nobody uses. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** An address of this machine that others may reach. */
const reachable = Object.values(networkInterfaces())
  .flat()
  .find((found) => found && !found.internal && found.family === 'IPv4')?.address;

const blobOf = (rank: number) => Uint8Array.of(rank, 255 - rank, 7);
const come = (where: Partial<Where> & { port: number; rank: number }) =>
  meet({ address, size: 2, token: 'secret', timeoutMs: 5000, ...where }, () => blobOf(where.rank));
const all = (where: Partial<Where> & { port: number }, size: number) =>
  Array.from({ length: size }, (_, rank) => come({ ...where, rank, size }));
/** How a promise ended, and after how many milliseconds. */
async function ending<T>(promise: Promise<T>): Promise<{ code?: string; message?: string; value?: T; ms: number }> {
  const begin = performance.now();
  try {
    const value = await promise;
    return { value, ms: performance.now() - begin };
  } catch (error) {
    const { code, message } = error as Error & { code: string };
    return { code, message, ms: performance.now() - begin };
  }
}
const open = (port: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port, host: address }, () => resolve(socket));
    socket.once('error', reject);
  });
/** A connection to a rendezvous that may not be there yet. */
async function reach(port: number): Promise<Socket> {
  for (;;) {
    try {
      const socket = await open(port);
      socket.on('error', () => undefined);
      return socket;
    } catch {
      await pause(10);
    }
  }
}
/** When the other side has closed it, which one that does not read never learns. */
const closing = (socket: Socket) =>
  new Promise<void>((resolve) => {
    if (socket.destroyed) return resolve();
    socket.resume().once('close', () => resolve());
  });
const listen = (port: number, greet: (socket: Socket) => void): Promise<Server> =>
  new Promise((resolve) => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      greet(socket);
    });
    server.listen(port, address, () => resolve(server));
  });
/** A rank that has proved itself, and says of itself what it likes. */
async function prove(port: number, token = 'secret'): Promise<Line> {
  const line = new Line(await reach(port), 1 << 20);
  const { challenge } = (await line.next()) as { challenge: string };
  const nonce = 'ab'.repeat(32);
  line.send({ nonce, proof: proofOf(token, 'client', challenge, nonce) });
  const { proof } = await line.next();
  expect(isProof(proof, proofOf(token, 'server', challenge, nonce))).toBe(true);
  return line;
}
const hello = (more: Message): Message => ({ rank: 1, size: 2, version, wire: 1, blob: 'AQ==', ...more });

describe('a meeting', () => {
  test.each([1, 2, 3, 8])('of %i ranks gives all blobs to all', async (size) => {
    const results = await Promise.all(all({ port: await freePort() }, size));
    for (const { host, blobs } of results) {
      expect(host).toBe(address);
      expect(blobs).toEqual(Array.from({ length: size }, (_, rank) => blobOf(rank)));
    }
  });

  test('does not depend on who comes first', async () => {
    const port = await freePort();
    const early = [come({ port, rank: 2, size: 3 }), come({ port, rank: 1, size: 3 })];
    await pause(200);
    const results = await Promise.all([...early, come({ port, rank: 0, size: 3 })]);
    for (const { blobs } of results) expect(blobs.map(([rank]) => rank)).toEqual([0, 1, 2]);
  });

  test('takes a host that is given, and asks for the blob once', async () => {
    const port = await freePort();
    const hosts: string[] = [];
    const where = { address, port, size: 2, token: '', timeoutMs: 5000, host: '10.1.2.3' };
    const bring = (host: string) => Uint8Array.of(hosts.push(host));
    await Promise.all([meet({ ...where, rank: 0 }, bring), meet({ ...where, rank: 1 }, bring)]);
    expect(hosts).toEqual(['10.1.2.3', '10.1.2.3']);
  });

  test('leaves its port to the next, at once and many times', async () => {
    const port = await freePort();
    for (let i = 0; i < 10; i++) await Promise.all(all({ port }, 3));
    const server = await listen(port, () => undefined);
    server.close();
  });

  test('waits for a port that is in use', async () => {
    const port = await freePort();
    const server = await listen(port, (socket) => socket.destroy());
    const meeting = Promise.all(all({ port }, 2));
    await pause(300);
    server.close();
    await meeting;
  });

  test('warns of nothing meanwhile', async () => {
    const port = await freePort();
    const server = await listen(port, (socket) => socket.destroy());
    const warnings: string[] = [];
    const note = ({ name }: Error) => void warnings.push(name);
    process.on('warning', note);
    const meeting = Promise.all(all({ port }, 2));
    await pause(900);
    server.close();
    await meeting;
    process.off('warning', note);
    expect(warnings).toEqual([]);
  });

  // A name of the own host is often a loopback address there, and a service's address is of no interface.
  test.each(['rank-0.example', '198.51.100.1'])('at %s: rank 0 listens at all addresses', async (elsewhere) => {
    const port = await freePort();
    const ranks = [come({ port, rank: 0, address: elsewhere }), come({ port, rank: 1 })];
    for (const { host, blobs } of await Promise.all(ranks)) {
      expect(host).toBe(address);
      expect(blobs).toHaveLength(2);
    }
  });

  test.each(['127.0.0.1', 'localhost'])('at %s: it listens nowhere else', async (local) => {
    if (!reachable) return;
    const port = await freePort();
    const zero = ending(come({ port, rank: 0, address: local, timeoutMs: 600 }));
    const { message } = await ending(come({ port, rank: 1, address: reachable, timeoutMs: 300 }));
    expect(message).toMatch(/ECONNREFUSED/);
    await zero;
  });

  (reachable ? test : test.skip)('with others elsewhere: ranks of its machine are where those reach it', async () => {
    const port = await freePort();
    const results = await Promise.all([
      come({ port, rank: 0, size: 3, address: 'rank-0.example' }),
      come({ port, rank: 1, size: 3 }),
      come({ port, rank: 2, size: 3, address: reachable! }),
    ]);
    expect(results.map(({ host }) => host)).toEqual([reachable, reachable, reachable]);
  });

  test('of several groups at several ports', async () => {
    const ports = await Promise.all([freePort(), freePort(), freePort()]);
    await Promise.all(ports.flatMap((port) => all({ port }, 2)));
  });
});

describe('who does not come', () => {
  test('is named on all ranks, and a survivor can be the next rank 0', async () => {
    const port = await freePort();
    const ended = await Promise.all([0, 1, 3].map((rank) => ending(come({ port, rank, size: 5, timeoutMs: 700 }))));
    for (const { code, message, ms } of ended) {
      expect(code).toBe('ERR_PEER_TIMEOUT');
      expect(message).toMatch(new RegExp(`${address}:${port}.* ranks 2, 4 of 5 did not come within 0.7 s`));
      expect(ms).toBeLessThan(2000);
    }
    await Promise.all(all({ port }, 3));
  });

  test('rank 0: the address and the seconds are named', async () => {
    const port = await freePort();
    const { code, message, ms } = await ending(come({ port, rank: 1, timeoutMs: 400 }));
    expect(code).toBe('ERR_RENDEZVOUS');
    expect(message).toMatch(new RegExp(`${address}:${port} within 0.4 s: .*ECONNREFUSED`));
    expect(ms).toBeLessThan(1500);
  });

  test('after all have met: who brings no blob is named', async () => {
    const port = await freePort();
    const zero = come({ port, rank: 0, timeoutMs: 700 });
    const line = await prove(port);
    line.send(hello({}));
    await expect(zero).rejects.toMatchObject({ code: 'ERR_PEER_TIMEOUT', ranks: [1], name: 'StateError' });
    await expect(zero).rejects.toBeInstanceOf(GroupError);
    line.drop(new Error('gone'));
  });

  test('a rank that goes before all are there may come again', async () => {
    const port = await freePort();
    const zero = come({ port, rank: 0, size: 3 });
    const line = await prove(port);
    line.send(hello({ size: 3 }));
    expect(await line.next()).toHaveProperty('welcome');
    line.drop(new Error('gone'));
    await pause(50);
    await Promise.all([zero, come({ port, rank: 1, size: 3 }), come({ port, rank: 2, size: 3 })]);
  });

  test('a rank that cannot bring a blob ends it for all', async () => {
    const port = await freePort();
    const where = { address, port, size: 2, token: '', timeoutMs: 5000 };
    const broken = () => {
      throw new Error('no socket here');
    };
    const ended = await Promise.all([
      ending(meet({ ...where, rank: 0 }, () => blobOf(0))),
      ending(meet({ ...where, rank: 1 }, broken)),
    ]);
    for (const { code, message, ms } of ended) {
      expect(code).toBe('ERR_RENDEZVOUS');
      expect(message).toMatch(/no socket here/);
      expect(ms).toBeLessThan(2000);
    }
  });
});

describe('who does not fit', () => {
  async function refusal(wrong: Message): Promise<{ zero: string; other: Message }> {
    const port = await freePort();
    const zero = ending(come({ port, rank: 0 }));
    const line = await prove(port);
    line.send(hello(wrong));
    const other = await line.next();
    const { code, message, ms } = await zero;
    expect(code).toBe('ERR_RENDEZVOUS');
    expect(ms).toBeLessThan(2000);
    return { zero: message!, other: other['failed'] as Message };
  }

  test.each([
    [{ size: 3 }, /rank 1 is of a group of 3, but rank 0 of one of 2/],
    [{ rank: 7 }, /there is no rank 7 of 2/],
    [{ rank: -1 }, /there is no rank -1 of 2/],
    [{ rank: 'x' }, /there is no rank NaN of 2/],
    [{ version: '9.9.9' }, /rank 1 has simdnorm 9\.9\.9 \(wire 1\), but rank 0 has \d+\.\d+\.\d+ \(wire 1\)/],
    [{ wire: 2 }, /\(wire 2\), but rank 0 has .*\(wire 1\)/],
    [{ rank: 0 }, /two processes say that they are rank 0 of 2/],
  ])('%j is refused, with both values on both sides', async (wrong, words) => {
    const { zero, other } = await refusal(wrong);
    expect(zero).toMatch(words);
    expect(other).toEqual({ code: 'ERR_RENDEZVOUS', message: zero });
  });

  test('the same rank twice', async () => {
    const port = await freePort();
    const ended = await Promise.all([0, 1, 1].map((rank) => ending(come({ port, rank, size: 3 }))));
    for (const { code, message, ms } of ended) {
      expect(code).toBe('ERR_RENDEZVOUS');
      expect(message).toMatch(/two processes say that they are rank 1 of 3/);
      expect(ms).toBeLessThan(2000);
    }
  });

  test('another size', async () => {
    const port = await freePort();
    const ended = await Promise.all([
      ending(come({ port, rank: 0, size: 2 })),
      ending(come({ port, rank: 1, size: 4 })),
    ]);
    for (const { message } of ended) expect(message).toMatch(/rank 1 is of a group of 4, but rank 0 of one of 2/);
  });
});

describe('the token', () => {
  test('another one is refused; the others go on, and are told of it when nobody else comes', async () => {
    const port = await freePort();
    const zero = ending(come({ port, rank: 0, timeoutMs: 1000 }));
    const { code, message, ms } = await ending(come({ port, rank: 1, token: 'other' }));
    expect(code).toBe('ERR_TOKEN');
    expect(message).toMatch(/SIMDNORM_TOKEN must be the same/);
    expect(ms).toBeLessThan(900);
    expect((await zero).message).toMatch(
      /rank 1 of 2 did not come .*a process at 127\.0\.0\.1 came with another token/,
    );
  });

  test('is not needed on one machine, but then on no rank of it', async () => {
    const port = await freePort();
    await Promise.all(all({ port, token: '' }, 2));
    const zero = ending(come({ port, rank: 0, token: '', timeoutMs: 500 }));
    expect((await ending(come({ port, rank: 1 }))).code).toBe('ERR_TOKEN');
    expect((await zero).code).toBe('ERR_PEER_TIMEOUT');
  });

  test.each(['192.0.2.1', ...(reachable ? [reachable] : [])])('is needed at %s', async (other) => {
    const port = await freePort();
    for (const rank of [0, 1]) {
      const { code, message } = await ending(come({ port, rank, address: other, token: '', timeoutMs: 1000 }));
      expect(code).toBe('ERR_TOKEN');
      expect(message).toMatch(/set SIMDNORM_TOKEN to the same secret on all machines/);
    }
  });

  test('does not cross the wire, in either direction', async () => {
    const port = await freePort();
    const between = await freePort();
    let heard = Buffer.alloc(0);
    const server = await listen(between, (socket) => {
      const onward = connect({ port, host: address });
      onward.on('error', () => socket.destroy());
      for (const [from, to] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        from.on('data', (chunk: Buffer) => (heard = Buffer.concat([heard, chunk])));
        from.pipe(to);
      }
    });
    const token = 'a secret of some length';
    await Promise.all([come({ port, rank: 0, token }), come({ port: between, rank: 1, token })]);
    server.close();
    expect(heard.length).toBeGreaterThan(300);
    expect(heard.includes(token)).toBe(false);
  });

  test('a false server gets a proof that is good for nothing else, and is not believed', async () => {
    const port = await freePort();
    let proof: unknown;
    const challenge = 'cd'.repeat(32);
    const server = await listen(port, (socket) => {
      const line = new Line(socket, 1 << 16);
      line.send({ challenge });
      void line.next().then(
        (message) => {
          proof = message['proof'];
          // What it was given, given back.
          line.send({ proof });
        },
        () => undefined,
      );
    });
    const { code } = await ending(come({ port, rank: 1, timeoutMs: 1000 }));
    expect(code).toBe('ERR_TOKEN');
    expect(typeof proof).toBe('string');
    server.close();
    // Nor does a server that is none accept it.
    const zero = ending(come({ port, rank: 0, timeoutMs: 500 }));
    const line = new Line(await reach(port), 1 << 16);
    await line.next();
    line.send({ nonce: 'ab'.repeat(32), proof });
    expect(await line.next()).toEqual({ refused: 'token' });
    await zero;
  });
});

describe('strangers', () => {
  const frame = (length: number, body: Buffer): Buffer => {
    const head = Buffer.from('SNRV0000');
    head.writeUInt32BE(length, 4);
    return Buffer.concat([head, body]);
  };
  const text = (message: Message): Buffer => {
    const body = Buffer.from(JSON.stringify(message));
    return frame(body.length, body);
  };
  const bytes = (n: number, value: number) => Buffer.alloc(n, value);
  const said: [string, Buffer][] = [
    ['nothing', bytes(0, 0)],
    ['half a frame', Buffer.from('SNRV\0')],
    ['a request of HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n')],
    ['megabytes', bytes(4 << 20, 7)],
    ['a frame of 4 GB', frame(0xffffffff, bytes(1000, 1))],
    ['a frame a little too long', frame(513, bytes(513, 32))],
    ['no JSON', frame(4, Buffer.from('{{{{'))],
    ['null', frame(4, Buffer.from('null'))],
    ['an array', frame(2, Buffer.from('[]'))],
    ['bytes that are no text', frame(8, bytes(8, 255))],
    ['an empty frame', frame(0, bytes(0, 0))],
    ['an object without a proof', frame(2, Buffer.from('{}'))],
    ['a proof of another kind', frame(24, Buffer.from('{"nonce":[],"proof":{} }'))],
    ['a nonce and a proof that are no text', text({ nonce: { toString: 1 }, proof: { toString: 1 } })],
    ['a proof of lists', text({ nonce: 'ab'.repeat(32), proof: [['ab'.repeat(32)]] })],
    ['a proof of a huge number', text({ nonce: 'ab'.repeat(32), proof: 1e308, length: 64 })],
    ['a thousand empty objects', Buffer.concat(Array.from({ length: 1000 }, () => frame(2, Buffer.from('{}'))))],
  ];

  test.each(said)('that say %s harm nobody', async (_, words) => {
    const port = await freePort();
    const zero = come({ port, rank: 0, size: 3 });
    const strangers = await Promise.all(Array.from({ length: 5 }, () => reach(port)));
    for (const socket of strangers) socket.write(words);
    const ranks = [zero, come({ port, rank: 1, size: 3 }), come({ port, rank: 2, size: 3 })];
    for (const { blobs } of await Promise.all(ranks)) expect(blobs).toHaveLength(3);
    await Promise.all(strangers.map(closing));
  });

  test('that come and go by the hundred, or stay', async () => {
    const port = await freePort();
    const zero = come({ port, rank: 0, timeoutMs: 15000 });
    const sockets: Socket[] = [];
    for (let i = 0; i < 300; i++) {
      const socket = await reach(port);
      if (i % 3 === 0) socket.resetAndDestroy();
      else sockets.push(socket);
    }
    // The oldest are dropped.
    await Promise.all(sockets.slice(0, 100).map(closing));
    const { blobs } = await come({ port, rank: 1 });
    expect(blobs).toHaveLength(2);
    await zero;
    await Promise.all(sockets.map(closing));
  });

  test('that are slow are dropped after seconds', async () => {
    const port = await freePort();
    const zero = ending(come({ port, rank: 0, timeoutMs: 7000 }));
    const socket = await reach(port);
    const begin = performance.now();
    const words = frame(400, bytes(400, 32));
    let i = 0;
    const drip = setInterval(() => socket.write(words.subarray(i, ++i)), 100);
    await closing(socket);
    clearInterval(drip);
    expect(performance.now() - begin).toBeLessThan(6500);
    await zero;
  });

  const strange: unknown[] = [{ toString: 1 }, { valueOf: {} }, 1e308, -0.5, [[[[]]]], [[1]], null, true, '\0'];

  test.each(['rank', 'size', 'version', 'wire', 'blob', 'gaveUp', 'why', '__proto__'])(
    'with a proof, and a %s of another kind',
    async (field) => {
      const attempt = async (value: unknown) => {
        const port = await freePort();
        const zero = ending(come({ port, rank: 0, timeoutMs: 4000 }));
        const line = await prove(port);
        line.send({ ...hello({}), [field]: value });
        line.send({ [field]: value });
        await Promise.race([pause(100), closing(line.socket)]);
        line.drop(new Error('gone'));
        await pause(20);
        // What a rank says may end the meeting, with words, and nothing else.
        await ending(come({ port, rank: 1, timeoutMs: 1000 }));
        const { code, message, value: met } = await zero;
        if (met) expect(met.blobs).toHaveLength(2);
        else
          expect([code, message]).toEqual([
            expect.stringMatching(/^ERR_(RENDEZVOUS|PEER_TIMEOUT)$/),
            expect.any(String),
          ]);
      };
      await Promise.all(strange.map(attempt));
    },
  );

  test.each(['bring', 'blobs', 'failed'])(
    'at the port of rank 0, with a proof, and a %s of another kind',
    async (field) => {
      const attempt = async (value: unknown) => {
        const port = await freePort();
        const server = await listen(port, (socket) => {
          const line = new Line(socket, 1 << 16);
          const challenge = 'cd'.repeat(32);
          const answer = ({ nonce }: Message) => {
            line.send({ proof: proofOf('secret', 'server', challenge, String(nonce)) });
            line.send({ [field]: value });
          };
          line.send({ challenge });
          void line.next().then(answer, () => undefined);
        });
        const { value: met, message, ms } = await ending(come({ port, rank: 1, timeoutMs: 300 }));
        expect(ms).toBeLessThan(2500);
        expect(met ? met.blobs : message).toEqual(met ? expect.any(Array) : expect.any(String));
        server.close();
      };
      await Promise.all([...strange, { code: { toString: 1 }, message: [] }, { code: 'A', ranks: [{}] }].map(attempt));
    },
  );

  test('with a proof, but with too much to say', async () => {
    const port = await freePort();
    const zero = come({ port, rank: 0 });
    const line = await prove(port);
    line.send(hello({ blob: 'A'.repeat(20000) }));
    await closing(line.socket);
    await Promise.all([zero, come({ port, rank: 1 })]);
  });

  test.each([
    ['says nothing', (_: Socket) => undefined],
    ['closes at once', (socket: Socket) => void socket.destroy()],
    ['sends garbage', (socket: Socket) => void socket.write(bytes(100000, 9))],
    ['speaks HTTP', (socket: Socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
  ])('at the port of rank 0: one that %s', async (_, greet) => {
    const port = await freePort();
    const sockets: Socket[] = [];
    const server = await listen(port, (socket) => {
      sockets.push(socket);
      greet(socket);
    });
    const { code, message, ms } = await ending(come({ port, rank: 1, timeoutMs: 600 }));
    expect(code).toBe('ERR_RENDEZVOUS');
    expect(message).toMatch(new RegExp(`nobody answers as rank 0 .*${address}:${port} within 0.6 s`));
    expect(ms).toBeLessThan(2000);
    for (const socket of sockets) socket.destroy();
    server.close();
  });
});
