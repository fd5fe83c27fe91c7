// A training loop that goes on until something happens to one of its ranks.

const { setTimeout: sleep } = require('node:timers/promises');

module.exports = {
  /** What ended it: the error, how many steps were whole, and whether the running statistics are those of a whole step. */
  async loop(context) {
    const { simdnorm, distributed, rank, group, args } = context;
    const { asynchronous } = args;
    const net = simdnorm.convertSyncBatchNorm(
      new simdnorm.Sequential(new simdnorm.BatchNorm2d(4), new simdnorm.BatchNorm2d(4, { relu: true })),
    );
    const x = simdnorm.tensor(
      Float32Array.from({ length: 2 * 4 * 36 }, (_, i) => Math.sin(i + rank)),
      [2, 4, 6, 6],
    );
    // Worker threads have no signals: one ends by itself.
    if (args.dies?.rank === rank) setTimeout(context.die, args.dies.after);
    const layers = [...net];
    let calls = 0;
    const call = async (blocking, waiting) => {
      const before = layers.map(({ runningMean, numBatchesTracked }) =>
        [...runningMean.data, numBatchesTracked].join(),
      );
      const began = performance.now();
      try {
        const result = asynchronous ? await waiting() : blocking();
        calls++;
        return result;
      } catch (error) {
        const { name, code, message, ranks } = error;
        const milliseconds = performance.now() - began;
        // Of a chain of layers those before the one that failed have taken their step.
        const after = layers.map(({ runningMean, numBatchesTracked }) =>
          [...runningMean.data, numBatchesTracked].join(),
        );
        const isUnchanged = after.join() === before.join();
        throw Object.assign(new Error(message), {
          told: { name, code, message, ranks, milliseconds, calls, isUnchanged },
        });
      }
    };
    try {
      for (;;) {
        let y = x;
        for (const layer of layers) y = await call(() => layer.forward(y), () => layer.forwardAsync(y)); // prettier-ignore
        let dy = y;
        for (const layer of [...layers].reverse()) dy = await call(() => layer.backward(dy), () => layer.backwardAsync(dy)); // prettier-ignore
        await call(
          () => distributed.averageGradients(net, group),
          () => distributed.averageGradientsAsync(net, group),
        );
        // Lets timers and messages in.
        if (calls % 50 === 0) await sleep(1);
      }
    } catch (error) {
      if (!error.told) throw error;
      // Who leaves at once may be taken for the one that was killed, by those who have not heard of that yet.
      await sleep(600);
      return error.told;
    }
  },
};
