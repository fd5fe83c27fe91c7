// Promise: the bits that test/golden checks wherever the package runs are those of these sources. After a change of bits
// that is meant: npm run test:golden -- --write.

import digests from './golden/digests.json';
import type { GoldenApi } from './golden/calls';
import { digestTests } from './golden/suite';

const api = {
  simdnorm: require('../lib'),
  functional: require('../lib/functional'),
  safetensors: require('../lib/io/safetensors'),
  preprocessing: require('../lib/preprocessing'),
} as GoldenApi;

it.each(digestTests(api, digests))('%s', (_, run) => run());
