// Curves on a logarithmic scale, as SVG text. d3-scale places the ticks; a few lines of markup need no library.

import { scaleLinear, scaleLog } from 'd3-scale';

export interface Curve {
  name: string;
  color: string;
  points: { x: number; y: number }[];
}

const [width, height] = [760, 440];
const plot = { left: 64, right: width - 24, top: 76, bottom: height - 52 };

export function chart(text: { title: string; subtitle: string; x: string; y: string }, curves: Curve[]): string {
  // A loss that overflowed has no place on paper: its curve ends there.
  const drawn = curves.map((curve) => {
    const end = curve.points.findIndex(({ y }) => !Number.isFinite(y) || y <= 0);
    return { ...curve, points: end < 0 ? curve.points : curve.points.slice(0, end) };
  });
  const points = drawn.flatMap((curve) => curve.points);
  const x = scaleLinear([0, Math.max(...points.map((p) => p.x))], [plot.left, plot.right]);
  const extent = [Math.min(...points.map((p) => p.y)), Math.max(...points.map((p) => p.y))];
  const y = scaleLog(extent, [plot.bottom, plot.top]).nice();

  const xTicks = x.ticks(10).map((tick) => {
    const at = x(tick).toFixed(1);
    return `<text x="${at}" y="${plot.bottom + 18}" text-anchor="middle">${tick}</text>`;
  });
  const yTicks = y.ticks().map((tick) => {
    const at = y(tick).toFixed(1);
    const decade = Number.isInteger(Math.log10(tick));
    const line = `<path d="M${plot.left} ${at}H${plot.right}" stroke="${decade ? '#c4c8ce' : '#eef0f2'}"/>`;
    return decade ? `${line}<text x="${plot.left - 8}" y="${at}" dy="4" text-anchor="end">${tick}</text>` : line;
  });
  const lines = drawn.map(({ color, points }) => {
    const path = points.map((p) => `${x(p.x).toFixed(1)},${y(p.y).toFixed(1)}`).join(' ');
    return `<polyline points="${path}" fill="none" stroke="${color}" stroke-width="2.5" stroke-linejoin="round"/>`;
  });
  const legend = drawn.map(({ name, color }, i) => {
    const [from, at] = [plot.right - 158, 28 + 22 * i];
    const line = `<path d="M${from} ${at}h24" stroke="${color}" stroke-width="2.5"/>`;
    return `${line}<text x="${plot.right - 126}" y="${at}" dy="4" fill="#1f2328">${name}</text>`;
  });
  const middle = (plot.top + plot.bottom) / 2;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}"
  font-family="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="13" fill="#59636e">
<rect width="100%" height="100%" fill="#fff"/>
<text x="${plot.left}" y="32" font-size="18" font-weight="600" fill="#1f2328">${text.title}</text>
<text x="${plot.left}" y="54">${text.subtitle}</text>
${yTicks.join('\n')}
<path d="M${plot.left} ${plot.bottom}H${plot.right}" stroke="#59636e"/>
${xTicks.join('\n')}
<text x="${(plot.left + plot.right) / 2}" y="${height - 12}" text-anchor="middle">${text.x}</text>
<text transform="translate(18 ${middle}) rotate(-90)" text-anchor="middle">${text.y}</text>
${lines.join('\n')}
${legend.join('\n')}
</svg>
`;
}
