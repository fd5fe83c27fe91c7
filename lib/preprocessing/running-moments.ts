import { addon, check, Names, type TallyArray } from '../internal/addon';
import { checkBoolean, checkOptions, checkSize, describe, StateError } from '../internal/errors';
import { readSafetensors, writeSafetensors } from '../io/safetensors';
import { Tensor } from '../tensor';
import { batchOptions, blockOf, readSamples, weightsOf, type Batch, type BatchOptions } from './samples';

/** What the state of a feature is: see Tally in native/ops/tally.h. Names of the tensors in a file. */
const fields = ['count', 'count_low', 'mean', 'mean_low', 'm2', 'm2_low', 'min', 'max', 'missing'] as const;
type Field = (typeof fields)[number];
/** The state of one feature, to look at. */
type FeatureState = Record<'n' | 'mean' | 'm2' | 'min' | 'max' | 'missing', number>;
const format = 'simdnorm.RunningMoments';
const version = 1;

export interface RunningMomentsOptions {
  /** What the features are called; kept in files, and compared by `merge`. */
  names?: readonly string[] | undefined;
}
export interface VarianceOptions {
  /** Whether M2 is divided by count - 1 instead of count; default false. */
  unbiased?: boolean | undefined;
}
/** What `toJSON` gives: numbers that JSON has no name for are strings ('NaN', 'Infinity', '-Infinity', '-0'). */
export interface RunningMomentsJSON extends Record<Field, (number | string)[]> {
  format: typeof format;
  version: number;
  features: number;
  names: string[] | null;
}

/**
 * Count, mean, variance, least and greatest value of each feature of a data set, in one pass over batches of any size.
 *
 * mean = sum(w * x) / sum(w), variance = sum(w * (x - mean)^2) / sum(w), or by sum(w) - 1 with `unbiased`
 *
 * Weights w are how often a value counts, 1 by default. NaN is a missing value: it is left out, and counted in
 * `missing`. All arithmetic is double whatever the data are, and sums, mean and M2 are held as two doubles each: the result
 * is within 4 ulp the same however the data were cut into batches and in whatever order parts were merged (a mean is of
 * the size of its data: where they cancel, within 4 ulp of their standard deviation), and the same bits on every CPU and
 * for any number of threads.
 *
 * *Shape*: (N, features), or (N, features, ...S), of which each position counts; `axis` is where the features are. Memory
 * in either order (a permuted (N, H, W, C), too) is read as it lies. (N), or a plain typed array, where there is one feature.
 *
 * *Takes* float32, float64, float16, bfloat16, uint8, int8, int16 and int32.
 *
 * *Throws* RangeError for another number of features, weights that are negative or not finite, and shapes that do not go
 * together; TypeError for what is no tensor and for int64. The state is then as before.
 *
 * *Limits*: deviations beyond 1e154, whose squares no double holds, give infinite variances, values beyond 8e307 infinite means; an infinity in the data gives
 * the mean of a plain sum and a variance of NaN. Counts are exact up to 2^106.
 *
 * *Matches* numpy.mean and numpy.var along axis 0, or scikit-learn's StandardScaler for its treatment of NaN.
 *
 * *References*: Welford 1962; Chan, Golub & LeVeque 1983; Dekker 1971
 *
 * @example
 * const moments = new RunningMoments(3);
 * for (const batch of batches) moments.update(batch); // (N, 3, H, W)
 * const { mean } = moments, std = moments.std();
 */
export class RunningMoments {
  readonly features: number;
  readonly names: readonly string[] | null;
  /** Nine doubles for each feature. */
  readonly #state: Float64Array;

  constructor(features: number, options: RunningMomentsOptions = {}) {
    const where = 'RunningMoments';
    this.features = checkSize(where, 'features', features, 1);
    checkOptions(where, options, ['names']);
    this.names = options.names === undefined ? null : checkNames(where, options.names, this.features);
    this.#state = new Float64Array(fields.length * features);
    this.reset();
  }

  /** Forgets all data. */
  reset(): this {
    for (const field of fields) this.#set(field, () => (field === 'min' ? Infinity : field === 'max' ? -Infinity : 0));
    return this;
  }

  /** Takes in a batch. */
  update(batch: Batch, options: BatchOptions = {}): this {
    const where = 'RunningMoments.update';
    checkOptions(where, options, batchOptions);
    const samples = readSamples(batch, this.features, options, where);
    const weights = weightsOf(samples, options, where);
    const { x } = samples;
    if (x.size > 0) {
      check(addon.tally(blockOf(samples, weights), x.data as TallyArray, weights, this.#state), where, Names.tally);
    }
    return this;
  }

  /** Takes in what another one has seen, which stays as it is; itself too. */
  merge(other: RunningMoments): this {
    const where = 'RunningMoments.merge';
    if (!(other instanceof RunningMoments)) {
      throw new TypeError(`${where}: expected a RunningMoments, but got ${describe(other)}`);
    }
    if (other.features !== this.features) {
      throw new RangeError(`${where}: expected ${this.features} features, but the other one has ${other.features}`);
    }
    if (this.names && other.names) {
      const i = this.names.findIndex((name, k) => name !== other.names![k]);
      if (i >= 0) {
        throw new RangeError(
          `${where}: feature ${i} is ${describe(this.names[i])} here and ${describe(other.names[i])} in the other one`,
        );
      }
    }
    check(addon.mergeTallies(this.#state, other.#state), where, Names.merge);
    return this;
  }

  clone(): RunningMoments {
    const copy = new RunningMoments(this.features, this.names ? { names: this.names } : {});
    copy.#state.set(this.#state);
    return copy;
  }

  /** How many values there were of each feature, or the sum of their weights. */
  get count(): Float64Array {
    return this.#get((s) => s.n);
  }
  /** How many values were NaN. */
  get missing(): Float64Array {
    return this.#get((s) => s.missing);
  }
  /** NaN for a feature without values, as everything below. */
  get mean(): Float64Array {
    return this.#get((s) => (s.n === 0 ? NaN : s.mean));
  }
  get min(): Float64Array {
    return this.#get((s) => (s.n === 0 ? NaN : s.min));
  }
  get max(): Float64Array {
    return this.#get((s) => (s.n === 0 ? NaN : s.max));
  }
  /** The sum of the squared distances from the mean. */
  get m2(): Float64Array {
    return this.#get((s) => (s.n === 0 ? NaN : s.m2));
  }
  /** Unbiased of no more than one value it is NaN. */
  variance(options: VarianceOptions = {}): Float64Array {
    return this.#variance('RunningMoments.variance', options);
  }
  std(options: VarianceOptions = {}): Float64Array {
    return this.#variance('RunningMoments.std', options).map(Math.sqrt);
  }

  /** The whole state, exactly. */
  toJSON(): RunningMomentsJSON {
    const { features, names } = this;
    const lists = fields.map((field) => [field, Array.from(this.#of(field), jsonNumber)] as const);
    return {
      format,
      version,
      features,
      names: names && [...names],
      ...(Object.fromEntries(lists) as Record<Field, (number | string)[]>),
    };
  }
  /** @throws TypeError or RangeError for what is no such state */
  static fromJSON(json: unknown): RunningMoments {
    const where = 'RunningMoments.fromJSON';
    const o = json as Partial<RunningMomentsJSON> | null;
    if (typeof o !== 'object' || o === null || o.format !== format) {
      throw new TypeError(`${where}: expected what toJSON gives, but got ${describe(json)}`);
    }
    checkVersion(where, o.version);
    const features = checkSize(where, 'features', o.features, 1);
    const lists = fields.map((field) => {
      const list: unknown = o[field];
      if (!Array.isArray(list)) throw new TypeError(`${where}: ${field} must be an array, but got ${describe(list)}`);
      return [field, list.map((value) => numberOf(value, where, field))] as const;
    });
    const count = lists[0]![1];
    if (count.length !== features) {
      throw new RangeError(`${where}: count has ${count.length} values for ${features} features`);
    }
    return RunningMoments.#from(where, features, o.names ?? null, new Map(lists));
  }

  /** The whole state, exactly, as float64 tensors (features). */
  toTensors(): Map<string, Tensor> {
    return new Map(fields.map((field) => [field, new Tensor(this.#of(field), [this.features])]));
  }
  /** What goes beside the tensors into a safetensors file. */
  metadata(): Record<string, string> {
    const { names } = this;
    return { format, version: String(version), ...(names && { names: JSON.stringify(names) }) };
  }
  /** @throws TypeError or RangeError for what is no such state */
  static fromTensors(
    tensors: ReadonlyMap<string, Tensor>,
    metadata: ReadonlyMap<string, string> | Readonly<Record<string, string>>,
  ): RunningMoments {
    const where = 'RunningMoments.fromTensors';
    const about =
      metadata instanceof Map ? (metadata as ReadonlyMap<string, string>) : new Map(Object.entries(metadata));
    if (about.get('format') !== format) {
      throw new TypeError(
        `${where}: these are no running moments: format is ${describe(about.get('format'))}, not ${describe(format)}`,
      );
    }
    checkVersion(where, Number(about.get('version')));
    const lists = fields.map((field) => {
      const t = tensors.get(field);
      if (t?.dtype !== 'float64' || t.ndim !== 1) {
        throw new TypeError(`${where}: the tensor ${field} must be float64 of one dimension`);
      }
      return [field, t.toArray() as number[]] as const;
    });
    const names = about.get('names');
    return RunningMoments.#from(where, lists[0]![1].length, names ? parseNames(where, names) : null, new Map(lists));
  }

  /** Writes the state to a safetensors file, which is replaced whole. */
  save(path: string | URL): void {
    writeSafetensors(path, this.toTensors(), { metadata: this.metadata() });
  }
  static load(path: string | URL): RunningMoments {
    const { tensors, metadata } = readSafetensors(path);
    return RunningMoments.fromTensors(tensors, metadata);
  }

  #of(field: Field): Float64Array {
    const at = fields.indexOf(field);
    return Float64Array.from({ length: this.features }, (_, i) => this.#state[fields.length * i + at]!);
  }
  #set(field: Field, value: (feature: number) => number): void {
    const at = fields.indexOf(field);
    for (let i = 0; i < this.features; i++) this.#state[fields.length * i + at] = value(i);
  }
  #get(value: (state: FeatureState) => number): Float64Array {
    return Float64Array.from({ length: this.features }, (_, i) => {
      const own = this.#state.subarray(fields.length * i, fields.length * (i + 1));
      const [count, countLow, mean, meanLow, m2, m2Low, min, max, missing] = own as unknown as number[];
      return value({
        n: count! + countLow!,
        mean: mean! + meanLow!,
        m2: m2! + m2Low!,
        min: min!,
        max: max!,
        missing: missing!,
      });
    });
  }
  #variance(where: string, options: VarianceOptions): Float64Array {
    checkOptions(where, options, ['unbiased']);
    const less = checkBoolean(where, 'unbiased', options.unbiased ?? false) ? 1 : 0;
    return this.#get((s) => {
      return s.n > less ? s.m2 / (s.n - less) : NaN;
    });
  }

  static #from(where: string, features: number, names: unknown, lists: Map<Field, readonly number[]>): RunningMoments {
    const made = new RunningMoments(features, names === null ? {} : { names: checkNames(where, names, features) });
    for (const [field, list] of lists) {
      if (list.length !== features) {
        throw new RangeError(`${where}: ${field} has ${list.length} values for ${features} features`);
      }
      const natural = field === 'count' || field === 'missing';
      const bad = list.findIndex((v) => (natural ? !(v >= 0 && v < Infinity) : field === 'm2' && v < 0));
      if (bad >= 0) throw new RangeError(`${where}: ${field}[${bad}] is ${list[bad]}`);
      made.#set(field, (i) => list[i]!);
    }
    return made;
  }
}

function checkVersion(where: string, value: unknown): void {
  if (value === version) return;
  throw new StateError(
    'ERR_VERSION',
    `${where}: version ${describe(value)} of the state is not known, only ${version}`,
  );
}

function checkNames(where: string, names: unknown, features: number): readonly string[] {
  if (!Array.isArray(names) || names.some((name) => typeof name !== 'string')) {
    throw new TypeError(`${where}: names must be an array of strings, but got ${describe(names)}`);
  }
  if (names.length !== features) {
    throw new RangeError(`${where}: names has ${names.length} entries for ${features} features`);
  }
  return Object.freeze([...(names as string[])]);
}

function parseNames(where: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new TypeError(`${where}: names must be a JSON array of strings, but got ${describe(text)}`);
  }
}

const jsonNumber = (v: number): number | string =>
  Number.isFinite(v) && !Object.is(v, -0) ? v : Object.is(v, -0) ? '-0' : String(v);

function numberOf(value: unknown, where: string, field: string): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'string' && ['NaN', 'Infinity', '-Infinity', '-0'].includes(value)) return Number(value);
  throw new TypeError(`${where}: ${field} must hold numbers, but got ${describe(value)}`);
}
