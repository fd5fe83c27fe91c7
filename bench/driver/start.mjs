// Who takes part in a run: those that were asked for, as far as they are there.

import { contestants, Missing } from './peers.mjs';
import { Peer } from './process.mjs';

/** The product once for each instruction set and build that was asked for; peers as they are. */
function entrantsOf({ names, isas, against }) {
  return names.flatMap((name) => {
    const { role, start } = contestants[name];
    if (role !== 'product') return [{ name, role, start }];
    const builds = [{ suffix: '', env: {} }];
    if (against) builds.push({ suffix: ' before', env: { BENCH_PACKAGE: against } });
    return builds.flatMap(({ suffix, env }) =>
      isas.map((isa) => ({
        name: `simdnorm${isa ? ` ${isa}` : ''}${suffix}`,
        role,
        start: (variant) => ({ ...start(variant), env: { ...env, ...(isa && { SIMDNORM_ISA: isa }) } }),
      })),
    );
  });
}

// One process for each contestant and environment, started again when it ended.
const running = new Map();

function processOf({ name, start }, variant) {
  const how = start(variant);
  const key = `${name} ${JSON.stringify(how.env ?? {})}`;
  if (!running.has(key) || running.get(key).ended) running.set(key, new Peer(how));
  return running.get(key);
}

export function endAll() {
  for (const peer of running.values()) peer.quit();
}

/** [{ name, role, version, process(variant) }]; says in a line who is missing, and how to get it. */
export async function startAll(options) {
  const present = [];
  for (const entrant of entrantsOf(options)) {
    let hello;
    try {
      hello = await processOf(entrant, options.variants[0]).hello;
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      hello = { missing: error.message };
    }
    const { name, role } = entrant;
    const why = hello.missing ?? hello.unsupported;
    if (hello.version) {
      present.push({ name, role, version: hello.version, process: (variant) => processOf(entrant, variant) });
    } else if (role === 'product') throw new Error(`${name} does not start: ${why}`);
    else console.log(`without ${name}: ${why}`);
  }
  return present;
}
