// Keras 3, tf.keras and TensorFlow.js: gamma, beta, moving_mean, moving_variance; momentum of the old; channels last.

import { checkOptions, describe } from '../internal/errors';
import type { Tensor, TensorLike } from '../tensor';
import {
  batchNorm,
  complement,
  groupNorm,
  layerNorm,
  rmsNorm,
  Settings,
  startJob,
  tell,
  trailingSizes,
  type BatchNorm,
  type FromOptions,
  type NormLayer,
  type Numbers,
  type ToOptions,
} from './build';
import type { GroupNorm } from '../layers/group-norm';
import type { LayerNorm } from '../layers/layer-norm';
import type { RMSNorm } from '../layers/rms-norm';

/** A layer as Keras's JSON or TensorFlow.js has it, and its weights in the order of `get_weights()`. */
export interface KerasLayer<W = TensorLike> {
  class_name: string;
  config: Readonly<Record<string, unknown>>;
  build_config?: { readonly input_shape?: readonly (number | null)[] | null } | null;
  weights: readonly W[];
}

/**
 * A layer of ours that computes what a layer of Keras does.
 *
 * BatchNormalization becomes BatchNorm1d to 3d, by the number of dimensions of its input; GroupNormalization GroupNorm
 * (-1 groups: one for each channel), LayerNormalization LayerNorm and RMSNormalization RMSNorm. `trainable: false`
 * freezes the layer, which is what Keras makes of it.
 *
 * Of a TensorFlow.js layer: `{ class_name: layer.getClassName(), config: layer.getConfig(), weights:
 * layer.getWeights().map((w) => ({ data: w.dataSync(), shape: w.shape })) }`.
 *
 * Our layers have the channels in dimension 1. An input with the channels last is given as `x.permute(0, 3, 1, 2)`, which
 * copies nothing, and is computed as it lies.
 *
 * *Options*: `inputShape` (default: `build_config.input_shape`), `n` (none), `dtype` ('float32').
 *
 * *Throws* TypeError or RangeError for another class, for `renorm`, `virtual_batch_size` and `rms_scaling`, for axes of
 * LayerNormalization that are not the last ones, and for weights that do not fit.
 *
 * *Matches* Keras 3 in evaluation. Training on moves `runningVar` by unbiased variances where Keras takes biased ones:
 * see `n`, and leave it out for the fused kernel of tf.keras, which kept unbiased ones. A missing gamma beside a beta is
 * a weight of ones with `requiresGrad` false.
 *
 * @example
 * const bn = fromKeras({
 *   class_name: 'BatchNormalization',
 *   config: { axis: -1, momentum: 0.99, epsilon: 1e-3 },
 *   build_config: { input_shape: [null, 32, 32, 2] },
 *   weights: [[1, 1], [0, 0], [0.5, -0.5], [1, 2]],
 * }); // BatchNorm2d(2, eps=0.001, momentum=0.01, ...)
 */
export function fromKeras(layer: KerasLayer, options: FromOptions = {}): BatchNorm | GroupNorm | LayerNorm | RMSNorm {
  const name = String(layer?.class_name);
  const where = `fromKeras: ${name}`;
  if (!Array.isArray(layer?.weights)) {
    throw new TypeError(`${where}: weights must be an array, but got ${describe(layer?.weights)}`);
  }
  const built = layer.build_config?.input_shape ?? undefined;
  const job = startJob(where, built && options.inputShape === undefined ? { ...options, inputShape: built } : options);
  const settings = new Settings(where, layer.config);
  settings.refuse('renorm', 'our layers have no batch renormalization');
  settings.refuse('virtual_batch_size', 'our layers normalize whole batches');
  settings.refuse(
    'rms_scaling',
    'it divides by the standard deviation without subtracting the mean; no layer of ours does',
  );

  // Weights stand in this order, those that are switched off left out.
  const rest = [...(layer.weights as TensorLike[])];
  const take = (there: boolean): TensorLike | undefined => {
    if (there && rest.length === 0) throw new RangeError(`${where}: there are only ${layer.weights.length} weights`);
    return there ? rest.shift() : undefined;
  };
  const read = (parts: { center: boolean; statistics: boolean }): Numbers => {
    const numbers: Numbers = { scale: take(settings.boolean('scale', true)) };
    numbers.bias = take(parts.center && settings.boolean('center', true));
    numbers.mean = take(parts.statistics);
    numbers.var = take(parts.statistics);
    if (rest.length > 0) throw new RangeError(`${where}: there are ${rest.length} weights too many`);
    return numbers;
  };
  const axes = settings.axes('axis', -1);
  const made = ((): BatchNorm | GroupNorm | LayerNorm | RMSNorm => {
    switch (name) {
      case 'BatchNormalization': {
        const momentum = complement(settings.number('momentum', 0.99));
        const eps = settings.number('epsilon', 1e-3);
        return batchNorm(job, read({ center: true, statistics: true }), { axes, eps, momentum });
      }
      case 'GroupNormalization': {
        const asked = settings.number('groups', 32);
        const groups = (channels: number): number => (asked === -1 ? channels : asked);
        const eps = settings.number('epsilon', 1e-3);
        return groupNorm(job, read({ center: true, statistics: false }), { axes, eps, groups });
      }
      case 'LayerNormalization': {
        const numbers = read({ center: true, statistics: false });
        return layerNorm(job, numbers, {
          shape: trailingSizes(job, numbers, axes),
          eps: settings.number('epsilon', 1e-3),
        });
      }
      case 'RMSNormalization': {
        const numbers = read({ center: false, statistics: false });
        return rmsNorm(job, numbers, {
          shape: trailingSizes(job, numbers, axes),
          eps: settings.number('epsilon', 1e-6),
        });
      }
      default:
        throw new TypeError(
          `${where}: class_name must be BatchNormalization, GroupNormalization, LayerNormalization or RMSNormalization`,
        );
    }
  })();
  return settings.boolean('trainable', true) ? made : made.freeze();
}

/**
 * What Keras needs to make this layer: `from_config(config)` of `class_name`, then `set_weights(weights)`. The axis is the
 * last one; set `config.axis` to 1 for a model with the channels first. The weights are copies.
 *
 * InstanceNorm becomes GroupNormalization with a group for each channel.
 *
 * *Options*: `n` (none).
 *
 * *Throws* TypeError for what is no normalization layer; RangeError for what Keras has not: `momentum: null`, BatchNorm
 * without running statistics, InstanceNorm with them.
 *
 * @example
 * const { class_name, config, weights } = toKeras(new BatchNorm2d(64));
 */
export function toKeras(layer: NormLayer, options: ToOptions = {}): KerasLayer<Tensor> {
  const where = 'toKeras';
  checkOptions(where, options, ['n']);
  const told = tell(where, layer, options);
  const { scale, bias, mean, var: variance } = told.numbers;
  const weights = [scale, bias, mean, variance].filter((tensor) => tensor !== null);
  const affine = { scale: scale !== null, center: bias !== null };
  const common = { epsilon: told.eps, trainable: !layer.frozen };
  switch (told.kind) {
    case 'batch':
      return {
        class_name: 'BatchNormalization',
        config: { axis: -1, momentum: told.momentum, ...common, ...affine },
        weights,
      };
    case 'instance':
    case 'group': {
      const groups = told.kind === 'group' ? told.groups : -1;
      return { class_name: 'GroupNormalization', config: { groups, axis: -1, ...common, ...affine }, weights };
    }
    case 'layer':
    case 'rms': {
      const last = Array.from({ length: told.dims }, (_, i) => i - told.dims);
      const config = { axis: told.dims === 1 ? -1 : last, ...common };
      if (told.kind === 'layer') return { class_name: 'LayerNormalization', config: { ...config, ...affine }, weights };
      if (!scale)
        throw new RangeError(`${where}: RMSNormalization of Keras always has a scale, and this RMSNorm has none`);
      return { class_name: 'RMSNormalization', config, weights };
    }
  }
}
