// Interleaved timing: A B C A B C ..., so that a change of the machine's rate meets all of them.

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const SAMPLE_US = 50; // a sample is as many calls as fill this, so that the clock's own cost does not show
const MOST_PREPARED = 2000; // calls a round of a contestant that has to prepare each

const clock = () => performance.now() * 1e3; // us

function timed(run, calls) {
  const begin = clock();
  for (let i = 0; i < calls; i++) run();
  return (clock() - begin) / calls;
}

/**
 * @param contestants name -> { run, prepare? }; prepare(n) is untimed and comes before n calls of run
 * @returns us[name]: per call, the median over rounds of each round's median; ratio(a, b): of a's time to b's, the median
 *   of the ratios within each round
 */
export function race(contestants, { rounds = 7, ms = 25, once = false } = {}) {
  const names = Object.keys(contestants);
  const found = Object.fromEntries(names.map((name) => [name, []]));
  const plans = {};
  for (let round = 0; round < (once ? 1 : rounds); round++) {
    for (const name of names) {
      const { run, prepare } = contestants[name];
      const plan = once ? { calls: 1, samples: 1, warm: 0 } : (plans[name] ??= planFor(contestants[name], ms));
      prepare?.(plan.warm + plan.calls * plan.samples);
      timed(run, plan.warm); // back into the caches
      found[name].push(median(Array.from({ length: plan.samples }, () => timed(run, plan.calls))));
    }
  }
  return {
    us: Object.fromEntries(names.map((name) => [name, median(found[name])])),
    ratio: (a, b) => median(found[a].map((us, round) => us / found[b][round])),
  };
}

function planFor({ run, prepare }, ms) {
  let each = Infinity;
  const begin = clock();
  for (let calls = 0; calls < 3 || (clock() - begin < 2e4 && calls < 2e4); calls++) {
    prepare?.(1);
    each = Math.min(each, timed(run, 1));
  }
  const calls = Math.max(1, Math.ceil(SAMPLE_US / each));
  const affordable = Math.max(3, Math.floor((ms * 1e3) / (each * calls)));
  return {
    calls,
    samples: prepare ? Math.max(3, Math.min(affordable, Math.floor(MOST_PREPARED / calls))) : affordable,
    warm: calls === 1 ? 1 : calls,
  };
}
