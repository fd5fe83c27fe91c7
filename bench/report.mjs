// The words and tables of a report: see run.mjs for what it holds.
//
//   node bench/report.mjs FILE.json      FILE.md and FILE.svg again, and the summary

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chart } from './chart.mjs';
import { LOST } from './ratios.mjs';
import { geometricMean } from './statistics.mjs';

const figure = (us) => (us >= 100 ? us.toFixed(0) : us.toPrecision(3));
const ratio = (value) => (value === undefined ? '' : value.toFixed(2));
const ulps = (value) => (value === undefined ? '' : value >= 1e4 ? value.toExponential(0) : value.toFixed(1));
const nameOf = ({ id, mode }) => `${id} ${mode}`;
const runOf = ({ threads, variant }) => `${threads} thread${threads > 1 ? 's' : ''}, ${variant}`;
const groupsOf = (rows, key) => {
  const groups = new Map();
  for (const row of rows) groups.set(key(row), [...(groups.get(key(row)) ?? []), row]);
  return groups;
};

/** What is printed as soon as a cell is done. */
export function line(row, products) {
  const parts = products.map((name) => {
    const { [name]: time } = row.times;
    if (!time) return `${name}: ${row.unsupported[name]}`;
    const versus = row.best ? `${ratio(row.toBest[name])} of ${row.best}` : 'no peer';
    const limit = row.toLimit[name] ? `, ${ratio(row.toLimit[name])} of the limit` : '';
    const error = row.ulp[name] === undefined ? '' : `, ${ulps(row.ulp[name])} ulp`;
    return `${name} ${figure(time.us)} us, ${versus}${limit}${error}`;
  });
  const disturbed = Math.max(...Object.values(row.times).map(({ foreign }) => foreign)) > 0.3 ? '  (disturbed)' : '';
  return `${nameOf(row).padEnd(26)} ${runOf(row).padEnd(18)} ${parts.join('; ')}${disturbed}`;
}

function comparison(rows, product) {
  const lines = [];
  for (const [run, all] of groupsOf(rows, runOf)) {
    const rated = all.filter((row) => row.toBest[product]);
    if (rated.length === 0) continue;
    const mean = (those, key = 'toBest') =>
      ratio(geometricMean(those.map((row) => row[key][product]).filter((value) => value !== undefined)));
    const byRatio = [...rated].sort((a, b) => b.toBest[product] - a.toBest[product]);
    const named = (those) =>
      those.length === 0
        ? 'none'
        : `${those.length}: ${those.map((row) => `${nameOf(row)} ${ratio(row.toBest[product])} (${row.best})`).join(', ')}`;
    const above = (low, high) => byRatio.filter(({ toBest }) => toBest[product] > low && toBest[product] <= high);
    const ops = [...groupsOf(rated, ({ op }) => op)].map(([op, those]) => `${op} ${mean(those)}`);
    lines.push(
      `${product}, ${run}: ${mean(rated)} of the best peer's time, geometric mean of ${rated.length} cells`,
      `  by op: ${ops.join(', ')}`,
      ...(rated.some((row) => row.toLimit[product]) ? [`  to the limit: ${mean(rated, 'toLimit')}`] : []),
      `  above ${LOST}, lost: ${named(above(LOST, Infinity))}`,
      `  above 1.0: ${named(above(1, LOST))}`,
    );
  }
  return lines;
}

/** The geometric mean of a / b over the pairs of times that there are. */
function betweenRows(title, pairs) {
  const ratios = pairs.filter(([a, b]) => a !== undefined && b !== undefined).map(([a, b]) => a / b);
  return ratios.length === 0 ? [] : [`${title}: ${ratio(geometricMean(ratios))} (${ratios.length} cells)`];
}

/** Of one run's time to another's, for each contestant: what a fresh output or a busy processor costs. */
function betweenRuns({ cells, roles }) {
  const find = (row, threads, variant) =>
    cells.find((other) => nameOf(other) === nameOf(row) && other.threads === threads && other.variant === variant);
  const pairs = (name, rows, partner) => rows.map((row) => [row.times[name]?.us, partner(row)?.times[name]?.us]);
  const contenders = Object.keys(roles).filter((name) => roles[name] !== 'limit');
  const of = (variant, threads) =>
    cells.filter((row) => row.variant === variant && (!threads || row.threads === threads));
  return contenders.flatMap((name) => [
    ...betweenRows(
      `${name}, a fresh output to a reused one`,
      pairs(name, of('fresh'), (row) => find(row, row.threads, 'reused')),
    ),
    ...betweenRows(
      `${name}, two threads with the other processor busy to one thread alone`,
      pairs(name, of('busy', 2), (row) => find(row, 1, 'reused')),
    ),
    ...betweenRows(
      `${name}, two threads to one`,
      pairs(name, of('reused', 2), (row) => find(row, 1, 'reused')),
    ),
  ]);
}

function betweenProducts({ cells, products: [first, ...others] }) {
  return others.flatMap((other) =>
    [...groupsOf(cells, runOf)].flatMap(([run, rows]) =>
      betweenRows(
        `${other} to ${first}, ${run}`,
        rows.map(({ times }) => [times[other]?.us, times[first]?.us]),
      ),
    ),
  );
}

/** Geometric means, and the cells that are lost, by name. */
export function summary(report) {
  return [
    ...report.products.flatMap((product) => comparison(report.cells, product)),
    ...betweenRuns(report),
    ...betweenProducts(report),
  ].join('\n');
}

const table = (head, rows) =>
  [
    `| ${head.join(' | ')} |`,
    `|:--|${'--:|'.repeat(head.length - 1)}`,
    ...rows.map((row) => `| ${row.join(' | ')} |`),
  ].join('\n');

/** What a call costs beyond the kernels, in ns. */
export function callsTable({ cells, products }) {
  const ns = (us) => (us === undefined ? '' : (us * 1e3).toFixed(0));
  const rows = cells.flatMap((row) =>
    products.map((product) => {
      const [call, kernel] = [row.times[product]?.us, row.times.ops?.us];
      return [`${nameOf(row)}, ${product}`, ns(call), ns(kernel), kernel === undefined ? '' : ns(call - kernel)];
    }),
  );
  return table(['forward of 1000 elements, ns', 'from JavaScript', 'the op in C++', 'beyond it'], rows);
}

/** Lost cells first. */
export function markdown(report) {
  const { machine, versions, products, roles, cells } = report;
  const others = Object.keys(roles).filter((name) => roles[name] !== 'product');
  const [product] = products;
  const parts = [...groupsOf(cells, runOf)].map(([run, rows]) => {
    const shown = others.filter((name) => rows.some(({ times }) => times[name]));
    const order = [...rows].sort((a, b) => (b.toBest[product] ?? 0) - (a.toBest[product] ?? 0));
    const text = (row, name) => (row.times[name] ? figure(row.times[name].us) : '');
    const body = order.map((row) => [
      row.toBest[product] > LOST ? `**${nameOf(row)}**` : nameOf(row),
      ratio(row.toBest[product]),
      row.best ?? '',
      ratio(row.toLimit[product]),
      ...products.map((name) => text(row, name)),
      ...shown.map((name) => text(row, name)),
      ulps(row.ulp[product]),
      ulps(row.ulp[row.best]),
    ]);
    const head = ['cell', 'to the best peer', 'which', 'to the limit', ...products, ...shown, 'ulp', "best peer's ulp"];
    return `### ${run}\n\n${table(head, body)}\n`;
  });
  const about = [
    `\`${report.command}\`, ${report.date}: ${machine.cpu}, ${machine.processors} processors, ${machine.caches}, ` +
      `${machine.system}, Node ${machine.node}, commit ${machine.commit}; ` +
      Object.entries(versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(', '),
    'Times in microseconds. Ratios are of medians within one interleaved run; cells above 1.1 of the best peer are bold.',
  ];
  return `${about.join('\n\n')}\n\n\`\`\`\n${summary(report)}\n\`\`\`\n\n${parts.join('\n')}`;
}

/** FILE.md and FILE.svg. */
export function write(report, base) {
  writeFileSync(`${base}.md`, markdown(report));
  writeFileSync(`${base}.svg`, chart(report));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [file] = process.argv.slice(2);
  const report = JSON.parse(readFileSync(file, 'utf8'));
  write(report, file.replace(/\.json$/, ''));
  console.log(summary(report));
}
