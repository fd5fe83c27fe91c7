import eslint from '@eslint/js';
import tseslint from 'typescript-eslint';

const nodeGlobals = Object.fromEntries(
  [
    'console',
    'process',
    'Buffer',
    'structuredClone',
    'setTimeout',
    'clearTimeout',
    'setInterval',
    'clearInterval',
    'performance',
    'URL',
    'WebAssembly',
    'require',
    'module',
    'exports',
    '__dirname',
    '__filename',
  ].map((name) => [name, 'readonly']),
);

const browserGlobals = Object.fromEntries(
  [
    'createImageBitmap',
    'devicePixelRatio',
    'document',
    'getComputedStyle',
    'ImageData',
    'matchMedia',
    'OffscreenCanvas',
    'window',
  ].map((name) => [name, 'readonly']),
);

export default tseslint.config(
  { ignores: ['**/dist/', '**/build/', '**/build-*/', 'node_modules/', 'prebuilds/', 'coverage/'] },
  eslint.configs.recommended,
  ...tseslint.configs.recommended,
  { files: ['**/*.{js,cjs,mjs}'], languageOptions: { globals: nodeGlobals } },
  { files: ['examples/browser/*.js'], languageOptions: { globals: browserGlobals } },
  {
    files: ['test/hosts/jest/*.js'],
    languageOptions: { globals: { jest: 'readonly', test: 'readonly', expect: 'readonly' } },
  },
  {
    rules: {
      // Indexing is checked by noUncheckedIndexedAccess; `!` says that a loop bound has done it already.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-require-imports': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      eqeqeq: ['error', 'always', { null: 'ignore' }],
    },
  },
);
