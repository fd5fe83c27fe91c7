// ONNX models of one node, written as protobuf bytes: as much of the format as the onnxruntime peer needs.
// Field numbers: onnx.proto3 of the ONNX project.

const FLOAT = 1;

function varint(n) {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(n));
  do {
    const low = Number(rest & 127n);
    rest >>= 7n;
    bytes.push(rest ? low | 128 : low);
  } while (rest);
  return Buffer.from(bytes);
}
const tag = (field, wire) => varint((field << 3) | wire);
const integer = (field, n) => Buffer.concat([tag(field, 0), varint(n)]);
const bytes = (field, content) => {
  const raw = Buffer.from(content);
  return Buffer.concat([tag(field, 2), varint(raw.length), raw]);
};
const message = (field, ...parts) => bytes(field, Buffer.concat(parts.flat()));
const float = (field, value) => {
  const raw = Buffer.alloc(4);
  raw.writeFloatLE(value);
  return Buffer.concat([tag(field, 5), raw]);
};

/** An integer attribute, or { float } for one that is not. */
const attribute = ([name, value]) =>
  message(
    5,
    bytes(1, name),
    ...(typeof value === 'object' ? [float(2, value.float), integer(20, 1)] : [integer(3, value), integer(20, 2)]),
  );
const value = (field, { name, shape }) => {
  const sizes = shape.map((size) => message(1, integer(1, size)));
  return message(field, bytes(1, name), message(2, message(1, integer(1, FLOAT), message(2, sizes))));
};
const initializer = ({ name, data, shape = [data.length] }) => {
  const raw = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return message(5, ...shape.map((size) => integer(1, size)), integer(2, FLOAT), bytes(8, name), bytes(9, raw));
};

/** @param constants [{ name, data, shape? }], the node's inputs after x; outputs: [{ name, shape }] */
export function model({ opset, type, attributes, x, constants, outputs }) {
  const node = message(
    1,
    ...[x, ...constants].map(({ name }) => bytes(1, name)),
    ...outputs.map(({ name }) => bytes(2, name)),
    bytes(4, type),
    ...Object.entries(attributes).map(attribute),
  );
  const graph = message(
    7,
    node,
    bytes(2, 'bench'),
    constants.map(initializer),
    value(11, x),
    outputs.map((output) => value(12, output)),
  );
  return Buffer.concat([integer(1, 10), graph, message(8, bytes(1, ''), integer(2, opset))]);
}
