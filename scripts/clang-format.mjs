// Formats the C++ of native/, engines, test/native and bench with clang-format; with --check it only says what differs, and fails.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const tool = process.env.CLANG_FORMAT ?? 'clang-format';
const check = process.argv.includes('--check');

const files = ['native', 'engines', 'test/native', 'bench'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((file) => join(folder, file))
    .filter((file) => /\.(cc|h)$/.test(file) && !file.startsWith(join('native', 'headers')))
    .sort(),
);

const result = spawnSync(tool, [...(check ? ['--dry-run', '-Werror'] : ['-i']), ...files], {
  cwd: root,
  stdio: 'inherit',
});
if (result.error) {
  console.error(`${tool} cannot be run: ${result.error.message}`);
  console.error('Install it (Debian and Ubuntu: apt install clang-format), or name another in CLANG_FORMAT.');
  process.exit(1);
}
if (check && result.status === 0) console.log(`${files.length} C++ files are formatted`);
process.exit(result.status ?? 1);
