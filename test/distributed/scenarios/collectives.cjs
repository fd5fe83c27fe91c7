// What every collective does, checked on every rank: titles and functions. A value that is returned must be the same on all
// ranks.

const { createHash } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');

const kinds = [Float32Array, Float64Array, Int32Array, BigInt64Array, Uint8Array, Int8Array];
const lengths = [0, 1, 5, 1000];
// Of threads several slots, of Gloo above its limit for small buffers.
const large = 70_001;
const digest = (x) => createHash('sha256').update(Buffer.from(x.buffer)).digest('hex');

/** Small whole numbers that differ by rank and place: no operation of 4 ranks leaves the range of an Int8Array. */
const whole = (rank, i) => 1 + ((i + 3 * rank) % 3);
const vector = (Kind, length, f) => Kind.from({ length }, (_, i) => (Kind === BigInt64Array ? BigInt(f(i)) : f(i)));
const combine = {
  sum: (a, b) => a + b,
  prod: (a, b) => a * b,
  min: (a, b) => Math.min(a, b),
  max: (a, b) => Math.max(a, b),
};
const over = (size, op, i) =>
  Array.from({ length: size }, (_, rank) => whole(rank, i)).reduce(combine[op === 'avg' ? 'sum' : op]) /
  (op === 'avg' ? size : 1);
const isFloat = (Kind) => Kind === Float32Array || Kind === Float64Array;

const error = (f) => {
  try {
    f();
  } catch (e) {
    return e;
  }
  throw new Error('nothing was thrown');
};

module.exports = {
  'allReduce: every operation on every type and length': ({ group, rank, size, assert }) => {
    for (const Kind of kinds) {
      for (const op of ['sum', 'prod', 'min', 'max', ...(isFloat(Kind) ? ['avg'] : [])]) {
        for (const length of op === 'sum' ? [...lengths, large] : [0, 5]) {
          const x = vector(Kind, length, (i) => whole(rank, i));
          assert.equal(group.allReduce(x, { op }), x);
          const expected = vector(Kind, length, (i) => over(size, op, i));
          assert.deepEqual(x, expected, `${Kind.name} x ${length}, ${op}`);
        }
      }
    }
  },

  'allReduce of fractions: the same bits on all ranks, near the sum': ({ group, size, rank, assert }) => {
    const digests = [];
    for (const Kind of [Float32Array, Float64Array]) {
      for (const length of [3, 1536, large]) {
        const part = (r) => Kind.from({ length }, (_, i) => Math.sin(1 + i + 7 * r));
        const x = group.allReduce(part(rank));
        digests.push(digest(x));
        const parts = Array.from({ length: size }, (_, r) => part(r));
        const unit = Kind === Float32Array ? 2 ** -24 : 2 ** -53;
        x.forEach((v, i) => {
          const exact = parts.reduce((sum, p) => sum + p[i], 0);
          assert.ok(Math.abs(v - exact) <= 2 * size * size * unit, `${Kind.name}[${i}]: ${v}, not ${exact}`);
        });
      }
    }
    return digests;
  },

  'allReduce of BigInts beyond 2^53': ({ group, rank, size, assert }) => {
    const x = group.allReduce(BigInt64Array.of(2n ** 60n + BigInt(rank), -(2n ** 61n)), { op: 'max' });
    assert.deepEqual(x, BigInt64Array.of(2n ** 60n + BigInt(size - 1), -(2n ** 61n)));
    const sum = group.allReduce(BigInt64Array.of(2n ** 53n + 1n));
    assert.deepEqual(sum, BigInt64Array.of(BigInt(size) * (2n ** 53n + 1n)));
  },

  'allReduce of a part of an array leaves its neighbours alone': ({ group, size, assert }) => {
    const x = new Float64Array(6).fill(1);
    group.allReduce(x.subarray(2, 4));
    assert.deepEqual(x, Float64Array.of(1, 1, size, size, 1, 1));
    const shared = new Float32Array(new SharedArrayBuffer(12), 4, 2).fill(1);
    assert.equal(group.allReduce(shared), shared);
    assert.deepEqual([...shared], [size, size]);
  },

  'allGather: everything by rank': ({ group, rank, size, assert }) => {
    for (const Kind of kinds) {
      for (const length of [...lengths, large]) {
        const x = vector(Kind, length, (i) => whole(rank, i));
        const all = group.allGather(x);
        const expected = Array.from({ length: size }, (_, r) => vector(Kind, length, (i) => whole(r, i)));
        assert.deepEqual(all, expected, `${Kind.name} x ${length}`);
        assert.notEqual(all[rank], x);
      }
    }
  },

  'broadcast: from every root': ({ group, rank, size, assert }) => {
    for (let root = 0; root < size; root++) {
      for (const Kind of kinds) {
        for (const length of root === 0 ? [...lengths, large] : [5]) {
          const x = vector(Kind, length, (i) => whole(rank, i));
          assert.equal(group.broadcast(x, { root }), x);
          assert.deepEqual(
            x,
            vector(Kind, length, (i) => whole(root, i)),
            `${Kind.name} x ${length} of ${root}`,
          );
        }
      }
    }
    assert.deepEqual(group.broadcast(Int32Array.of(rank)), Int32Array.of(0));
  },

  'barrier: nobody leaves before the last has come': async ({ group, rank, size, assert }) => {
    for (const wait of [(g) => g.barrier(), (g) => g.barrierAsync()]) {
      group.barrier();
      const began = performance.now();
      if (rank === size - 1) await sleep(200);
      await wait(group);
      assert.ok(performance.now() - began > 150);
    }
  },

  'the asynchronous forms give the same': async ({ group, rank, size, assert }) => {
    for (const length of [0, 7, large]) {
      const x = Float64Array.from({ length }, (_, i) => Math.sin(i + rank));
      const [a, b] = [x.slice(), x.slice()];
      assert.equal(await group.allReduceAsync(a), a);
      assert.deepEqual(a, group.allReduce(b));
      assert.deepEqual(await group.allGatherAsync(x), group.allGather(x));
      const [c, d] = [x.slice(), x.slice()];
      assert.equal(await group.broadcastAsync(c, { root: size - 1 }), c);
      assert.deepEqual(c, group.broadcast(d, { root: size - 1 }));
    }
    const mean = await group.allReduceAsync(Float32Array.of(rank), { op: 'avg' });
    assert.deepEqual(mean, Float32Array.of((size - 1) / 2));
  },

  'many in flight end in their order, and read their data when they are called': async ({
    group,
    rank,
    size,
    assert,
  }) => {
    const ended = [];
    const calls = Array.from({ length: 20 }, (_, i) => {
      const x = Float64Array.of(i + rank);
      const call = group.allReduceAsync(x).then((sum) => {
        ended.push(i);
        return sum[0];
      });
      x[0] = NaN;
      return call;
    });
    const ranks = (size * (size - 1)) / 2;
    assert.deepEqual(
      await Promise.all(calls),
      calls.map((_, i) => size * i + ranks),
    );
    assert.deepEqual(
      ended,
      calls.map((_, i) => i),
    );
  },

  'a blocking call waits for those that were started before': async ({ group, rank, assert, size }) => {
    const first = group.allGatherAsync(Int32Array.of(rank));
    const second = group.allReduceAsync(new Float64Array(large).fill(1));
    assert.deepEqual(group.allReduce(Int32Array.of(1)), Int32Array.of(size));
    const [gathered, sum] = await Promise.all([first, second]);
    assert.deepEqual(gathered.map(([r]) => r), [...gathered.keys()]); // prettier-ignore
    assert.ok(sum.every((v) => v === size));
  },

  'blocking and asynchronous forms meet': async ({ group, rank, size, assert }) => {
    for (let i = 0; i < 6; i++) {
      const x = Float64Array.of(1);
      if ((rank + i) % 2 === 0) group.allReduce(x);
      else await group.allReduceAsync(x);
      assert.deepEqual(x, Float64Array.of(size));
    }
  },

  'the event loop goes on while an asynchronous call waits': async ({ group, rank, assert }) => {
    for (const wait of [() => group.barrierAsync(), () => group.allReduceAsync(new Float64Array(3))]) {
      group.barrier();
      let ticks = 0;
      const timer = setInterval(() => ticks++, 10);
      if (rank === 0) await sleep(500);
      ticks = 0;
      if (rank === 0) {
        clearInterval(timer);
        await wait();
        continue;
      }
      await wait();
      clearInterval(timer);
      assert.ok(ticks >= 15, `${ticks} ticks`);
    }
  },

  'a thousand calls in a row': ({ group, rank, size, assert }) => {
    // Fewer where more ranks spin than there are processors.
    for (let i = 0; i < 250; i++) {
      assert.deepEqual(group.allReduce(Float64Array.of(i + rank))[0], size * i + (size * (size - 1)) / 2);
      assert.equal(group.allGather(Int32Array.of(i)).length, size);
      assert.equal(group.broadcast(Int32Array.of(i + rank), { root: i % size })[0], i + (i % size));
      group.barrier();
    }
  },

  'newGroup: its own ranks and values; null for the others': async ({ group, rank, size, assert }) => {
    const halves = [
      [...Array(size).keys()].filter((r) => r % 2 === 0),
      [...Array(size).keys()].filter((r) => r % 2 === 1),
    ];
    const made = [group.newGroup([...halves[0]].reverse()), await group.newGroupAsync(halves[1])];
    assert.equal(made[1 - (rank % 2)], null);
    const mine = made[rank % 2];
    const ranks = halves[rank % 2];
    assert.deepEqual([mine.rank, mine.size, mine.engine], [ranks.indexOf(rank), ranks.length, group.engine]);
    assert.equal(mine.timeout, group.timeout);
    assert.equal(String(mine), `ProcessGroup(rank ${mine.rank} of ${mine.size}, ${group.engine})`);
    const total = ranks.reduce((sum, r) => sum + r, 0);
    for (let i = 0; i < 3; i++) {
      assert.equal(mine.allReduce(Int32Array.of(rank))[0], total);
      assert.equal((await mine.allReduceAsync(Int32Array.of(rank)))[0], total);
      assert.equal(group.allReduce(Int32Array.of(1))[0], size);
    }
    assert.deepEqual(mine.broadcast(Int32Array.of(rank), { root: mine.size - 1 })[0], ranks.at(-1));

    const alone = mine.newGroup([0]);
    if (mine.rank === 0) {
      assert.deepEqual([alone.rank, alone.size], [0, 1]);
      assert.deepEqual(alone.allGather(Int32Array.of(7)), [Int32Array.of(7)]);
      assert.deepEqual(await alone.allReduceAsync(Float64Array.of(7), { op: 'avg' }), Float64Array.of(7));
      alone.barrier();
      alone.close();
    } else assert.equal(alone, null);

    mine.close();
    assert.equal(mine.isClosed, true);
    assert.equal(group.allReduce(Int32Array.of(1))[0], size);
  },

  'close: of one group only; what waits and what comes later is told': async ({ group, distributed, rank, assert }) => {
    assert.equal(distributed.defaultGroup(), group);
    const other = group.newGroup([...Array(group.size).keys()]);
    if (rank === 0 && group.size > 1) {
      const waiting = other.allReduceAsync(Float64Array.of(1), { timeout: 15_000 }).then(
        () => assert.fail('it was closed'),
        (e) => e,
      );
      await sleep(100);
      const began = performance.now();
      other.close();
      other.close();
      const e = await waiting;
      assert.ok(performance.now() - began < 1000);
      assert.deepEqual([e.name, e.code, e.operation], ['StateError', 'ERR_GROUP_CLOSED', 'allReduce']);
      const later = error(() => other.barrier());
      assert.equal(later.code, 'ERR_GROUP_CLOSED');
      assert.match(later.message, /^ProcessGroup\.barrier: the group of rank 0 cannot be used: .*; make a new one$/);
      await assert.rejects(other.barrierAsync(), { code: 'ERR_GROUP_CLOSED' });
      await assert.rejects(distributed.initProcessGroup(), { code: 'ERR_BUSY' });
    }
    group.barrier();
    other.close();
    assert.equal(group.isClosed, false);
    assert.equal(group.allReduce(Int32Array.of(1))[0], group.size);
  },

  'averageGradients: of every dtype, of missing and frozen ones': async ({
    group,
    rank,
    size,
    distributed,
    simdnorm,
    assert,
  }) => {
    const { BatchNorm1d, LayerNorm, Sequential, tensor } = simdnorm;
    for (const average of [distributed.averageGradients, distributed.averageGradientsAsync]) {
      const layers = [new BatchNorm1d(3), new LayerNorm(3, { dtype: 'float64' }), new LayerNorm(2)];
      const net = new Sequential(...layers);
      const [a, b, c] = layers;
      a.weight.grad = tensor(Float32Array.of(rank, 1, 2 * rank), [3]);
      if (rank === 0) a.bias.grad = tensor(Float32Array.of(size, 0, -size), [3]);
      b.weight.grad = tensor(Float64Array.of(rank / 3, 0.1, 1), [3]);
      c.weight.requiresGrad = false;
      c.weight.grad = tensor(Float32Array.of(rank, rank), [2]);
      const held = a.weight.grad;
      assert.equal(await average(net, group), undefined);
      assert.equal(a.weight.grad, held);
      const mean = (size - 1) / 2;
      assert.deepEqual([...a.weight.grad.data], [mean, 1, 2 * mean]);
      assert.deepEqual([...a.bias.grad.data], [1, 0, -1]);
      assert.ok(Math.abs(b.weight.grad.data[0] - mean / 3) < 1e-15);
      assert.deepEqual([...b.bias.grad.data], [0, 0, 0]);
      assert.deepEqual([...c.weight.grad.data], [rank, rank]);
      assert.deepEqual([...c.bias.grad.data], [0, 0]);
    }
  },

  'broadcastState: parameters, statistics and counts of the root': async (context) => {
    const { group, rank, size, distributed, simdnorm, assert } = context;
    const { BatchNorm1d, LayerNorm, Sequential } = simdnorm;
    const root = size - 1;
    for (const broadcast of [distributed.broadcastState, distributed.broadcastStateAsync]) {
      const net = new Sequential(new BatchNorm1d(3), new LayerNorm(2, { dtype: 'float64' }));
      const fill = (of) => {
        for (const [name, t] of net.stateDict()) {
          if (!name.endsWith('tracked')) t.data.forEach((_, i) => (t.data[i] = of + i / 3));
        }
        net.at(0).numBatchesTracked = 10 * of;
      };
      fill(rank);
      const before = net.at(0).weight;
      assert.equal(await broadcast(net, group, { root }), undefined);
      const got = [...net.stateDict()].map(([name, t]) => [name, t.dtype, t.toArray()]);
      fill(root);
      assert.deepEqual(got, [...net.stateDict()].map(([name, t]) => [name, t.dtype, t.toArray()])); // prettier-ignore
      assert.equal(net.at(0).weight, before);
    }
  },

  'mergeOverRanks: what all have seen, of moments and scalers, also of ranks that saw nothing': async (context) => {
    const { group, rank, size, distributed, assert } = context;
    const { mergeOverRanks, mergeOverRanksAsync } = distributed;
    const { RunningMoments, StandardScaler } = require('../../../dist/preprocessing');
    const rows = (r) => (r === 1 ? 0 : 100 + 31 * r);
    const data = (r) => Float64Array.from({ length: 3 * rows(r) }, (_, i) => Math.sin(1 + i * (r + 1)) + r);
    const joined = new RunningMoments(3);
    for (let r = 0; r < size; r++) {
      if (rows(r) === 0) continue;
      const part = new RunningMoments(3);
      part.update({ data: data(r), shape: [rows(r), 3] });
      joined.merge(part);
    }
    const expected = JSON.stringify(joined);
    const seen = [];
    for (const merge of [mergeOverRanks, mergeOverRanksAsync]) {
      const moments = new RunningMoments(3);
      if (rows(rank)) moments.update({ data: data(rank), shape: [rows(rank), 3] });
      assert.equal(await merge(moments, group), moments);
      assert.equal(JSON.stringify(moments), expected);
      const scaler = new StandardScaler();
      if (rows(rank)) scaler.partialFit({ data: data(rank), shape: [rows(rank), 3] });
      assert.equal(await merge(scaler, group), scaler);
      assert.equal(JSON.stringify(scaler.seen), expected);
      seen.push(JSON.stringify(scaler.seen), [
        ...scaler.transform({ data: data(0), shape: [rows(0), 3] }).data.slice(0, 9),
      ]);
      const nothing = new StandardScaler();
      assert.equal(await merge(nothing, group), nothing);
    }
    return seen;
  },

  'mergeOverRanks: ranks of other features are refused on all, which keep what they had': (context) => {
    const { group, rank, distributed, assert } = context;
    const { RunningMoments } = require('../../../dist/preprocessing');
    const features = rank === 1 ? 2 : 3;
    const moments = new RunningMoments(features);
    moments.update({ data: new Float64Array(6).fill(rank), shape: [6 / features, features] });
    const before = JSON.stringify(moments);
    if (group.size > 1) assert.throws(() => distributed.mergeOverRanks(moments, group), RangeError);
    assert.equal(JSON.stringify(moments), before);
    group.barrier();
  },

  'arguments that are wrong are refused before anything is sent': async ({
    group,
    size,
    distributed,
    simdnorm,
    assert,
  }) => {
    const refuses = (f, kind, words) => {
      const e = error(f);
      assert.ok(e instanceof kind, `${e}`);
      assert.match(e.message, words);
    };
    const x = () => Float64Array.of(1);
    refuses(
      () => group.allReduce([1]),
      TypeError,
      /^ProcessGroup\.allReduce: data must be one of Float32Array, .* an array/,
    );
    refuses(() => group.allReduce(new Uint16Array(1)), TypeError, /data must be one of .* but got an? Uint16Array/);
    refuses(
      () => group.allReduce(x(), { op: 'mean' }),
      RangeError,
      /op must be one of 'sum', .*'avg', but got the string "mean"/,
    );
    refuses(() => group.allReduce(x(), { op: 1 }), TypeError, /op must be one of/);
    refuses(
      () => group.allReduce(Int32Array.of(1), { op: 'avg' }),
      TypeError,
      /'avg' is of floats, but got an Int32Array/,
    );
    refuses(() => group.allReduce(x(), { Timeout: 1 }), TypeError, /unknown option "Timeout"; did you mean "timeout"/);
    for (const timeout of [0, -1, 2 ** 31])
      refuses(() => group.barrier({ timeout }), RangeError, /^ProcessGroup\.barrier: timeout/);
    for (const timeout of [NaN, Infinity])
      refuses(() => group.barrier({ timeout }), RangeError, /timeout must be finite/);
    refuses(
      () => group.allGather(x(), { timeout: '1' }),
      TypeError,
      /^ProcessGroup\.allGather: timeout must be a number/,
    );
    refuses(
      () => group.broadcast(x(), { root: size }),
      RangeError,
      /^ProcessGroup\.broadcast: root must be a rank below \d, but got \d/,
    );
    refuses(() => group.broadcast(x(), { root: -1 }), RangeError, /root must be an integer of at least 0/);
    refuses(() => group.broadcast(x(), { root: '0' }), TypeError, /root must be an integer/);
    refuses(() => group.newGroup(0), TypeError, /^ProcessGroup\.newGroup: ranks must be an array, but got 0/);
    refuses(() => group.newGroup([]), RangeError, /ranks must not be empty/);
    refuses(() => group.newGroup([0, size]), RangeError, /ranks\[1\] must be a rank below/);
    refuses(() => group.newGroup([1, 0, 1]), RangeError, /ranks has 1 twice/);
    await assert.rejects(group.allReduceAsync([1]), TypeError);
    await assert.rejects(group.allGatherAsync(null), TypeError);
    await assert.rejects(group.broadcastAsync(x(), { root: 99 }), RangeError);
    await assert.rejects(group.barrierAsync({ timeout: -1 }), RangeError);
    await assert.rejects(group.newGroupAsync([]), RangeError);
    const { averageGradients, averageGradientsAsync, broadcastState, broadcastStateAsync, mergeOverRanks } =
      distributed;
    const net = new simdnorm.LayerNorm(2);
    for (const [f, name] of [
      [averageGradients, 'averageGradients'],
      [broadcastState, 'broadcastState'],
    ]) {
      // prettier-ignore
      refuses(() => f({}, group), TypeError, new RegExp(`^${name}: module must be a Module, but got an object`));
      refuses(() => f(net, {}), TypeError, new RegExp(`^${name}: group must be a ProcessGroup, but got an object`));
      refuses(() => f(net, group, { timeOut: 1 }), TypeError, new RegExp(`^${name}: unknown option "timeOut"`));
    }
    await assert.rejects(averageGradientsAsync(net, null), TypeError);
    await assert.rejects(broadcastStateAsync(net, group, { root: -1 }), RangeError);
    refuses(() => mergeOverRanks({}, group), TypeError, /^mergeOverRanks: expected a RunningMoments or a scaler/);
    refuses(
      () => new simdnorm.SyncBatchNorm(2, { processGroup: {} }),
      TypeError,
      /processGroup must be a ProcessGroup or null/,
    );
    assert.equal(group.allReduce(Int32Array.of(1))[0], size);
  },
};
