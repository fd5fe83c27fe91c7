// The same Node and the same addon on emulated older CPUs: no instruction the CPU lacks is executed, the best set it has
// is chosen, a better one is refused by name, and the bits are those of this machine.
import { execFileSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const emulator = 'qemu-x86_64-static';
const cpus = { Nehalem: 'portable', Haswell: 'avx2' };

// Every layer once, forward and backward, hashed.
const script = `
  const { createHash } = require('node:crypto');
  const s = require('./dist');
  const hash = createHash('sha256');
  const x = Float32Array.from({ length: 6 * 35 * 11 }, (_, i) => Math.fround(((i * 2654435761) % 1000) / 250 - 1));
  const layers = [new s.BatchNorm1d(35), new s.InstanceNorm1d(35), new s.GroupNorm(5, 35), new s.LayerNorm([35, 11]), new s.RMSNorm(11)];
  for (const layer of layers) {
    const input = s.tensor(x, [6, 35, 11]);
    hash.update(layer.forward(input).data).update(layer.backward(input).data);
  }
  const nhwc = s.tensor(x, [6, 1, 11, 35]).permute(0, 3, 1, 2);
  hash.update(new s.BatchNorm2d(35).forward(nhwc).data);
  let refused = '';
  try { s.isa.use('avx512'); } catch (error) { refused = error.message; }
  console.log(JSON.stringify({ active: s.isa.all.includes('avx512') && refused ? s.isa.active : 'none', refused, digest: hash.digest('hex') }));`;

const run = (command, args) =>
  JSON.parse(
    execFileSync(command, args, {
      cwd: root,
      encoding: 'utf8',
      // qemu lists what it cannot emulate
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, SIMDNORM_NUM_THREADS: '2' },
    }),
  );

if (process.arch !== 'x64') throw new Error('test-old-cpu: only on x86-64');
const here = run(process.execPath, ['-e', script]);
let failed = 0;
for (const [cpu, isa] of Object.entries(cpus)) {
  const there = run(emulator, ['-cpu', cpu, process.execPath, '-e', script]);
  const ok =
    there.active === isa && there.refused.includes('this CPU does not support avx512') && there.digest === here.digest;
  console.log(`${ok ? 'ok' : 'FAILED'} ${cpu}: ${JSON.stringify(there)}${ok ? '' : `, here ${JSON.stringify(here)}`}`);
  if (!ok) failed++;
}
console.log(`${Object.keys(cpus).length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
