import { resolve } from 'node:path';
import { StateError } from '../internal/errors';
import { replaceFile, runSync } from '../io/files';
import { listData, type RunningMoments } from '../preprocessing';
import { openData, type DataBatch, type DataOptions } from '../preprocessing/data';
import { peer } from '../preprocessing/data/peer';
import {
  dataFlags,
  dataOptionsOf,
  dataUsage,
  interruptible,
  outFile,
  parse,
  someOf,
  text,
  type Command,
} from './command';
import { checkNames, loadStats } from './merge';
import { progressBar } from './progress';
import { nameOf } from './table';

const usage = `simdnorm report --stats STATS DATA... --out FILE.html [options]

  One page, which needs nothing else: every feature's histogram before and after it is standardised, and which features
  are constant, have missing values or are not finite. Drawn by the package echarts.

  --stats STATS       of \`simdnorm stats --out\`
  --out FILE.html
${dataUsage}`;

const bins = 48;
const reach = 4; // standard deviations that the histograms after show
const mostCharts = 200;

/** How many values fall where: before between min and max, after within `reach` deviations, the rest in the end bins. */
interface Histograms {
  before: Float64Array;
  after: Float64Array;
}

/** From where to where a feature's histogram before goes: a constant stands in the middle. */
function extent({ min, max }: RunningMoments, c: number): [low: number, high: number] {
  const [low, high] = [min[c]!, max[c]!];
  const around = low === high ? Math.abs(low) / 2 || 0.5 : 0;
  return [low - around, high + around];
}

/** Counts the values of one batch. */
function count({ data, axis }: DataBatch, moments: RunningMoments, into: Histograms[]): void {
  const at = axis < 0 ? axis + data.ndim : axis;
  const x = data.to('float64');
  const { mean } = moments;
  const std = moments.std();
  const order = [at, ...x.shape.flatMap((_, i) => (i === at ? [] : [i]))];
  const rows = x.permute(order).contiguous();
  const each = rows.size / Math.max(1, into.length);
  const values = rows.data as Float64Array;
  const bin = (place: number): number => Math.min(bins - 1, Math.max(0, Math.floor(place * bins)));
  into.forEach(({ before, after }, c) => {
    const [low, high] = extent(moments, c);
    const [center, scale] = [mean[c]!, std[c]! || 1];
    for (let i = rows.offset + c * each; i < rows.offset + (c + 1) * each; i++) {
      const v = values[i]!;
      if (!Number.isFinite(v)) continue;
      before[bin((v - low) / (high - low))]!++;
      after[bin(((v - center) / scale + reach) / (2 * reach))]!++;
    }
  });
}

const escaped = (s: string): string =>
  s.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);
const figure = (v: number): string => String(Number(v.toPrecision(Number.isInteger(v) ? 15 : 5)));

type Charts = typeof import('echarts', { with: { 'resolution-mode': 'import' } });

/** One histogram as SVG. */
function chart(echarts: Charts, counts: Float64Array, low: number, high: number, title: string): string {
  const canvas = echarts.init(null, null, { renderer: 'svg', ssr: true, width: 420, height: 200 });
  const width = (high - low) / counts.length;
  canvas.setOption({
    animation: false,
    title: { text: title, left: 0, top: 0, textStyle: { fontSize: 12, fontWeight: 'normal' } },
    grid: { left: 60, right: 12, top: 28, bottom: 24 },
    xAxis: { type: 'value', min: low, max: high, axisLabel: { formatter: figure, hideOverlap: true } },
    yAxis: { type: 'value', splitNumber: 3 },
    series: [
      {
        type: 'bar',
        barWidth: '98%',
        color: '#4477aa',
        data: Array.from(counts, (n, k) => [low + (k + 0.5) * width, n]),
      },
    ],
  });
  const svg = canvas.renderToSVGString();
  canvas.dispose();
  return svg;
}

/** What is to be looked at, in words. */
function remarks(moments: RunningMoments): string[] {
  const std = moments.std();
  return Array.from(moments.count, (n, i) => {
    const name = nameOf(moments, i);
    const said = [
      ...(n === 0 ? ['has no values'] : std[i] === 0 ? [`is constant: ${figure(moments.mean[i]!)}`] : []),
      ...(moments.missing[i]! > 0 ? [`has ${moments.missing[i]} missing values`] : []),
      ...(n > 0 && !Number.isFinite(moments.mean[i]!) ? ['is not finite'] : []),
    ];
    return said.length > 0 ? `${name} ${said.join(', ')}` : '';
  }).filter(Boolean);
}

function page(moments: RunningMoments, histograms: readonly Histograms[], files: number, echarts: Charts): string {
  const { count: n, missing, mean, min, max } = moments;
  const std = moments.std();
  const cells = (row: string[], tag: string): string =>
    `<tr>${row.map((c) => `<${tag}>${escaped(c)}</${tag}>`).join('')}</tr>`;
  const rows = Array.from(n, (count, i) =>
    cells([nameOf(moments, i), ...[count, missing[i]!, mean[i]!, std[i]!, min[i]!, max[i]!].map(figure)], 'td'),
  );
  const odd = remarks(moments);
  const charts = histograms.slice(0, mostCharts).map(({ before, after }, i) => {
    if (!(n[i]! > 0) || !Number.isFinite(mean[i]!)) return '';
    const [low, high] = extent(moments, i);
    return `<h3>${escaped(nameOf(moments, i))}</h3><p>${chart(echarts, before, low, high, 'before')}${chart(echarts, after, -reach, reach, 'after, in standard deviations')}</p>`; // prettier-ignore
  });
  const left = histograms.length - charts.length;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>simdnorm report</title>
<style>
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 900px; color: #222 }
table { border-collapse: collapse } td, th { padding: 2px 12px; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left } h3 { margin: 1.2em 0 0 } p { margin: 0.4em 0 }
</style>
<h1>${files} file${files === 1 ? '' : 's'}, ${moments.features} feature${moments.features === 1 ? '' : 's'}</h1>
<h2>To look at</h2>
${odd.length > 0 ? `<ul>${odd.map((line) => `<li>${escaped(line)}</li>`).join('')}</ul>` : '<p>No feature is constant, none has missing values, all are finite.</p>'}
<h2>Statistics</h2>
<table>${cells(['feature', 'count', 'missing', 'mean', 'std', 'min', 'max'], 'th')}${rows.join('\n')}</table>
<h2>Histograms</h2>
${charts.join('\n')}
${left > 0 ? `<p>${left} more features are not drawn.</p>` : ''}
</html>
`;
}

async function run(args: string[]): Promise<void> {
  const { values, positionals } = parse(args, { stats: { type: 'string' }, out: { type: 'string' }, ...dataFlags });
  const moments = loadStats(text(values, 'stats'));
  const out = outFile(values)!;
  const files = listData(someOf(positionals, 'DATA')).filter(
    (file) => resolve(file) !== resolve(text(values, 'stats')),
  );
  const options: DataOptions = dataOptionsOf(values);
  const echarts = await peer(() => import('echarts'), 'echarts', 'simdnorm report');
  const histograms = Array.from({ length: moments.features }, () => ({
    before: new Float64Array(bins),
    after: new Float64Array(bins),
  }));
  const bar = await progressBar(files.length);
  try {
    await interruptible(async (signal) => {
      for (const [i, file] of files.entries()) {
        const { parts, read } = await openData(file, options);
        for (let part = 0; part < parts; part++) {
          for await (const batch of read(part) as AsyncIterable<DataBatch>) {
            signal.throwIfAborted();
            const features = batch.data.shape.at(batch.axis);
            if (features !== moments.features) {
              throw new StateError('ERR_DATA', `${file}: it has ${features} features, the statistics are of ${moments.features}`); // prettier-ignore
            }
            checkNames(file, batch.names, moments);
            count(batch, moments, histograms);
          }
        }
        bar.update(i + 1, '');
      }
    });
  } finally {
    bar.stop();
  }
  runSync(replaceFile(out, [Buffer.from(page(moments, histograms, files.length, echarts))], 'simdnorm report'));
  console.log(out);
}

export const report: Command = { usage, run };
