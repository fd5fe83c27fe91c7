// simdnorm/wasm beside simdnorm: a step of each layer, with the same bits.
import * as native from 'simdnorm';
import * as wasm from 'simdnorm/wasm';
import work from '../work.cjs';

const isas = [native.isa.all.length > 1, wasm.isa.all.join()];
if (isas.join() !== 'true,simd128') throw new Error(`not the two builds: ${native.isa.all}; ${wasm.isa.all}`);
const digests = [work.digest(native), work.digest(wasm)];
if (digests.some((digest) => digest !== process.env.DIGEST)) {
  throw new Error(`${digests} are not ${process.env.DIGEST}`);
}
console.log(`right, ${native.isa.active} and ${wasm.isa.active}`);
