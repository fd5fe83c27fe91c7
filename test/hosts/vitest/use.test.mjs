import { expect, test, vi } from 'vitest';
import { BatchNorm1d, LayerNorm, tensor } from 'simdnorm';
import { layerNorm } from 'simdnorm/functional';

test('named imports, numbers, realms and errors', async () => {
  const y = new BatchNorm1d(1).forward(tensor(new Float32Array([1, 3]), [2, 1]));
  expect(y.data).toBeInstanceOf(Float32Array);
  expect(y.data[1]).toBeCloseTo(1, 4);
  expect([...layerNorm([[1, 3]], 2, { eps: 0 }).data]).toEqual([-1, 1]);
  expect(() => new BatchNorm1d('a')).toThrow(TypeError);
  expect((await new LayerNorm(4).forwardAsync([[1, 2, 3, 4]])).data).toBeInstanceOf(Float32Array);
});

test('modules that were reset load again', async () => {
  vi.resetModules();
  const again = await import('simdnorm');
  expect(new again.BatchNorm1d(1).forward([[1], [3]]).data[1]).toBeCloseTo(1, 4);
});
