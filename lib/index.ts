// The public names, nothing else.

export { BatchNorm1d, BatchNorm2d, BatchNorm3d, type BatchNormOptions } from './layers/batch-norm';
export { GroupNorm, type GroupNormOptions } from './layers/group-norm';
export { InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, type InstanceNormOptions } from './layers/instance-norm';
export { LayerNorm, type LayerNormOptions } from './layers/layer-norm';
export {
  LazyBatchNorm1d,
  LazyBatchNorm2d,
  LazyBatchNorm3d,
  LazyInstanceNorm1d,
  LazyInstanceNorm2d,
  LazyInstanceNorm3d,
} from './layers/lazy';
export {
  CrossMapLRN2d,
  LocalResponseNorm,
  type CrossMapLRN2dOptions,
  type LocalResponseNormOptions,
} from './layers/local-response-norm';
export { RMSNorm, type RMSNormOptions } from './layers/rms-norm';
export { convertSyncBatchNorm, SyncBatchNorm, type SyncBatchNormOptions } from './layers/sync-batch-norm';
export {
  Context,
  type AsyncBackwardOptions,
  type AsyncForwardOptions,
  type BackwardOptions,
  type ForwardOptions,
} from './layers/layer';
export type { FloatDType } from './internal/call';
export type { NormAsyncForwardOptions, NormBackwardOptions, NormForwardOptions } from './layers/norm';
export type { NonFinite } from './layers/tracked-norm';
export type { MaskOptions, NestedMask } from './internal/mask';
export { Module, Sequential, type ModuleLike } from './module';
export { StateDict } from './state-dict';
export type { StateCount, LoadOptions, LoadResult, LoadScope, StateEntry, StateSource } from './state-dict';
export { OutputPool, type OutputPoolOptions } from './output-pool';
export { Parameter, Tensor, tensor } from './tensor';
export type { DType, NestedArray, TensorData, TensorFields, TensorLike } from './tensor';
export { recalibrate, type RecalibrateOptions, type RecalibrateProgress } from './recalibrate';
export { isGradEnabled, noGrad } from './grad-mode';
export { getNumThreads, isa, setNumThreads } from './runtime';
export { StateError } from './internal/errors';
