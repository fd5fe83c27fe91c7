// Every case of test/vectors in each of its dtypes, on every instruction set; those of several ranks are in
// distributed/vectors.test.ts.

import { vectors } from './support/files';
import { everyWay } from './support/isa';
import { casesOf, prepareCase, type Api } from './support/run-case';

const api: Api = {
  simdnorm: require('../lib'),
  functional: require('../lib/functional'),
  safetensors: require('../lib/io/safetensors'),
};
const runnable = casesOf(vectors);

// One test a case, the instruction sets inside it: the largest inputs take longer to generate than to normalize.
describe.each([...new Set(runnable.map((test) => test.source))])('vectors: %s', (source) => {
  const ofSource = runnable.filter((test) => test.source === source);
  it.each(ofSource.map((test) => [test.name, test] as const))('%s', (_, test) => {
    everyWay(prepareCase(api, vectors, test), [2]);
  });
});
