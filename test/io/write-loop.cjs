// Writes file after file over process.argv[2] until it is killed; every element of generation g is g. Says each
// generation once it is written. The parent kills it at some moment: see safetensors-kill.test.ts.

const { tensor } = require('../../dist');
const { writeSafetensors } = require('../../dist/io/safetensors');

const [path, from, elements] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
for (let generation = from; ; generation++) {
  const tensors = {
    weight: tensor(new Float32Array(elements).fill(generation)),
    bias: tensor(new Float64Array(elements / 8).fill(generation)),
  };
  writeSafetensors(path, tensors, { metadata: { generation: String(generation) } });
  process.stdout.write(`${generation}\n`);
}
