// Required rather than read, so that a bundle has it inside.
export const { version } = require('../../package.json') as { version: string };
