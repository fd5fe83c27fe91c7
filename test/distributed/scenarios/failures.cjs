// Ranks that do not come, or to something else; what the others are told, and when.

const { setTimeout: sleep } = require('node:timers/promises');

const channels = 3;
const input = ({ simdnorm, rank }, c = channels, dtype = 'float32') => {
  const size = 4 * c * 5;
  const data = (dtype === 'float64' ? Float64Array : Float32Array).from({ length: size }, (_, i) => Math.sin(i + rank));
  return simdnorm.tensor(data, [4, c, 5]);
};

/** What survivors do: each of these waits for all ranks. `m` has group, layer, x. */
const operations = {
  forward: (m) => m.layer.forward(m.x),
  forwardAsync: (m) => m.layer.forwardAsync(m.x),
  backward: (m) => m.layer.backward(m.x),
  backwardAsync: (m) => m.layer.backwardAsync(m.x),
  allReduce: (m) => m.group.allReduce(new Float64Array(100_000)),
  allReduceAsync: (m) => m.group.allReduceAsync(new Float32Array(3)),
  allGather: (m) => m.group.allGather(new Int32Array(3)),
  allGatherAsync: (m) => m.group.allGatherAsync(new Int32Array(3)),
  broadcast: (m) => m.group.broadcast(new Uint8Array(100_000)),
  broadcastAsync: (m) => m.group.broadcastAsync(new Uint8Array(3)),
  barrier: (m) => m.group.barrier(),
  barrierAsync: (m) => m.group.barrierAsync(),
  newGroup: (m) => m.group.newGroup([0, 2]),
  newGroupAsync: (m) => m.group.newGroupAsync([0, 2]),
  averageGradients: (m) => m.distributed.averageGradients(m.layer, m.group),
  averageGradientsAsync: (m) => m.distributed.averageGradientsAsync(m.layer, m.group),
};

const stateOf = ({ layer }) =>
  JSON.stringify([...layer.stateDict()].map(([name, t]) => [name, [...t.data].map(String)]));

/** Everybody has taken a step with it. */
async function member(context, group) {
  const { simdnorm, distributed } = context;
  const layer = new simdnorm.SyncBatchNorm(channels, { processGroup: group, name: 'body.1.norm' });
  const m = { distributed, group, layer, x: input(context) };
  layer.forward(m.x);
  layer.backward(m.x);
  layer.forward(m.x);
  return m;
}

/** How a call failed, how long it took, and whether the event loop went on meanwhile. */
async function attempt(m, call) {
  const before = stateOf(m);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 10);
  const began = performance.now();
  let error;
  try {
    await call(m);
  } catch (e) {
    error = e;
  }
  const milliseconds = performance.now() - began;
  clearInterval(timer);
  const { name, code, message, ranks, operation, seconds } = error ?? {};
  const isUnchanged = stateOf(m) === before;
  return {
    name,
    code,
    message,
    ranks,
    operation,
    seconds,
    milliseconds,
    ticks,
    isUnchanged,
    isClosed: m.group.isClosed,
  };
}

/** A new group of these ranks does what the old one did. */
async function again(context, ranks, key) {
  if (!ranks.includes(context.rank)) return;
  const group = await context.join({ key, rank: ranks.indexOf(context.rank), size: ranks.length, timeout: 10_000 });
  await member(context, group);
  group.close();
}

const all = (size) => [...Array(size).keys()];

module.exports = {
  /** One rank ends or stops; the others go on without it. */
  async gone(context) {
    const { args, rank, size } = context;
    const { operation, how, culprit, after, goesOn } = args;
    const m = await member(context, await context.join());
    if (rank === culprit) {
      await sleep(after);
      context[how]();
      await sleep(20_000);
    }
    const result = await attempt(m, operations[operation]);
    // What another rank has to say about the culprit must not become that this one has left.
    await sleep(500);
    m.group.close();
    if (goesOn) await again(context, all(size).filter((r) => r !== culprit), 'again'); // prettier-ignore
    return result;
  },

  /** One rank comes when the others have given up. */
  async late(context) {
    const { args, rank, size } = context;
    const { operation, culprit, after, timeout } = args;
    const m = await member(context, await context.join({ key: operation, timeout }));
    if (rank === culprit) await sleep(after);
    const result = await attempt(m, operations[operation]);
    await sleep(300);
    m.group.close();
    await again(context, all(size), `after ${operation}`);
    return result;
  },

  /** One rank comes just when the others give up: how often all met, how often nobody did, and how often they differ. */
  async close(context) {
    const { rank, size, args } = context;
    const tally = { met: 0, failed: 0, differ: 0 };
    for (let i = 0; i < args.times; i++) {
      const group = context.group.newGroup(all(size));
      context.group.barrier();
      const until = performance.now() + (rank === args.culprit ? 3 + ((i % 20) - 10) / 50 : 0);
      while (performance.now() < until);
      let met = 1;
      try {
        group.barrier({ timeout: rank === args.culprit ? 1000 : 3 });
      } catch {
        met = 0;
      }
      const sum = context.group.allReduce(Int32Array.of(met))[0];
      tally[sum === size ? 'met' : sum === 0 ? 'failed' : 'differ']++;
    }
    return tally;
  },

  /** One rank comes to something else. */
  async mismatch(context) {
    const { args, rank, size, simdnorm } = context;
    const { culprit, title } = args;
    const group = await context.join({ key: title });
    const other = rank === culprit;
    const m = await member(context, group);
    const { layer } = m;
    const twin = (options, c = channels) =>
      new simdnorm.SyncBatchNorm(c, { processGroup: group, name: 'body.1.norm', ...options });
    const calls = {
      'another layer': () => (other ? twin({ name: 'body.4.norm' }) : layer).forward(m.x),
      'another number of channels': () => (other ? twin({}, 4).forward(input(context, 4)) : layer.forward(m.x)),
      'another dtype': () =>
        other ? twin({ dtype: 'float64' }).forward(input(context, channels, 'float64')) : layer.forward(m.x),
      'another eps': () => (other ? twin({ eps: 1e-3 }) : layer).forward(m.x),
      'another momentum': () => (other ? twin({ momentum: 0.2 }) : layer).forward(m.x),
      'evaluation, and then the next call': () => {
        if (!other) return layer.forward(m.x);
        layer.eval().forward(m.x);
        return group.barrier();
      },
      backward: () => (other ? layer.backward(m.x) : layer.forward(m.x)),
      'backward, asynchronously': () => (other ? layer.backwardAsync(m.x) : layer.forwardAsync(m.x)),
      'a collective': () => (other ? group.allReduce(new Float64Array(5)) : layer.forward(m.x)),
      'another length': () => group.allReduce(new Float64Array(other ? 6 : 5)),
      'another type': () => group.allReduce(other ? new Float64Array(5) : new Float32Array(5)),
      'another operation': () => group.allReduceAsync(new Float64Array(5), { op: other ? 'max' : 'sum' }),
      'another root': () => group.broadcast(new Float64Array(5), { root: other ? 1 : 0 }),
      'other ranks for a new group': () => group.newGroup(other ? [0] : [0, 1]),
    };
    const result = await attempt(m, calls[title]);
    await sleep(200);
    group.close();
    await again(context, all(size), `after ${title}`);
    return result;
  },

  /** Ranks that may not come to be a group: how `initProcessGroup` fails. */
  async joining(context) {
    const { options, after = 0 } = context.args;
    if (after) await sleep(after);
    const began = performance.now();
    try {
      const group = await context.join(options);
      const sum = group.allReduce(Int32Array.of(1))[0];
      group.close();
      return { sum };
    } catch (error) {
      const { name, code, message, ranks } = error;
      return { name, code, message, ranks, milliseconds: performance.now() - began };
    }
  },

  /** Never comes to join. */
  async never(context) {
    await sleep(context.args.after);
    return 'slept';
  },
};

module.exports.operations = Object.keys(operations);
