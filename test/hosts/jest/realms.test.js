// What a test environment of jest is: a context with typed arrays and errors of its own, while Node's modules have others.
const s = require('simdnorm');
const { digest } = require('../work.cjs');

test('the package computes in the realm of the test', () => {
  const given = new Float32Array([1, 3]);
  const y = new s.BatchNorm1d(1).forward(s.tensor(given, [2, 1]));
  expect(y.data).toBeInstanceOf(Float32Array);
  expect(Array.from(y.data)).toEqual([expect.closeTo(-1, 4), expect.closeTo(1, 4)]);
  expect(y).toBeInstanceOf(s.Tensor);
  expect(digest()).toBe(process.env.DIGEST);
});

test('errors are of the realm of the test', () => {
  expect(() => new s.BatchNorm1d('a')).toThrow(TypeError);
  expect(() => new s.GroupNorm(3, 4)).toThrow(RangeError);
  expect(() => new s.BatchNorm1d(2).forward(new Float32Array(3))).toThrow(/BatchNorm1d/);
});

test('arrays of another realm are taken', () => {
  const { runInNewContext } = require('node:vm');
  const foreign = runInNewContext('new Float32Array([1, 3])');
  expect(foreign).not.toBeInstanceOf(Float32Array);
  expect(Array.from(new s.BatchNorm1d(1).forward(s.tensor(foreign, [2, 1])).data)).toEqual([
    expect.closeTo(-1, 4),
    expect.closeTo(1, 4),
  ]);
  // Of Node's own realm, too, where jest has left those to it.
  const buffer = Buffer.from(new Uint8Array([1, 2, 3, 4]));
  expect(new s.BatchNorm1d(1).forward(s.tensor(new Float32Array(buffer.buffer, 0, 2), [2, 1])).shape).toEqual([2, 1]);
});

test('a registry that was reset loads the package again, with classes of its own', () => {
  const before = s.Tensor;
  jest.resetModules();
  const again = require('simdnorm');
  expect(again.Tensor).not.toBe(before);
  expect(s.tensor([1])).not.toBeInstanceOf(again.Tensor);
  expect(digest(again)).toBe(process.env.DIGEST);
  jest.isolateModules(() => expect(digest(require('simdnorm'))).toBe(process.env.DIGEST));
});

test('another thread answers', async () => {
  const y = await new s.LayerNorm(4).forwardAsync([[1, 2, 3, 4]]);
  expect(y.data).toBeInstanceOf(Float32Array);
});
