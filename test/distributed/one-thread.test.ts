// Two ranks in one thread, by the asynchronous forms: what happens to layers and groups while they wait.

import { BatchNorm1d, Parameter, Sequential, SyncBatchNorm, Tensor, tensor } from '../../lib';
import { averageGradientsAsync, createThreadGroup, initProcessGroup, mergeOverRanksAsync } from '../../lib/distributed';
import { ProcessGroup } from '../../lib/distributed/process-group';
import { ThreadEngine } from '../../lib/distributed/threads';
import { MinMaxScaler, StandardScaler } from '../../lib/preprocessing';

const memoryOf = (groups = 16): SharedArrayBuffer => createThreadGroup(2, { groups, slotBytes: 4096 });
function pair(memory = memoryOf(), timeout = 2000): [ProcessGroup, ProcessGroup] {
  const group = (rank: number): ProcessGroup => new ProcessGroup(new ThreadEngine(memory, rank, 'test'), timeout);
  return [group(0), group(1)];
}
const both = <T>(f: (rank: 0 | 1) => Promise<T>): Promise<[T, T]> => Promise.all([f(0), f(1)]);
const input = (rank: number): Tensor =>
  new Tensor(
    Float32Array.from({ length: 8 }, (_, i) => Math.sin(i + 3 * rank)),
    [4, 2],
  );
const bits = (t: Tensor | null | undefined): number[] => [...(t!.data as Float32Array)];

async function layers(): Promise<[SyncBatchNorm, SyncBatchNorm]> {
  const groups = pair();
  const made = groups.map((processGroup) => new SyncBatchNorm(2, { processGroup })) as [SyncBatchNorm, SyncBatchNorm];
  await both((rank) => made[rank].forwardAsync(input(rank)));
  return made;
}

it('normalizes by the values of both', async () => {
  const groups = pair();
  const made = groups.map((processGroup) => new SyncBatchNorm(2, { processGroup }));
  const ys = await both((rank) => made[rank]!.forwardAsync(input(rank)));
  const whole = new BatchNorm1d(2);
  const y = whole.forward(tensor([...bits(input(0)), ...bits(input(1))]).reshape([8, 2]));
  ys.forEach((own, rank) => {
    for (let i = 0; i < 8; i++) expect(own.data[i]).toBeCloseTo(y.data[8 * rank + i] as number, 6);
    expect(bits(made[rank]!.runningMean)).toEqual(bits(made[0]!.runningMean));
  });
});

it('a gradient that is reset while backward waits stays reset, but for what backward adds', async () => {
  const [a, b] = await layers();
  const dy = input(5);
  a.weight!.grad = new Tensor(Float32Array.of(100, 100), [2]);
  const waiting = a.backwardAsync(dy);
  await Promise.resolve();
  a.zeroGrad();
  await Promise.all([waiting, b.backwardAsync(dy)]);
  expect(Math.abs(a.weight!.grad!.data[0] as number)).toBeLessThan(20);
});

it('layers that share a weight add to one gradient, whichever ends first', async () => {
  const groups = pair();
  const [others] = [pair()];
  const [first, second] = [0, 1].map((rank) => {
    const one = new SyncBatchNorm(2, { processGroup: groups[rank]!, bias: false });
    const two = new SyncBatchNorm(2, { processGroup: others[rank]!, bias: false });
    Object.assign(two, { weight: one.weight });
    return [one, two];
  }) as [SyncBatchNorm[], SyncBatchNorm[]];
  const all = [first, second].flatMap((own, rank) => own.map((layer) => ({ layer, rank })));
  await Promise.all(all.map(({ layer, rank }) => layer.forwardAsync(input(rank))));
  await Promise.all(all.map(({ layer, rank }) => layer.backwardAsync(input(rank + 5))));
  const [one] = first;
  const sum = bits(one!.weight!.grad);
  one!.zeroGrad();
  await Promise.all([first[0]!, second[0]!].map((layer, rank) => layer.forwardAsync(input(rank))));
  await Promise.all([first[0]!, second[0]!].map((layer, rank) => layer.backwardAsync(input(rank + 5))));
  bits(one!.weight!.grad).forEach((v, i) => expect(2 * v).toBeCloseTo(sum[i]!, 5));
});

it('gradients of two dtypes are averaged both, or neither', async () => {
  const groups = pair(undefined, 300);
  const net = (rank: number): Sequential => {
    const made = new Sequential(new BatchNorm1d(1), new BatchNorm1d(1, { dtype: 'float64' }));
    for (const p of made.parameters()) p.grad = new Tensor((p.data as Float64Array).slice().fill(rank + 1), p.shape);
    return made;
  };
  const nets = [net(0), net(1)];
  await both((rank) => averageGradientsAsync(nets[rank]!, groups[rank]!));
  for (const p of nets.flatMap((own) => own.parameters())) expect(p.grad!.data[0]).toBe(1.5);
  // The second rank does only the first half.
  const half = new Sequential(new BatchNorm1d(1));
  half.parameters().forEach((p: Parameter) => (p.grad = new Tensor(Float32Array.of(9), [1])));
  const [failed] = await Promise.allSettled([
    averageGradientsAsync(nets[0]!, groups[0]!),
    averageGradientsAsync(half, groups[1]!),
  ]);
  expect(failed).toMatchObject({ status: 'rejected', reason: { code: 'ERR_PEER_TIMEOUT' } });
  expect((failed as PromiseRejectedResult).reason).toHaveProperty(
    'message',
    expect.stringMatching(/^averageGradients: /),
  );
  for (const p of nets[0]!.parameters()) expect(p.grad!.data[0]).toBe(1.5);
});

it('a layer whose group of initProcessGroup has closed does not train alone unless it is told to', async () => {
  const memory = memoryOf();
  const group = await initProcessGroup({ engine: 'threads', memory, rank: 0, timeout: 2000 });
  const other = new ProcessGroup(new ThreadEngine(memory, 1, 'test'), 2000);
  const layer = new SyncBatchNorm(2);
  const peer = new SyncBatchNorm(2, { processGroup: other });
  await Promise.all([layer.forwardAsync(input(0)), peer.forwardAsync(input(1))]);
  group.close();
  const before = bits(layer.runningMean);
  expect(() => layer.forward(input(0))).toThrow(
    expect.objectContaining({ code: 'ERR_GROUP_CLOSED', message: expect.stringMatching(/SyncBatchNorm.forward/) }),
  );
  expect(bits(layer.runningMean)).toEqual(before);
  layer.eval();
  layer.forward(input(0));
  layer.train();
  layer.processGroup = null;
  layer.forward(input(0));
  expect(layer.numBatchesTracked).toBe(2);
});

it('a rank of a memory is taken once', () => {
  const memory = memoryOf();
  pair(memory);
  expect(() => new ThreadEngine(memory, 1, 'test')).toThrow(expect.objectContaining({ code: 'ERR_RENDEZVOUS' }));
});

it('a memory without room for another group says so, and its groups go on', async () => {
  const groups = pair(memoryOf(2));
  await both((rank) => groups[rank].newGroupAsync([0, 1]));
  const refused = await Promise.allSettled(groups.map((group) => group.newGroupAsync([0, 1])));
  for (const end of refused) {
    expect(end).toMatchObject({ status: 'rejected', reason: { name: 'RangeError', message: /room for 2 groups/ } });
  }
  const sums = await both((rank) => groups[rank].allReduceAsync(Float64Array.of(rank + 1)));
  expect(sums.map(([sum]) => sum)).toEqual([3, 3]);
});

it('scalers of two kinds are not merged', async () => {
  const groups = pair();
  const scalers = [new StandardScaler(), new MinMaxScaler()];
  for (const scaler of scalers) scaler.fit(tensor([[1, 2]]));
  const ends = await Promise.allSettled(scalers.map((scaler, rank) => mergeOverRanksAsync(scaler, groups[rank]!)));
  for (const end of ends) expect(end).toMatchObject({ status: 'rejected', reason: { code: 'ERR_MISMATCH' } });
});
