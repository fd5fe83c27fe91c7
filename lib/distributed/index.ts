// simdnorm/distributed: groups of ranks, and what a training program does with them.

export { initProcessGroup, type InitOptions } from './init';
export {
  defaultGroup,
  GroupError,
  ProcessGroup,
  type BroadcastOptions,
  type CollectiveOptions,
  type EngineName,
  type GroupArray,
  type ReduceOperation,
  type ReduceOptions,
} from './process-group';
export { createThreadGroup, threadEnded, type ThreadGroupOptions } from './threads';
export { averageGradients, averageGradientsAsync, broadcastState, broadcastStateAsync } from './module';
export { mergeOverRanks, mergeOverRanksAsync } from './statistics';
