// Before all tests: where the system has libgloo, its engine is built, so that groups over it are tested too.
const { spawnSync } = require('node:child_process');
const { existsSync } = require('node:fs');
const { join } = require('node:path');

const root = join(__dirname, '..', '..');

module.exports = () => {
  const built = existsSync(join(root, 'engines', 'gloo', 'build', 'Release', 'simdnorm_gloo.node'));
  if (built || !existsSync('/usr/include/gloo/context.h')) return;
  const { status } = spawnSync('npm', ['run', 'build:gloo'], { cwd: root, stdio: 'inherit' });
  if (status !== 0) throw new Error('npm run build:gloo failed, and libgloo is installed');
};
