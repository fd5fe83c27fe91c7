// What bench/distributed.mjs has measured, as tables.

import { predicted } from './fit.mjs';

const figure = (value) => (value < 10 ? value.toFixed(1) : value.toFixed(0));
const table = (rows) => rows.map((texts) => `| ${texts.join(' | ')} |`).join('\n');

const kinds = {
  alone: 'BatchNorm',
  forward: '**forward**',
  gather5: 'allGather',
  reduce5: 'allReduce',
  aloneBack: 'BatchNorm, back',
  backward: '**backward**',
  gather2: 'allGather',
  reduce2: 'allReduce',
  barrier: 'barrier',
};
const columns = Object.keys(kinds);
const right = (texts) => texts.map(() => '--:');

function times({ cells }) {
  const rows = new Map();
  for (const { engine, ranks, channels, what, us } of cells) {
    const key = [engine, channels, ranks].join();
    rows.set(key, { ...rows.get(key), engine, channels, ranks, [what]: us });
  }
  const order = [...rows.values()].sort(
    (a, b) => a.engine.localeCompare(b.engine) || a.channels - b.channels || a.ranks - b.ranks,
  );
  return table([
    ['engine', 'C', 'ranks', ...Object.values(kinds)],
    ['---', '--:', '--:', ...right(columns)],
    ...order.map((row) => [row.engine, row.channels, row.ranks, ...columns.map((what) => figure(row[what]))]),
  ]);
}

function projection({ laws, channels, bytes, far }) {
  const heads = channels.map((c) => `${far.ranks} ranks, C = ${c}, ms`);
  return table([
    ['engine', 'a, us', 'o, us', 'rate, MB/s', 'worst point', ...heads],
    ['---', '--:', '--:', '--:', '--:', ...right(heads)],
    ...Object.entries(laws).map(([engine, law]) => [
      engine,
      figure(law.a),
      figure(law.o),
      law.perByte > 0 ? figure(1 / law.perByte) : 'no limit seen',
      `${law.off.toFixed(1)} times off`,
      ...channels.map((c) => figure(predicted(law, far.ranks, bytes.gather5 * c) / 1000)),
    ]),
  ]);
}

function work({ channels, bytes, far }) {
  return table([
    ['C', 'MB that a rank receives forward', 'forward, ms', 'backward, ms'],
    right([0, 0, 0, 0]),
    ...channels.map((c) => {
      const received = ((far.ranks - 1) * bytes.gather5 * c) / 1e6;
      return [c, figure(received), figure(far[c].forward / 1000), figure(far[c].backward / 1000)];
    }),
  ]);
}

export function markdown(report) {
  const { machine, command, rows, far, absent } = report;
  const without = Object.keys(absent).map((engine) => ` Without ${engine}, which was not installed.`);
  return `p50 in microseconds, by \`${command}\`: ${machine.cpu}, ${machine.processors} cores, Node ${machine.node},
commit ${machine.commit}. Float32, ${rows} rows a rank, all ranks on that one machine: where there are more of them than cores, they
take turns.${without.join('')} \`allGather\` and \`allReduce\` are of as many bytes as the exchange beside them; \`BatchNorm\` is of
the same rows, without an exchange.

${times(report)}

The times of \`allGather\` and \`barrier\` follow, with a core for each rank,

    t = a + (ranks - 1) * (o + bytes / rate)

where \`bytes\` go from one rank to one other. On fewer cores than ranks the second term is as many times larger as there are
ranks to a core, and so it was fitted. Of more ranks than were measured it says, for the exchange of one forward:

${projection(report)}

To this comes the work on what has come, which was measured, with ${far.ranks} ranks of which ${far.ranks - 1} are copies:

${work(report)}
`;
}
