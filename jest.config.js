module.exports = {
  // 151002 advises to give up the type check for the sake of "module": "nodenext", which compiles as it is.
  transform: { '^.+\\.ts$': ['ts-jest', { diagnostics: { ignoreCodes: [151002] } }] },
  globalSetup: '<rootDir>/test/support/global-setup.cjs',
  testEnvironment: 'node',
  roots: ['<rootDir>/test'],
  testMatch: ['**/*.test.ts'],
  testTimeout: 120000,
};
