// A writer killed at any moment leaves a whole file under the final name: the old one or the new one.

import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tensor } from '../../lib';
import { readSafetensors, writeSafetensors } from '../../lib/io/safetensors';
import { generate } from '../support/vectors';

const kills = 30;
const elements = 2 ** 20;

/** Starts the writer, and kills it `delay` ms after its first file; the last generation it said it had written. */
async function writeUntilKilled(path: string, from: number, delay: number): Promise<number> {
  const child = spawn(process.execPath, [join(__dirname, 'write-loop.cjs'), path, String(from), String(elements)]);
  let said = '';
  let errors = '';
  child.stderr.on('data', (text: Buffer) => (errors += String(text)));
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (text: Buffer) => {
      if (said === '') setTimeout(() => child.kill('SIGKILL'), delay);
      said += String(text);
    });
    child.on('error', reject);
    child.on('close', (_, signal) => (signal === 'SIGKILL' ? resolve() : reject(new Error(errors || String(signal)))));
  });
  // The last line may be half written.
  return Number(said.slice(0, said.lastIndexOf('\n')).split('\n').at(-1));
}

/** The generation of a file, every value of which must be of it. */
function generationOf(path: string): number {
  const { tensors, metadata } = readSafetensors(path);
  const generation = Number(metadata.get('generation'));
  const [weight, bias] = ['weight', 'bias'].map((name) => tensors.get(name)!);
  expect([weight!.size, bias!.size]).toEqual([elements, elements / 8]);
  for (const { data } of [weight!, bias!]) {
    const values = data as Float32Array;
    let odd = 0;
    for (let i = 0; i < values.length; i++) if (values[i] !== generation) odd++;
    expect(odd).toBe(0);
  }
  return generation;
}

it(`whole after each of ${kills} kills`, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'simdnorm-'));
  try {
    const path = join(folder, 'model.safetensors');
    const first = { weight: tensor(new Float32Array(elements)), bias: tensor(new Float64Array(elements / 8)) };
    writeSafetensors(path, first, { metadata: { generation: '0' } });
    const delays = generate({ seed: 5, dist: 'uniform', a: 0, b: 40, dtype: 'float64' }, [kills]).values;
    let midway = 0;
    for (const delay of delays) {
      const from = generationOf(path) + 1;
      const told = await writeUntilKilled(path, from, delay);
      const now = generationOf(path);
      // What was said to be written is there, or what was just being written.
      expect([told, told + 1]).toContain(now);
      const left = readdirSync(folder).filter((name) => name !== 'model.safetensors');
      for (const name of left) expect(name).toMatch(/^\.[0-9a-f]{16}\.tmp$/);
      midway += left.length;
      for (const name of left) rmSync(join(folder, name));
    }
    // The kills did hit writes under way, or nothing was tested.
    expect(midway).toBeGreaterThan(kills / 4);
    writeFileSync(join(folder, '.unrelated'), '');
    writeSafetensors(path, first);
    expect(readdirSync(folder).sort()).toEqual(['.unrelated', 'model.safetensors']);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
