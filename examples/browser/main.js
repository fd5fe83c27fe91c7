// A picture and three copies of it through four layers, and what came of them.
import {
  BatchNorm2d,
  functional,
  GroupNorm,
  imagesToTensor,
  InstanceNorm2d,
  isa,
  LayerNorm,
  tensorToImages,
} from 'simdnorm/wasm';
import { count, drawHistogram, drawSample, paint } from './drawing.js';

const largest = 224; // of a picture's sides

const clamp = (value) => Math.max(0, Math.min(255, Math.round(value)));
/** What happens to a pixel's colours. */
const copies = [
  ['as it is', (r, g, b) => [r, g, b]],
  ['under-exposed', (r, g, b) => [r * 0.4, g * 0.4, b * 0.4]],
  ['faded', (r, g, b) => [r * 0.45 + 130, g * 0.45 + 130, b * 0.45 + 130]],
  ['by lamplight', (r, g, b) => [r * 1.05 + 20, g * 0.8 + 5, b * 0.5]],
];

const affine = false; // no weight and bias: the normalization alone
const columns = [
  {
    key: 'input',
    title: 'Input',
    note: 'The batch as it comes: the same scene four times, in four lights.',
  },
  {
    key: 'batch',
    title: 'BatchNorm2d',
    note: 'One mean and variance per colour, over all four pictures: what makes them differ from each other stays.',
    make: () => new BatchNorm2d(3, { affine, trackRunningStats: false }),
  },
  {
    key: 'layer',
    title: 'LayerNorm, axis 1',
    note: 'One per pixel, over its three colours: brightness is gone everywhere, and hue is all that is left.',
    make: () => new LayerNorm(3, { axis: 1, elementwiseAffine: false }),
  },
  {
    key: 'instance',
    title: 'InstanceNorm2d',
    note: 'One per colour of each picture: exposure, fading and tint all go, and the four become nearly one.',
    make: () => new InstanceNorm2d(3),
  },
  {
    key: 'group',
    title: 'GroupNorm, 1 group',
    note: 'One per picture, over all colours together: exposure and fading go, but a tint stays.',
    make: () => new GroupNorm(1, 3, { affine }),
  },
];

/** The four pictures as bytes, three for each pixel. */
function batchOf({ data, width, height }) {
  return copies.map(([, change]) => {
    const bytes = new Uint8Array(3 * width * height);
    for (let i = 0; i < width * height; i++) {
      bytes.set(change(data[4 * i], data[4 * i + 1], data[4 * i + 2]).map(clamp), 3 * i);
    }
    return { data: bytes, width, height };
  });
}

/** What the page shows, as numbers. */
function compute(pixels) {
  const began = performance.now();
  const images = batchOf(pixels);
  const x = imagesToTensor(images);
  const shown = columns.map(({ make }) => {
    const y = make ? make().forward(x) : x;
    return {
      y,
      // Back to bytes: 128 + 64 y for what is normalized.
      bytes: tensorToImages(y, make ? { mean: 0.5, std: 0.25 } : {}),
      moments: functional.moments(y, [2, 3]),
    };
  });
  return { images, x, shown, milliseconds: performance.now() - began };
}

function make(tag, fields = {}, ...children) {
  const element = Object.assign(document.createElement(tag), fields);
  element.append(...children);
  return element;
}

/** The figures of each column, which stay as pictures change. */
const cells = columns.map(({ title, note }) => {
  const figures = copies.map(([name]) => {
    const picture = make('canvas', { className: 'picture' });
    const histogram = make('canvas', { className: 'histogram' });
    for (const canvas of [picture, histogram]) canvas.setAttribute('role', 'img');
    const table = make('table');
    const figure = make('figure', {}, picture, histogram, make('figcaption', { textContent: name }), table);
    return { figure, picture, histogram, table, name };
  });
  const head = make('div', {}, make('h2', { textContent: title }), make('p', { textContent: note }));
  const section = make('section', {}, head, ...figures.map(({ figure }) => figure));
  section.setAttribute('aria-label', title);
  document.querySelector('#columns').append(section);
  return figures;
});

const shortly = (value) => (Math.abs(value) < 0.0005 ? 0 : value).toFixed(3).replace('-', '−');
function fill(table, mean, variance) {
  const row = (name, values) => make('tr', {}, make('th', { textContent: name, scope: 'row' }), ...values);
  const cell = (value, i) => make('td', { textContent: shortly(value), className: 'rgb'[i] });
  table.replaceChildren(row('μ', [...mean].map(cell)), row('σ²', [...variance].map(cell)));
}

let latest;
function show(result) {
  latest = result;
  const { x, shown } = result;
  const [, , height, width] = x.shape;
  const plane = width * height;
  shown.forEach(({ y, bytes, moments }, column) => {
    const isInput = column === 0;
    const [from, to, marks] = isInput ? [0, 1, [0, 0.5, 1]] : [-3, 3, [-3, -2, -1, 0, 1, 2, 3]];
    cells[column].forEach(({ picture, histogram, table, name }, item) => {
      const { title } = columns[column];
      paint(picture, bytes.data.subarray(3 * plane * item, 3 * plane * (item + 1)), width, height);
      picture.setAttribute('aria-label', `${title}: the picture ${name}`);
      const planes = [0, 1, 2].map((c) => y.data.subarray(plane * (3 * item + c), plane * (3 * item + c + 1)));
      drawHistogram(histogram, count(planes, from, to), from, to, marks);
      histogram.setAttribute('aria-label', `${title}: histograms of red, green and blue of the picture ${name}`);
      const [mean, variance] = [moments.mean, moments.var].map((t) => t.data.subarray(3 * item, 3 * item + 3));
      fill(table, mean, variance);
    });
  });
}

const status = document.querySelector('#status');

function run(pixels, name) {
  const result = compute(pixels);
  show(result);
  const { width, height } = pixels;
  status.textContent = `${name}, ${width} × ${height}: four pictures through four layers and back in ${result.milliseconds.toFixed(1)} ms.`;
  // For tests: the same numbers that are shown.
  window.example = {
    name,
    shape: result.x.shape,
    images: result.images.map(({ data }) => data),
    outputs: Object.fromEntries(columns.map(({ key }, i) => [key, result.shown[i].y.data])),
    moments: Object.fromEntries(
      columns.map(({ key }, i) => [key, [result.shown[i].moments.mean.data, result.shown[i].moments.var.data]]),
    ),
  };
}

function pixelsOf(picture) {
  const scale = Math.min(1, largest / Math.max(picture.width, picture.height));
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
  const c = new OffscreenCanvas(width, height).getContext('2d');
  // What is transparent lies on white.
  c.fillStyle = '#fff';
  c.fillRect(0, 0, width, height);
  c.drawImage(picture, 0, 0, width, height);
  return c.getImageData(0, 0, width, height);
}

const useSample = () => run(pixelsOf(drawSample(largest, 150)), 'The sample');

async function useFile(file) {
  if (!file) return;
  try {
    run(pixelsOf(await createImageBitmap(file)), file.name);
  } catch {
    status.textContent = `This browser cannot read ${file.name} as a picture.`;
  }
}

document.querySelector('#sample').addEventListener('click', useSample);
document.querySelector('#file').addEventListener('change', (event) => useFile(event.target.files[0]));
for (const name of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle('over', name === 'dragenter' || name === 'dragover');
  });
}
document.addEventListener('drop', (event) => useFile(event.dataTransfer.files[0]));
for (const changes of [matchMedia('(prefers-color-scheme: dark)'), window]) {
  changes.addEventListener(changes === window ? 'resize' : 'change', () => show(latest));
}

document.querySelector('#engine').textContent = `Computed by WebAssembly (${isa.active}).`;
useSample();
