// vm contexts: what they make is taken, and the package can be used inside one.
const assert = require('node:assert/strict');
const vm = require('node:vm');
const s = require('simdnorm');

const context = vm.createContext({});
const foreign = (code) => vm.runInContext(`(${code})`, context);
const normalized = (x, options) => Array.from(new s.LayerNorm(2, foreign('{ eps: 0 }')).forward(x, options).data);

for (const form of ['new Float32Array([1, 3])', '[1, 3]']) {
  assert.deepEqual(normalized(s.tensor(foreign(form), foreign('[1, 2]'))), [-1, 1], form);
}
assert.deepEqual(normalized(foreign('[[1, 3]]')), [-1, 1]);
assert.deepEqual(normalized(s.tensor(foreign('new Float32Array(new SharedArrayBuffer(8)).fill(3)'), [1, 2])), [
  NaN,
  NaN,
]);
const out = foreign('new Float32Array(2)');
normalized([[1, 3]], { out });
assert.deepEqual(Array.from(out), [-1, 1]);
assert.throws(() => normalized(foreign('[[1, 2, 3]]')), RangeError);

const inside = vm.runInNewContext(
  `const { LayerNorm, tensor } = require('simdnorm');
   Array.from(new LayerNorm(2, { eps: 0 }).forward(tensor(new Float32Array([1, 3]), [1, 2])).data).join()`,
  { require },
);
assert.equal(inside, '-1,1');
console.log('right');
