// What is drawn: a sample, pictures of tensors, histograms. Nothing here normalizes.

/** A valley in the evening, so that there is something to see without a picture of one's own. */
export function drawSample(width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const c = canvas.getContext('2d');
  const sky = c.createLinearGradient(0, 0, 0, height * 0.7);
  sky.addColorStop(0, '#27408f');
  sky.addColorStop(0.55, '#d9795d');
  sky.addColorStop(1, '#f8d58a');
  c.fillStyle = sky;
  c.fillRect(0, 0, width, height);
  const sun = c.createRadialGradient(width * 0.68, height * 0.45, 2, width * 0.68, height * 0.45, height * 0.32);
  sun.addColorStop(0, '#fffbe6');
  sun.addColorStop(0.18, '#ffe9a8');
  sun.addColorStop(1, 'rgba(255, 214, 120, 0)');
  c.fillStyle = sun;
  c.fillRect(0, 0, width, height);
  const hills = [
    ['#7a4a63', 0.56, 0.09, 2.1],
    ['#4a3a5c', 0.66, 0.07, 3.4],
    ['#24443f', 0.78, 0.06, 5.2],
    ['#132a24', 0.9, 0.04, 8.3],
  ];
  hills.forEach(([colour, at, size, waves], i) => {
    c.fillStyle = colour;
    c.beginPath();
    c.moveTo(0, height);
    for (let x = 0; x <= width; x++) {
      const t = x / width;
      const y = at + size * (Math.sin(t * waves * 2 + i) * 0.6 + Math.sin(t * waves * 5.3 + 2 * i) * 0.4);
      c.lineTo(x, height * y);
    }
    c.lineTo(width, height);
    c.fill();
  });
  return canvas;
}

/** Bytes of pixels on a canvas of their size. */
export function paint(canvas, bytes, width, height) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    image.data.set(bytes.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
}

const bins = 64;

/** How many values of each channel fall into each bin; what is beyond the ends is in the last ones. */
export function count(planes, from, to) {
  return planes.map((plane) => {
    const counts = new Float64Array(bins);
    for (const value of plane) {
      const bin = Math.floor(((value - from) / (to - from)) * bins);
      counts[Math.min(bins - 1, Math.max(0, bin))]++;
    }
    return counts;
  });
}

/** Three histograms over one another, with an axis: `marks` are values to name on it. */
export function drawHistogram(canvas, histograms, from, to, marks) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const { width: w, height: h } = canvas.getBoundingClientRect();
  canvas.width = Math.round(w * devicePixelRatio);
  canvas.height = Math.round(h * devicePixelRatio);
  const c = canvas.getContext('2d');
  c.scale(devicePixelRatio, devicePixelRatio);
  const floor = h - 14;
  const x = (value) => ((value - from) / (to - from)) * w;
  c.strokeStyle = colour('line');
  c.fillStyle = colour('quiet');
  c.font = '10px system-ui, sans-serif';
  for (const mark of marks) {
    c.beginPath();
    c.moveTo(x(mark), 0);
    c.lineTo(x(mark), floor);
    c.stroke();
    c.textAlign = mark === from ? 'left' : mark === to ? 'right' : 'center';
    c.fillText(String(mark).replace('-', '−'), x(mark), h - 2);
  }
  // The square root, so that a sky does not hide all else.
  const most = Math.sqrt(Math.max(...histograms.flatMap((counts) => [...counts])));
  histograms.forEach((counts, i) => {
    c.strokeStyle = c.fillStyle = colour(['red', 'green', 'blue'][i]);
    c.lineWidth = 1.25;
    c.beginPath();
    c.moveTo(0, floor);
    counts.forEach((n, bin) => {
      const y = floor - (Math.sqrt(n) / most) * (floor - 2);
      c.lineTo((bin / bins) * w, y);
      c.lineTo(((bin + 1) / bins) * w, y);
    });
    c.lineTo(w, floor);
    c.globalAlpha = 0.14;
    c.fill();
    c.globalAlpha = 1;
    c.stroke();
  });
}
