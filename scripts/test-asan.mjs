// The hostile calls against an addon built with AddressSanitizer and UndefinedBehaviorSanitizer, in a Node that is not:
// the sanitizer's runtime is preloaded. A memory error ends the process, which is the failure.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const build = join(root, 'build-asan');
const run = (command, args) => execFileSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });

const options = ['-DSIMDNORM_ADDON=ON', '-DSIMDNORM_TESTS=OFF', '-DSIMDNORM_SANITIZE=address,undefined'];
run('cmake', ['-S', root, '-B', build, ...options]);
run('cmake', ['--build', build, '--parallel', '2']);

// A package of its own, so that the loader finds this addon and no other.
const pack = join(build, 'package');
mkdirSync(join(pack, 'build', 'Release'), { recursive: true });
cpSync(join(root, 'dist'), join(pack, 'dist'), { recursive: true });
cpSync(join(root, 'package.json'), join(pack, 'package.json'));
cpSync(join(build, 'simdnorm.node'), join(pack, 'build', 'Release', 'simdnorm.node'));
if (!existsSync(join(pack, 'node_modules'))) symlinkSync(join(root, 'node_modules'), join(pack, 'node_modules'));

const runtime = execFileSync('g++', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
const calls = process.argv[2] ?? '50000';
const { status, signal } = spawnSync(
  process.execPath,
  [join(root, 'test', 'hostile', 'hostile.cjs'), `--calls=${calls}`, `--root=${pack}`],
  {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: {
      ...process.env,
      LD_PRELOAD: runtime,
      // Node's own handlers would hide a wild read; its exit leaks by design.
      ASAN_OPTIONS: 'detect_leaks=0:allow_user_segv_handler=0:abort_on_error=1',
      UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1',
    },
  },
);
const ok = status === 0 && signal === null;
console.log(ok ? '1 passed, 0 failed' : '0 passed, 1 failed');
process.exit(ok ? 0 : 1);
