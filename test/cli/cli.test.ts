// The `simdnorm` command, run as users run it: real files in, real files out, real processes killed.

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tensor } from '../../lib';
import { writeNpy } from '../../lib/io/npy';
import { readSafetensors, writeSafetensors } from '../../lib/io/safetensors';
import { RunningMoments, StandardScaler } from '../../lib/preprocessing';
import { values } from '../support/shapes';

const root = join(__dirname, '..', '..');
const main = join(root, 'dist', 'cli', 'main.js');
let folder: string;
beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'simdnorm-cli-'))));
afterAll(() => rmSync(folder, { recursive: true }));

interface Said {
  status: number | null;
  stdout: string;
  stderr: string;
}
const run = (...args: string[]): Said => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { cwd: folder, encoding: 'utf8' });
  return { status, stdout, stderr };
};
/** What a command that must succeed prints. */
const good = (...args: string[]): string => {
  const said = run(...args);
  expect({ ...said, stdout: '' }).toEqual({ status: 0, stdout: '', stderr: '' });
  return said.stdout;
};
/** What one that must fail says, in one line. */
const bad = (...args: string[]): string => {
  const { status, stdout, stderr } = run(...args);
  expect([status, stdout, stderr.trim().split('\n').length]).toEqual([1, '', 1]);
  return stderr.trim();
};

const rows = 500;
const x = new Tensor(values(rows * 3, 'float64', 7, 2) as Float64Array, [rows, 3]);
const photos = readdirSync(join(root, 'node_modules/@stdlib'))
  .filter((name) => name.startsWith('datasets-img-'))
  .map((name) => join(root, 'node_modules/@stdlib', name, 'data/image.jpg'));

beforeAll(async () => {
  await writeNpy(join(folder, 'x.npy'), x.data, 'float64', x.shape);
  writeSafetensors(join(folder, 'x.safetensors'), { weight: x, other: [1] });
  const lines = Array.from({ length: rows }, (_, i) => (x.data as Float64Array).subarray(3 * i, 3 * i + 3).join(','));
  writeFileSync(join(folder, 'x.csv'), ['a,b,"c, d"', ...lines].join('\n'));
});

it('helps, for every command', () => {
  for (const name of ['stats', 'apply', 'merge', 'report', 'info', 'bench']) {
    expect(good(name, '--help')).toMatch(new RegExp(`^simdnorm ${name}`));
    expect(good('--help')).toContain(`  ${name} `);
  }
  expect(good('--version').trim()).toBe((JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version); // prettier-ignore
  expect(JSON.parse(good('info', '--json'))).toMatchObject({ node: process.versions.node });
});

it('says what is wrong with its use, with 2', () => {
  for (const [args, message] of [
    [['nothing'], /there is no command nothing; there are stats/],
    [['stats'], /DATA is needed/],
    [['stats', 'x.npy', '--what'], /Unknown option '--what'/],
    [['stats', 'x.npy', '--workers', 'two'], /--workers must be a whole number, but is two/],
    [['stats', 'x.npy', '--resume'], /--resume goes with the --out/],
    [['apply', 'x.npy', '--out', 'o'], /--stats is needed/],
    [['merge'], /STATS is needed/],
  ] as const) {
    const { status, stderr } = run(...args);
    expect([status, stderr]).toEqual([2, expect.stringMatching(message)]);
  }
});

it('has the statistics of every format, as RunningMoments has them', () => {
  const own = new RunningMoments(3).update(x);
  for (const [file, ...options] of [['x.npy'], ['x.safetensors', '--tensor', 'weight'], ['x.csv']] as const) {
    const said = JSON.parse(good('stats', file, '--json', ...options)) as {
      feature: string;
      mean: number;
      std: number;
    }[];
    expect(said.map(({ mean, std }) => [mean, std])).toEqual(Array.from(own.mean, (m, i) => [m, own.std()[i]]));
    expect(said[2]!.feature).toBe(file === 'x.csv' ? 'c, d' : '2');
  }
  expect(good('stats', 'x.csv', '--columns', 'b')).toMatch(/^feature +count.*\nb +500 +0 /);
});

it('merges, and applies what it has merged', () => {
  const [half, whole] = [new RunningMoments(3), new RunningMoments(3).update(x)];
  half.update(new Tensor(x.data.slice(0, 600), [200, 3])).save(join(folder, 'first.st'));
  half
    .reset()
    .update(new Tensor(x.data.slice(600), [300, 3]))
    .save(join(folder, 'second.st'));
  const said = JSON.parse(good('merge', 'first.st', 'second.st', '--out', 'both.st', '--json')) as { mean: number }[];
  said.forEach(({ mean }, i) => expect(Math.abs(mean / whole.mean[i]! - 1)).toBeLessThan(1e-15));
  expect(good('apply', '--stats', 'both.st', 'x.npy', 'x.csv', '--out', 'out')).toBe('2 files in out\n');
  for (const file of ['out/x.npy', 'out/x.csv']) {
    const found = JSON.parse(good('stats', file, '--json')) as { mean: number; std: number; feature: string }[];
    for (const { mean, std } of found)
      expect([Math.abs(mean) < 1e-14, Math.abs(std - 1) < 1e-14]).toEqual([true, true]);
  }
  expect(readFileSync(join(folder, 'out/x.csv'), 'utf8')).toMatch(/^a,b,"c, d"\n/);
  expect(good('apply', '--stats', 'both.st', 'x.safetensors', '--tensor', 'weight', '--out', 'out')).toBe(
    '1 file in out\n',
  );
  expect([...readSafetensors(join(folder, 'out/x.safetensors')).tensors.keys()]).toEqual(['weight', 'other']);
});

it('applies to .safetensors of several batches, and of one dimension, in their own shape', () => {
  const wide = new Tensor(values(700_000 * 3, 'float32', 8, 2) as Float32Array, [700_000, 3]);
  const long = new Tensor(values(20, 'float64', 9, 2) as Float64Array, [20]);
  for (const [name, t] of Object.entries({ wide, long })) {
    writeSafetensors(join(folder, `${name}.safetensors`), { t });
    good('stats', `${name}.safetensors`, '--out', `${name}.st`);
    good('apply', '--stats', `${name}.st`, `${name}.safetensors`, '--out', 'shaped');
    const y = readSafetensors(join(folder, 'shaped', `${name}.safetensors`)).tensors.get('t')!;
    expect([y.dtype, y.shape]).toEqual([t.dtype, t.shape]);
    const expected = StandardScaler.fromMoments(RunningMoments.load(join(folder, `${name}.st`))).transform(t.reshape(t.shape[0]!, -1)); // prettier-ignore
    expect(Buffer.from(y.data.buffer).equals(Buffer.from(expected.data.buffer))).toBe(true);
  }
});

it('takes photographs, and says their channels', () => {
  good('stats', ...photos, '--out', 'photos.st');
  const { names, mean, count } = RunningMoments.load(join(folder, 'photos.st'));
  expect(names).toEqual(['red', 'green', 'blue']);
  expect(count[0]).toBeGreaterThan(1e6);
  for (const m of mean) expect(m > 0.2 && m < 0.8).toBe(true);
  good('apply', '--stats', 'photos.st', photos[0]!, '--out', 'standardised');
  const found = JSON.parse(good('stats', 'standardised/image.npy', '--axis', '0', '--json')) as { count: number }[];
  expect(found).toHaveLength(3);
});

it('draws a report that needs nothing else', () => {
  writeFileSync(join(folder, 'odd.csv'), 'plain,flat,holes,<b>\n1,5,,1\n2,5,2,2\n4,5,3,Infinity\n');
  good('stats', 'odd.csv', '--out', 'odd.st');
  expect(good('report', '--stats', 'odd.st', 'odd.csv', '--out', 'odd.html')).toBe('odd.html\n');
  const page = readFileSync(join(folder, 'odd.html'), 'utf8');
  expect(page).toContain('flat is constant: 5');
  expect(page).toContain('holes has 1 missing values');
  expect(page).toContain('&lt;b&gt; is not finite');
  expect(page.match(/<svg/g)).toHaveLength(6);
  expect(page).not.toMatch(/<script|<link|src=|href=/);
  // The constant's only bar stands in the middle of 48, before and after.
  const bars = page.match(/<svg[\s\S]*?<\/svg>/g)!.map((svg) => {
    const drawn = (svg.match(/<path[^>]*#4477aa[^>]*>/g) ?? []).filter((path) => !path.includes('l0 0'));
    return drawn.map((path) => Number(/data_index="(\d+)"/.exec(path)![1]));
  });
  expect(bars.slice(2, 4)).toEqual([[24], [24]]);
});

it('names the file, the line and the column of bad data', () => {
  const write = (name: string, text: string | Buffer): string => {
    writeFileSync(join(folder, name), text);
    return name;
  };
  expect(bad('stats', write('string.csv', 'a,b\n1,2\n3,four\n'))).toMatch(/string\.csv: line 3, column "b": "four" is no number$/); // prettier-ignore
  expect(bad('stats', write('ragged.csv', 'a,b\n1,2\n3\n'))).toMatch(/ragged\.csv: .*line 3/);
  expect(bad('stats', write('short.npy', readFileSync(join(folder, 'x.npy')).subarray(0, 5000)))).toMatch(/short\.npy: this is no valid \.npy file: .* needs 12128 bytes, and it has 5000/); // prettier-ignore
  expect(bad('stats', write('text.jpg', 'no image'))).toMatch(/text\.jpg: .*unsupported image format/);
  expect(bad('stats', 'x.npy', 'photos.npy')).toMatch(/photos\.npy/);
  expect(bad('stats', write('data.xyz', ''))).toMatch(/data\.xyz: a file of data ends with one of \.npy/);
  expect(bad('stats', 'x.safetensors')).toMatch(/which tensor\? There are weight, other/);
  expect(bad('stats', 'x.csv', '--columns', 'z')).toMatch(/there is no column "z"; there are a, b, c, d/);
  new RunningMoments(2).update([[1, 2]]).save(join(folder, 'two.st')); // prettier-ignore
  expect(bad('apply', '--stats', 'two.st', 'x.npy', '--out', 'never')).toMatch(
    /x\.npy: .*expected 2 features, but got 3/,
  );
  expect(bad('apply', '--stats', 'x.safetensors', 'x.npy', '--out', 'never')).toMatch(
    /x\.safetensors: .*no running moments/,
  );
  expect(bad('report', '--stats', 'two.st', 'x.npy', '--out', 'never.html')).toMatch(
    /it has 3 features, the statistics are of 2/,
  );
  expect(bad('merge', 'two.st', 'both.st')).toMatch(/both\.st: .*expected 2 features, but the other one has 3/);
  expect([existsSync(join(folder, 'never/x.npy')), existsSync(join(folder, 'never.html'))]).toEqual([false, false]);
  const { status, stderr, stdout } = run('stats', 'x.npy', 'short.npy', '--skip-errors');
  expect([status, stderr, stdout.split('\n').length]).toEqual([0, expect.stringMatching(/^left out: .*short\.npy/), 5]);
});

it('says how to get a package that is missing', () => {
  const bare = join(folder, 'bare');
  for (const part of ['package.json', 'dist', 'build/Release/simdnorm.node']) {
    cpSync(join(root, part), join(bare, part), { recursive: true });
  }
  const alone = (...args: string[]) =>
    spawnSync(process.execPath, [join(bare, 'dist/cli/main.js'), ...args], { cwd: folder, encoding: 'utf8' });
  expect(alone('stats', 'x.npy').status).toBe(0);
  for (const name of ['a.parquet', 'a.jpg']) writeFileSync(join(folder, name), '');
  for (const [file, name] of [
    ['x.csv', 'csv-parse'],
    ['a.parquet', 'hyparquet'],
    ['a.jpg', 'sharp'],
  ] as const) {
    // prettier-ignore
    const { status, stderr } = alone('stats', join(folder, file));
    expect([status, stderr]).toEqual([1, expect.stringMatching(`needs the package ${name}: npm install ${name}\n$`)]);
  }
});

describe('interrupted', () => {
  const files = 120;
  let data: string;
  let expected: Buffer;
  beforeAll(() => {
    data = join(folder, 'many');
    mkdirSync(data);
    for (let i = 0; i < files; i++) cpSync(photos[i % photos.length]!, join(data, `${100 + i}.jpg`));
    good('stats', data, '--out', 'whole.st', '--workers', '2');
    expected = readFileSync(join(folder, 'whole.st'));
    expect(existsSync(join(folder, 'whole.st.checkpoint'))).toBe(false);
  });

  const start = (out: string): ChildProcess =>
    spawn(process.execPath, [main, 'stats', data, '--out', out, '--workers', '1', '--resume'], { cwd: folder });
  const ended = (child: ChildProcess): Promise<{ code: number | null; signal: string | null }> =>
    new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal })));
  const exists = async (path: string): Promise<void> => {
    while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  /** Nothing half-written under any name but the writer's own. */
  const names = (out: string): string[] =>
    readdirSync(folder).filter(
      (name) => (name.startsWith(out) && name !== `${out}.checkpoint`) || name.endsWith('.tmp'),
    );

  it('by ^C: ends with 130, and goes on with the same bits', async () => {
    const child = start('c.st');
    await exists(join(folder, 'c.st.checkpoint'));
    child.kill('SIGINT');
    expect(await ended(child)).toEqual({ code: 130, signal: null });
    expect(names('c.st')).toEqual([]);
    expect(Number(readSafetensors(join(folder, 'c.st.checkpoint')).metadata.get('files'))).toBeGreaterThan(0);
    good('stats', data, '--out', 'c.st', '--resume');
    expect(readFileSync(join(folder, 'c.st')).equals(expected)).toBe(true);
    expect(names('c.st')).toEqual(['c.st']);
    expect(existsSync(join(folder, 'c.st.checkpoint'))).toBe(false);
  });

  it('by a kill, three times: goes on from the last checkpoint with the same bits', async () => {
    let files = 0;
    for (let kill = 0; kill < 3; kill++) {
      const child = start('k.st');
      const closed = ended(child);
      await exists(join(folder, 'k.st.checkpoint'));
      await new Promise((resolve) => setTimeout(resolve, 100 + 100 * kill));
      child.kill('SIGKILL');
      const { signal } = await closed;
      if (signal === null) break; // it was done before
      const at = Number(readSafetensors(join(folder, 'k.st.checkpoint')).metadata.get('files'));
      expect(at).toBeGreaterThanOrEqual(files);
      files = at;
    }
    expect(files).toBeGreaterThan(0);
    good('stats', data, '--out', 'k.st', '--resume', '--workers', '3');
    expect(readFileSync(join(folder, 'k.st')).equals(expected)).toBe(true);
  });

  it('refuses a checkpoint of other data', async () => {
    const child = start('o.st');
    await exists(join(folder, 'o.st.checkpoint'));
    child.kill('SIGINT');
    await ended(child);
    writeFileSync(join(data, '999.jpg'), readFileSync(photos[0]!));
    expect(bad('stats', data, '--out', 'o.st', '--resume')).toMatch(/o\.st\.checkpoint is of other data/);
    rmSync(join(data, '999.jpg'));
  });
});
