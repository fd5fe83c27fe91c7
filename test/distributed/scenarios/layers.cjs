// Layers that are told what to do, step by step; what they gave is brought back.

const { setTimeout: sleep } = require('node:timers/promises');

function tensorOf({ simdnorm }, { data, shape, dtype, permute }) {
  const x = new simdnorm.Tensor(data.slice(), shape, dtype && { dtype });
  return permute ? x.permute(...permute) : x;
}
/** Elements in the order of the shape, in memory of their own. */
const dataOf = (t) => t && t.contiguous().data.slice();
const shapeOf = (t) => t && t.shape;

function assign(context, layer, state) {
  for (const [name, value] of Object.entries(state)) {
    if (name === 'numBatchesTracked') layer.numBatchesTracked = value;
    else layer[name].data.set(value);
  }
}

async function step(context, layer, memory, step) {
  const { simdnorm } = context;
  const { op, async: waits = false, late = 0 } = step;
  if (late) await sleep(late);
  if (op === 'set') return assign(context, layer, step.state);
  if (op === 'reset') return layer.resetRunningStats();
  if (op === 'forward') {
    if (step.mode) layer.train(step.mode === 'train');
    const x = tensorOf(context, step.input);
    const options = { ...step.options };
    if (step.add) options.add = tensorOf(context, step.add);
    if (step.out) options.out = memory.out = new x.data.constructor(x.size);
    if (step.context) options.context = memory[step.context] ??= layer.context();
    const run = () => (waits ? layer.forwardAsync(x, options) : layer.forward(x, options));
    const y = await (step.noGrad ? simdnorm.noGrad(run) : run());
    if (step.out) context.assert.equal(y.data.buffer, memory.out.buffer);
    return { y: dataOf(y), shape: y.shape };
  }
  layer.zeroGrad();
  const dy = tensorOf(context, step.gradOutput);
  const options = {};
  if (step.context) options.context = memory[step.context];
  if (step.out === 'dy') options.out = dy;
  else if (step.out) options.out = memory.dx = new dy.data.constructor(dy.size);
  if (step.gradAdd) options.gradAdd = memory.gradAdd = new dy.data.constructor(dy.size);
  const dx = await (waits ? layer.backwardAsync(dy, options) : layer.backward(dy, options));
  if (step.out && step.out !== 'dy') context.assert.equal(dx.data.buffer, memory.dx.buffer);
  return {
    dx: dataOf(dx),
    shape: shapeOf(dx),
    dweight: dataOf(layer.weight?.grad ?? null),
    dbias: dataOf(layer.bias?.grad ?? null),
    ...(step.gradAdd && { gradAdd: memory.gradAdd }),
  };
}

const stateOf = (layer) => ({
  runningMean: dataOf(layer.runningMean),
  runningVar: dataOf(layer.runningVar),
  numBatchesTracked: layer.numBatchesTracked,
});

/** The group to use: this rank's part where the ranks are parted. */
function partOf({ group, rank }, parts) {
  if (!parts) return null;
  const made = parts.map((ranks) => group.newGroup(ranks));
  return made[parts.findIndex((ranks) => ranks.includes(rank))];
}

module.exports = {
  /** A SyncBatchNorm, or another BatchNorm to compare it with; by step what it gave, or the error, and its running statistics. */
  async steps(context) {
    const { module = 'SyncBatchNorm', numFeatures, options, state = {}, parts, steps } = context.args;
    const processGroup = partOf(context, parts);
    const layer = new context.simdnorm[module](numFeatures, { ...options, ...(processGroup && { processGroup }) });
    assign(context, layer, state);
    const results = [];
    const memory = {};
    for (const each of steps) {
      let result;
      try {
        result = await step(context, layer, memory, each);
      } catch (error) {
        const { name, code, message } = error;
        result = { error: { name, code, message } };
      }
      results.push({ ...result, ...stateOf(layer) });
    }
    processGroup?.close();
    return results;
  },

  /** A network of several layers, converted, trained for some steps by the average of gradients. */
  async network(context) {
    const { simdnorm, distributed, args, group } = context;
    const { BatchNorm1d, BatchNorm2d, GroupNorm, Module, Sequential } = simdnorm;
    const { inputs, gradOutputs, asynchronous } = args;
    const through = async (parts, x, call) => {
      for (const part of parts) {
        if (part instanceof Sequential)
          x = await through(call === 'forward' ? [...part] : [...part].reverse(), x, call);
        else x = part[`${call}Async`] ? await part[`${call}Async`](x) : part[call](x);
      }
      return x;
    };
    class Flatten extends Module {
      forward(x) {
        this.shape_ = x.shape;
        return x.reshape([x.shape[0], -1]);
      }
      backward(dy) {
        return dy.reshape(this.shape_);
      }
    }
    const net = simdnorm.convertSyncBatchNorm(
      new Sequential(
        new BatchNorm2d(4, { relu: true }),
        new Sequential(new GroupNorm(2, 4), new BatchNorm2d(4, { momentum: null })),
        new Flatten(),
        new BatchNorm1d(36),
      ),
      args.explicit ? group : null,
    );
    const names = net.modules().flatMap((part) => (part instanceof simdnorm.SyncBatchNorm ? [part.name] : []));
    const results = [];
    for (let i = 0; i < inputs.length; i++) {
      net.zeroGrad();
      const [x, dy] = [tensorOf(context, inputs[i]), tensorOf(context, gradOutputs[i])];
      const y = asynchronous ? await through([net], x, 'forward') : net.forward(x);
      const dx = asynchronous ? await through([net], dy, 'backward') : net.backward(dy);
      const own = net.parameters().map(({ grad }) => grad.data.slice());
      await (asynchronous ? distributed.averageGradientsAsync(net, group) : distributed.averageGradients(net, group));
      for (const p of net.parameters()) p.data.forEach((v, k) => (p.data[k] = v - 0.1 * p.grad.data[k]));
      results.push({
        y: dataOf(y),
        dx: dataOf(dx),
        own,
        averaged: net.parameters().map(({ grad }) => grad.data.slice()),
      });
    }
    net.eval();
    // Only one rank: nothing is exchanged.
    if (context.rank === 0) net.forward(tensorOf(context, inputs[0]));
    const state = [...net.stateDict()].map(([name, t]) => [name, t.data.slice()]);
    return { names, results, state };
  },
};
