// The product's time over the best peer's, on a logarithmic scale, one dot a cell, as SVG text that needs nothing else.

import { scaleLog } from 'd3-scale';
import { LOST } from './ratios.mjs';

const names = {
  batchnorm: 'BatchNorm',
  instancenorm: 'InstanceNorm',
  groupnorm: 'GroupNorm',
  layernorm: 'LayerNorm',
  rmsnorm: 'RMSNorm',
  lrn: 'LocalResponseNorm',
};
const modes = ['train', 'eval', 'backward'];
const ink = { text: '#1f2328', faint: '#59636e', grid: '#e4e7ea', band: '#f6f8fa', lost: '#c8281e' };
const threadColors = ['#0969da', '#d4820a', '#1a7f37', '#8250df'];

const width = 820;
const plot = { left: 204, right: width - 28, top: 104 };
const row = 22;
const gap = 10; // between layers
const radius = 4.2;

/** Vertical places of dots at these x, so that none lies on another: 0, or a step up or down. */
function dodge(xs) {
  const placed = [];
  return xs.map((x) => {
    const steps = [0, -1, 1, -2, 2].map((step) => step * radius * 0.95);
    const free = (dy) => placed.every((dot) => Math.hypot(dot.x - x, dot.dy - dy) > 1.7 * radius);
    const dy = steps.find(free) ?? 0;
    placed.push({ x, dy });
    return dy;
  });
}

const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
const text = (x, y, content, attributes = '') => `<text x="${x}" y="${y}" ${attributes}>${escaped(content)}</text>`;
const plural = (count) => `${count} thread${count > 1 ? 's' : ''}`;

/** @param product whose ratios; the cells with reused outputs */
export function chart({ cells, products: [product], versions, machine, date }) {
  const shown = cells.filter(({ variant, toBest }) => variant === 'reused' && toBest[product]);
  if (shown.length === 0) return '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>\n';
  const threads = [...new Set(shown.map((cell) => cell.threads))].sort((a, b) => a - b);
  const ratios = shown.map(({ toBest }) => toBest[product]);
  const x = scaleLog([Math.min(...ratios, 0.5) / 1.15, Math.max(...ratios, 1.5) * 1.15], [plot.left, plot.right]);

  // Lanes: a layer's modes, where there are cells of them.
  let y = plot.top;
  const lanes = [];
  const bands = [];
  for (const op of Object.keys(names)) {
    const own = modes.filter((mode) => shown.some((cell) => cell.op === op && cell.mode === mode));
    if (own.length === 0) continue;
    const height = own.length * row;
    bands.push(
      `<rect x="${plot.left}" y="${y}" width="${plot.right - plot.left}" height="${height}" fill="${ink.band}"/>`,
      text(16, y + height / 2 + 4, names[op], `fill="${ink.text}"`),
    );
    own.forEach((mode, i) => lanes.push({ op, mode, y: y + (i + 0.5) * row }));
    y += height + gap;
  }
  const bottom = y - gap;

  const ticks = x.ticks().filter((tick) => /^[125]/.test(String(tick).replace(/^[0.]+/, '')));
  const axis = ticks.map((tick) => {
    const at = x(tick).toFixed(1);
    const strong = tick === 1;
    return [
      `<path d="M${at} ${plot.top - 6}V${bottom + 6}" stroke="${strong ? ink.text : ink.grid}" stroke-width="${strong ? 1.5 : 1}"/>`,
      text(at, bottom + 22, tick === 1 ? 'the best peer' : String(tick), 'text-anchor="middle"'),
    ].join('');
  });
  const dots = lanes.flatMap((lane) => {
    const own = shown
      .filter((cell) => cell.op === lane.op && cell.mode === lane.mode)
      .sort((a, b) => a.toBest[product] - b.toBest[product]);
    const xs = own.map((cell) => x(cell.toBest[product]));
    const offsets = dodge(xs);
    return own.map((cell, i) => {
      const color = threadColors[threads.indexOf(cell.threads) % threadColors.length];
      const ratio = cell.toBest[product];
      const edge = ratio > LOST ? ink.lost : '#fff';
      const title = `${cell.id} ${cell.mode}, ${plural(cell.threads)}: ${ratio.toFixed(2)} of ${cell.best}`;
      return (
        `<circle cx="${xs[i].toFixed(1)}" cy="${(lane.y + offsets[i]).toFixed(1)}" r="${radius}" fill="${color}" ` +
        `stroke="${edge}" stroke-width="${ratio > LOST ? 1.8 : 0.8}"><title>${escaped(title)}</title></circle>`
      );
    });
  });
  const labels = lanes.map((lane) =>
    text(plot.left - 10, lane.y + 4, lane.mode, `text-anchor="end" fill="${ink.faint}"`),
  );
  const height = bottom + 62;
  const base = height - 16;
  const keys = [
    ...threads.map((count, i) => ({ color: threadColors[i % threadColors.length], name: plural(count) })),
    { color: '#fff', edge: ink.lost, name: `above ${LOST}: lost` },
  ];
  const legend = keys.map(({ color, edge = color, name }, i) => {
    const at = plot.right - 100 * (keys.length - i);
    const dot = `<circle cx="${at}" cy="${base - 4}" r="${radius}" fill="${color}" stroke="${edge}" stroke-width="1.8"/>`;
    return dot + text(at + 11, base, name);
  });
  const peers = [...new Set(shown.map(({ best }) => best))].map((name) => `${name} ${versions[name]}`).join(', ');
  const one = x(1);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}"
  font-family="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="12.5" fill="${ink.faint}">
<rect width="100%" height="100%" fill="#fff"/>
${text(16, 32, `Time of ${product} over that of the best peer`, `font-size="18" font-weight="600" fill="${ink.text}"`)}
${text(16, 54, `One dot a cell, ${shown.length} in all; best of ${peers}.`)}
${text(one - 10, plot.top - 16, '← faster', `text-anchor="end" fill="${ink.text}"`)}
${text(one + 10, plot.top - 16, 'slower →', `fill="${ink.text}"`)}
${bands.join('\n')}
${axis.join('\n')}
${labels.join('\n')}
${dots.join('\n')}
${legend.join('\n')}
${text(16, base, `${machine.cpu}, ${machine.processors} processors, Node ${machine.node}, ${date}`, 'font-size="11"')}
</svg>
`;
}
