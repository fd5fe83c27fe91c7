// What commands are made of.

import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseArgs, type ParseArgsConfig } from 'node:util';
import type { DataOptions } from '../preprocessing/data';

export interface Command {
  usage: string;
  run(args: string[]): Promise<void>;
}

/** Said on one line, with the exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
/** ^C or SIGTERM: the exit code is 128 + the signal's number. */
export class Interrupted extends Error {
  constructor(
    readonly exitCode: number,
    message: string,
  ) {
    super(message);
  }
}

type Values = Record<string, string | boolean | string[] | undefined>;

/** Options and the rest; every option is a string, or a flag. */
export function parse(
  args: string[],
  options: NonNullable<ParseArgsConfig['options']>,
): { values: Values; positionals: string[] } {
  try {
    const joined: string[] = [];
    for (const arg of args) {
      // A negative number is the value of the option before it, though it looks like one.
      if (/^-\d/.test(arg) && /^--[^=]+$/.test(joined.at(-1) ?? '')) joined.push(`${joined.pop()}=${arg}`);
      else joined.push(arg);
    }
    return parseArgs({ args: joined, options, allowPositionals: true, strict: true }) as {
      values: Values;
      positionals: string[];
    };
  } catch (error) {
    throw new UsageError((error as Error).message.split('. To specify')[0]);
  }
}

export function text(values: Values, name: string): string {
  const value = values[name];
  if (typeof value !== 'string' || value === '') throw new UsageError(`--${name} is needed`);
  return value;
}

/** Where a result goes, if anywhere: found out before the work, which may be long. */
export function outFile(values: Values): string | undefined {
  if (values.out === undefined) return undefined;
  const out = text(values, 'out');
  if (existsSync(out) && statSync(out).isDirectory()) throw new UsageError(`--out ${out} is a folder`);
  mkdirSync(dirname(out), { recursive: true });
  return out;
}

export function wholeNumber(values: Values, name: string): number | undefined {
  const value = values[name];
  if (value === undefined) return undefined;
  if (!/^-?\d+$/.test(String(value))) throw new UsageError(`--${name} must be a whole number, but is ${String(value)}`);
  return Number(value);
}

export const dataFlags = {
  axis: { type: 'string' },
  columns: { type: 'string', multiple: true },
  header: { type: 'boolean' },
  'no-header': { type: 'boolean' },
  tensor: { type: 'string' },
} as const;
export const dataUsage = `  --axis N            which axis of arrays has the features (default 1, -1 the last)
  --columns a,b       which columns of tables (default: all; of Parquet all numbers); or each by
                      --columns of its own
  --header            the first line of CSV names the columns; --no-header: it does not (default: it does where it
                      has words and no numbers)
  --tensor NAME       which tensor of a safetensors file`;

export function dataOptionsOf(values: Values): DataOptions {
  const { columns, tensor, header } = values as { columns?: string[]; tensor?: string; header?: boolean };
  const said = header ? true : values['no-header'] ? false : undefined;
  // A name with a comma comes in an option of its own.
  const names = columns?.flatMap((list) => (columns.length > 1 ? [list] : list.split(',')));
  return { axis: wholeNumber(values, 'axis'), columns: names, header: said, tensor };
}

export function someOf(positionals: string[], what: string): string[] {
  if (positionals.length === 0) throw new UsageError(`${what} is needed`);
  return positionals;
}

/** An AbortSignal for ^C and SIGTERM, for the length of `body`; a second one ends the process as ever. */
export async function interruptible<T>(body: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stops = (['SIGINT', 'SIGTERM'] as const).map((name) => {
    const stop = (): void => controller.abort(new Interrupted(name === 'SIGINT' ? 130 : 143, 'interrupted'));
    process.once(name, stop);
    return () => process.off(name, stop);
  });
  try {
    return await body(controller.signal);
  } finally {
    for (const off of stops) off();
  }
}
