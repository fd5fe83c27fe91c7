// ONNX nodes: positional inputs, attributes, momentum of the old; channels in dimension 1, as ours.

import { checkSize, describe, formatShape } from '../internal/errors';
import { LocalResponseNorm } from '../layers/local-response-norm';
import { asTensor, Tensor, type TensorLike } from '../tensor';
import {
  batchNorm,
  complement,
  groupNorm,
  instanceNorm,
  layerNorm,
  rmsNorm,
  Settings,
  startJob,
  trailingSizes,
  type FromOptions,
  type Job,
  type NormLayer,
} from './build';

export interface OnnxNode {
  op_type: string;
  /** By name; those that are left out have ONNX's defaults. */
  attributes?: Readonly<Record<string, unknown>> | undefined;
  /** The node's inputs after X, in their order: scale, B, input_mean, input_var; null for an optional one left out. */
  inputs: readonly (TensorLike | null | undefined)[];
}

export interface FromOnnxOptions extends FromOptions {
  /** The operator set of the model, default 21: before that, GroupNormalization had a scale for each group. */
  opset?: number | undefined;
}

/** The tensor with sizes of 1 repeated, as ONNX broadcasts one shape to another. */
function broadcast(job: Job, value: TensorLike, shape: readonly number[], name: string): Tensor {
  const given = asTensor(value, job.where, name, job.dtype);
  const missing = shape.length - given.ndim;
  const fits = (size: number, i: number): boolean => i < missing || [1, size].includes(given.shape[i - missing]!);
  if (missing < 0 || !shape.every(fits)) {
    throw new RangeError(
      `${job.where}: ${name} has shape ${formatShape(given.shape)}, which cannot be broadcast to ${formatShape(shape)}`,
    );
  }
  const strides = shape.map((_, i) =>
    i < missing || given.shape[i - missing] === 1 ? 0 : given.strides[i - missing]!,
  );
  return new Tensor(given.data, shape, { strides, offset: given.offset, dtype: given.dtype }, job.where);
}

/** One value for each group as one for each of its channels. */
function perChannel(job: Job, value: TensorLike, groups: number, name: string): Tensor {
  const channels = job.inputShape?.[1];
  if (typeof channels !== 'number') {
    throw new TypeError(`${job.where}: inputShape must give the number of channels, for opsets before 21`);
  }
  const given = broadcast(job, value, [groups], name);
  if (channels % groups !== 0) {
    throw new RangeError(`${job.where}: ${channels} channels cannot be divided into ${groups} groups`);
  }
  const view = { strides: [given.strides[0]!, 0], offset: given.offset, dtype: given.dtype };
  return new Tensor(given.data, [groups, channels / groups], view, job.where).reshape(channels);
}

/**
 * A layer of ours that computes what a node of ONNX does.
 *
 * BatchNormalization becomes BatchNorm1d to 3d and InstanceNormalization InstanceNorm1d to 3d, by the number of dimensions
 * of the input; GroupNormalization GroupNorm, LayerNormalization LayerNorm, RMSNormalization RMSNorm and LRN
 * LocalResponseNorm. A BatchNorm is in evaluation mode unless `training_mode` is 1.
 *
 * *Options*: `inputShape` (the shape of X, needed for BatchNormalization and InstanceNormalization, and for axes counted
 * from the first), `n` (none), `dtype` ('float32'), `opset` (21).
 *
 * *Throws* TypeError or RangeError for another operator, for `spatial: 0`, and for inputs that do not fit.
 *
 * *Matches* the ONNX operators in evaluation; computes in double what `stash_type` would have in float. Training on
 * moves `runningVar` by unbiased variances where ONNX takes biased ones: see `n`.
 *
 * @example
 * const node = { op_type: 'BatchNormalization', attributes: { epsilon: 1e-5 }, inputs: [[1, 1], [0, 0], [0, 0], [1, 1]] };
 * const bn = fromOnnx(node, { inputShape: [null, 2, null, null] }); // BatchNorm2d, in evaluation mode
 */
export function fromOnnx(node: OnnxNode, options: FromOnnxOptions = {}): NormLayer | LocalResponseNorm {
  const name = String(node?.op_type);
  const where = `fromOnnx: ${name}`;
  const job = startJob(where, options, ['opset']);
  const opset = checkSize(where, 'opset', options.opset ?? 21, 1);
  if (!Array.isArray(node?.inputs)) {
    throw new TypeError(`${where}: inputs must be an array, but got ${describe(node?.inputs)}`);
  }
  const settings = new Settings(where, node.attributes ?? {});
  const input = (i: number, called: string): TensorLike => {
    const found = (node.inputs as OnnxNode['inputs'])[i];
    if (found === null || found === undefined) throw new TypeError(`${where}: inputs must have ${called} at ${i}`);
    return found;
  };
  const eps = settings.number('epsilon', 1e-5);
  switch (name) {
    case 'BatchNormalization': {
      if (!settings.boolean('spatial', true)) {
        throw new RangeError(
          `${where}: spatial is 0: statistics of single positions are found in ONNX before opset 9 only`,
        );
      }
      const numbers = { scale: input(0, 'scale'), bias: input(1, 'B'), mean: input(2, 'mean'), var: input(3, 'var') };
      const momentum = complement(settings.number('momentum', 0.9));
      return batchNorm(job, numbers, { axes: [1], eps, momentum }).train(settings.boolean('training_mode', false));
    }
    case 'InstanceNormalization':
      return instanceNorm(job, { scale: input(0, 'scale'), bias: input(1, 'B') }, { axes: [1], eps });
    case 'GroupNormalization': {
      const groups = checkSize(where, 'num_groups', settings.get('num_groups'), 1);
      const values = { scale: input(0, 'scale'), bias: input(1, 'bias') };
      const numbers =
        opset >= 21
          ? values
          : {
              scale: perChannel(job, values.scale, groups, 'scale'),
              bias: perChannel(job, values.bias, groups, 'bias'),
            };
      return groupNorm(job, numbers, { axes: [1], eps, groups: () => groups });
    }
    case 'LayerNormalization':
    case 'RMSNormalization': {
      const scale = input(0, 'scale');
      const bias = (name === 'LayerNormalization' && node.inputs[1]) || null;
      const [first] = settings.axes('axis', -1) as [number];
      const rank = first < 0 ? 0 : (job.inputShape?.length ?? first);
      const axes = Array.from({ length: Math.max(rank - first, 1) }, (_, i) => first + i);
      const shape = trailingSizes(job, { scale }, axes);
      const numbers = {
        scale: broadcast(job, scale, shape, 'scale'),
        bias: bias && broadcast(job, bias, shape, 'B'),
      };
      return name === 'LayerNormalization'
        ? layerNorm(job, numbers, { shape, eps })
        : rmsNorm(job, numbers, { shape, eps });
    }
    case 'LRN': {
      const size = checkSize(where, 'size', settings.get('size'), 1);
      const [alpha, beta] = [settings.number('alpha', 1e-4), settings.number('beta', 0.75)];
      const k = settings.number('bias', 1);
      return new LocalResponseNorm(size, { alpha, beta, k, window: 'onnx', dtype: job.dtype });
    }
    default:
      throw new TypeError(
        `${where}: op_type must be BatchNormalization, InstanceNormalization, GroupNormalization, LayerNormalization, ` +
          'RMSNormalization or LRN',
      );
  }
}
