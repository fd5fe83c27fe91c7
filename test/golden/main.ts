// The golden suite of an installed package, on whatever runs this.
//
//   main.js --package=FOLDER --vectors=FOLDER --digests=FILE [--quick] [--expect-isa=NAME] [--out=FILE] [--write]
//
//   --package     whose node_modules has simdnorm, or simdnorm itself
//   --quick       without the large calls
//   --expect-isa  the instruction set that must be in use
//   --out         gets the lines instead of stdout, which is none for some pipes on Windows
//   --write       computes the digests anew, after checking that all instruction sets of this machine agree
//
// Prints a line for each failure, one of JSON about the runtime, and 'N passed, N failed'.

import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { filesIn } from '../support/files';
import { calls } from './calls';
import { digestOf } from './digest';
import { binaryOf, installTests, type Installed } from './install';
import { digestTests, runAll, vectorTests } from './suite';

const given = new Map(process.argv.slice(2).map((argument) => argument.split(/=(.*)/s) as [string, string]));
const folderOf = (name: string): string => {
  const value = given.get(name);
  if (!value) throw new Error(`${name}= is missing`);
  return resolve(value);
};

const out = given.get('--out');
const tell = (line: string): void => (out ? appendFileSync(out, `${line}\n`) : console.log(line));

async function main(): Promise<void> {
  const folder = folderOf('--package');
  const digestFile = folderOf('--digests');
  const require = createRequire(join(folder, 'x.js'));
  const api = {
    folder,
    require,
    simdnorm: require('simdnorm'),
    functional: require('simdnorm/functional'),
    safetensors: require('simdnorm/safetensors'),
    preprocessing: require('simdnorm/preprocessing'),
  } as Installed;
  if (given.has('--write')) {
    const digests: Record<string, string> = {};
    for (const call of calls) digests[call.name] = await digestOf(api, call);
    writeFileSync(digestFile, `${JSON.stringify(digests, null, 2)}\n`);
    tell(`${calls.length} digests of ${api.simdnorm.isa.supported.join(', ')}`);
    return;
  }
  const digests = JSON.parse(readFileSync(digestFile, 'utf8')) as Record<string, string>;
  const { passed, failed } = await runAll(
    [
      ...installTests(api, given.get('--expect-isa')),
      ...vectorTests(api, filesIn(folderOf('--vectors'))),
      ...digestTests(api, digests, given.has('--quick')),
    ],
    tell,
  );
  const { platform, arch, versions } = process;
  const runtime = ['deno', 'bun', 'node'].find((name) => versions[name])!;
  const { supported } = api.simdnorm.isa;
  tell(JSON.stringify({ runtime, version: versions[runtime], platform, arch, supported, binary: binaryOf(api) }));
  tell(`${passed} passed, ${failed} failed`);
  if (failed > 0) process.exitCode = 1;
}

main().catch((error: Error) => {
  tell(`FAILED ${error.stack ?? String(error)}`);
  process.exitCode = 1;
});
