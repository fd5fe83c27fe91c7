// Flax, linen and nnx: scale, bias, mean, var; momentum of the old; channels last; other defaults of epsilon.

import { checkOptions, describe } from '../internal/errors';
import type { Tensor, TensorLike } from '../tensor';
import {
  batchNorm,
  complement,
  groupNorm,
  instanceNorm,
  layerNorm,
  rmsNorm,
  Settings,
  startJob,
  tell,
  trailingSizes,
  type FromOptions,
  type NormLayer,
  type Numbers,
  type ToOptions,
} from './build';

type Named<W> = Readonly<Record<string, W>>;

/** A module's class, its fields where they are not the defaults, and its part of the variables. */
export interface FlaxModule<W = TensorLike> {
  class_name: string;
  config: Readonly<Record<string, unknown>>;
  /** `scale` and `bias`. */
  params?: Named<W> | undefined;
  /** `mean` and `var`, of BatchNorm. */
  batch_stats?: Named<W> | undefined;
}

/**
 * A layer of ours that computes what a module of Flax does: BatchNorm, InstanceNorm, GroupNorm, LayerNorm or RMSNorm.
 *
 * Our layers have the channels in dimension 1: see `fromKeras`.
 *
 * *Options*: `inputShape`, needed for BatchNorm and InstanceNorm, whose number of dimensions decides the class; `n`
 * (none); `dtype` ('float32').
 *
 * *Throws* TypeError or RangeError for another class, for `feature_axes` and `reduction_axes` of LayerNorm and RMSNorm
 * that differ or are not the last ones, and for numbers that do not fit.
 *
 * *Matches* Flax in evaluation. Training on moves `runningVar` by unbiased variances where Flax takes biased ones: see
 * `n`. `use_fast_variance`, which loses digits, has no counterpart.
 *
 * @example
 * const ln = fromFlax({ class_name: 'LayerNorm', config: {}, params: { scale: [1, 1], bias: [0, 0] } });
 */
export function fromFlax(module: FlaxModule, options: FromOptions = {}): NormLayer {
  const name = String(module?.class_name);
  const where = `fromFlax: ${name}`;
  const job = startJob(where, options);
  const settings = new Settings(where, module.config);
  const params = new Settings(`${where}: params`, module.params ?? {});
  const stats = new Settings(`${where}: batch_stats`, module.batch_stats ?? {});
  const value = (of: Settings, key: string): TensorLike => {
    const found = of.get(key);
    if (found === undefined) throw new TypeError(`${of.where} must have ${key}, but got ${describe(found)}`);
    return found as TensorLike;
  };
  const numbers: Numbers = {};
  if (settings.boolean('use_scale', true)) numbers.scale = value(params, 'scale');
  if (name !== 'RMSNorm' && settings.boolean('use_bias', true)) numbers.bias = value(params, 'bias');

  const trailing = (): readonly number[] => {
    const [features, reduced] = [settings.axes('feature_axes', -1), settings.axes('reduction_axes', -1)];
    if ([...features].sort().join() !== [...reduced].sort().join()) {
      throw new RangeError(
        `${where}: feature_axes [${features.join(', ')}] and reduction_axes [${reduced.join(', ')}] must be the same`,
      );
    }
    return trailingSizes(job, numbers, features);
  };
  switch (name) {
    case 'BatchNorm': {
      numbers.mean = value(stats, 'mean');
      numbers.var = value(stats, 'var');
      const [eps, momentum] = [settings.number('epsilon', 1e-5), complement(settings.number('momentum', 0.99))];
      return batchNorm(job, numbers, { axes: settings.axes('axis', -1), eps, momentum });
    }
    case 'InstanceNorm':
      return instanceNorm(job, numbers, {
        axes: settings.axes('feature_axes', -1),
        eps: settings.number('epsilon', 1e-6),
      });
    case 'GroupNorm': {
      const size = settings.get('group_size');
      const groups = (channels: number): number =>
        size === undefined ? settings.number('num_groups', 32) : channels / settings.number('group_size', 1);
      return groupNorm(job, numbers, { axes: [-1], eps: settings.number('epsilon', 1e-6), groups });
    }
    case 'LayerNorm':
      return layerNorm(job, numbers, { shape: trailing(), eps: settings.number('epsilon', 1e-6) });
    case 'RMSNorm':
      return rmsNorm(job, numbers, { shape: trailing(), eps: settings.number('epsilon', 1e-6) });
    default:
      throw new TypeError(`${where}: class_name must be BatchNorm, InstanceNorm, GroupNorm, LayerNorm or RMSNorm`);
  }
}

/**
 * What Flax needs to make this layer: the class, its fields, and its part of `params` and `batch_stats`, as copies.
 *
 * *Options*: `n` (none).
 *
 * *Throws* as `toKeras`.
 *
 * @example
 * const { config, params, batch_stats } = toFlax(new BatchNorm2d(64));
 */
export function toFlax(layer: NormLayer, options: ToOptions = {}): FlaxModule<Tensor> {
  const where = 'toFlax';
  checkOptions(where, options, ['n']);
  const told = tell(where, layer, options);
  const { scale, bias, mean, var: variance } = told.numbers;
  const params = { ...(scale && { scale }), ...(bias && { bias }) };
  const config = {
    epsilon: told.eps,
    use_scale: scale !== null,
    ...(told.kind !== 'rms' && { use_bias: bias !== null }),
  };
  switch (told.kind) {
    case 'batch': {
      const batch_stats = { mean: mean!, var: variance! };
      return { class_name: 'BatchNorm', config: { axis: -1, momentum: told.momentum, ...config }, params, batch_stats };
    }
    case 'instance':
      return { class_name: 'InstanceNorm', config, params };
    case 'group':
      return { class_name: 'GroupNorm', config: { num_groups: told.groups, ...config }, params };
    case 'layer':
    case 'rms': {
      const last = Array.from({ length: told.dims }, (_, i) => i - told.dims);
      const axes = told.dims === 1 ? {} : { feature_axes: last, reduction_axes: last };
      return { class_name: told.kind === 'layer' ? 'LayerNorm' : 'RMSNorm', config: { ...config, ...axes }, params };
    }
  }
}
