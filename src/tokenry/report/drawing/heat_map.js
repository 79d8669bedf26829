// Every layer at once: how much of each place was read, the first layer on top.

import { cell, colours, penOf, tokenAtPart } from "./canvas.js";

const COLUMNS = 240;

export class HeatMap {
  #base = null; #layers = 0; #n = 0;

  /** `chosen` is called with the layer and the token that were pressed. */
  constructor(canvas, chosen) {
    this.canvas = canvas;
    canvas.addEventListener("click", (event) => {
      const box = canvas.getBoundingClientRect();
      const layer = tokenAtPart((event.clientY - box.top) / box.height, this.#layers);
      chosen(layer, tokenAtPart((event.clientX - box.left) / box.width, this.#n));
    });
  }

  /** Draw the cells that `heatOf` gives. */
  draw({ wide, layers, n, cells, most }) {
    this.#layers = layers; this.#n = n;
    const [pen, width, height] = penOf(this.canvas), { heat } = colours(this.canvas);
    const tall = height / layers, across = width / wide;
    pen.clearRect(0, 0, width, height);
    for (let layer = 0; layer < layers; layer++) for (let x = 0; x < wide; x++) {
      const value = cells[layer * wide + x];
      if (!value) continue;
      pen.fillStyle = `rgb(${heat} / ${(0.06 + 0.94 * Math.sqrt(value / most)).toFixed(3)})`;
      pen.fillRect(x * across, layer * tall, across + 0.3, tall + 0.3);
    }
    this.#base = pen.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Draw a frame around a layer and a line at a token; -1 is none. */
  cross(layer, token) {
    if (!this.#base) return;
    const { canvas } = this, pen = canvas.getContext("2d"), width = canvas.clientWidth, tall = canvas.clientHeight / this.#layers;
    pen.putImageData(this.#base, 0, 0);
    pen.strokeStyle = pen.fillStyle = colours(canvas).ink; pen.lineWidth = 1.25;
    if (layer >= 0) pen.strokeRect(0.75, layer * tall - 0.5, width - 1.5, tall + 1);
    if (token >= 0) pen.fillRect((token / this.#n) * width, 0, 1, canvas.clientHeight);
  }
}

/** Means of the bytes of each layer, as shares, over at most `COLUMNS` stretches of the text. */
export function heatOf(rows) {
  const layers = rows.length, n = rows[0].length, wide = Math.min(COLUMNS, n), cells = new Float32Array(wide * layers);
  rows.forEach((row, layer) => {
    for (let x = 0; x < wide; x++) {
      const [from, to] = cell(x, wide, n);
      let sum = 0;
      for (let i = from; i < to; i++) sum += row[i];
      cells[layer * wide + x] = sum / (to - from) / 255;
    }
  });
  return { wide, layers, n, cells, most: cells.reduce((a, b) => Math.max(a, b), 1e-6) };
}
