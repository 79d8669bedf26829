// The whole text as a narrow strip: what is kept grows from the left, what is read from the right.

import { cell, colours, penOf, tokenAtPart } from "./canvas.js";

const ROW = 2; // pixels of a row
const EDGE = 6; // pixels beside the lanes, where matches stand
const KEPT_LANE = 0.56; // of the width, where reads have the rest

export class PlaceMap {
  #base = null; #n = 0;

  /** `chosen` is called with the token at the place that was pressed. */
  constructor(canvas, chosen) {
    this.canvas = canvas;
    const choose = (event) => {
      const box = canvas.getBoundingClientRect();
      chosen(tokenAtPart((event.clientY - box.top) / box.height, this.#n));
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); choose(event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) choose(event); });
  }

  /** Draw tokens: `kept` by token, `reads` by token or null, `passages` and `hits` as pairs of tokens. */
  draw({ kept, reads, passages, hits }) {
    const n = (this.#n = kept.length);
    if (!n) return;
    const [pen, width, height] = penOf(this.canvas), ink = colours(this.canvas);
    const rows = Math.max(1, Math.min(n, Math.floor(height / ROW))), tall = height / rows;
    const share = means(kept, rows), read = reads ? means(reads, rows) : null;
    const lane = read ? width * KEPT_LANE : width - EDGE, most = read ? Math.max(1e-6, ...read) : 1;
    for (let row = 0; row < rows; row++) {
      pen.fillStyle = `rgb(${ink.tint} / 0.75)`;
      pen.fillRect(0, row * tall, share[row] * lane, Math.max(1, tall - 0.4));
      if (!read) continue;
      pen.fillStyle = `rgb(${ink.heat} / 0.9)`;
      const long = (read[row] / most) * (width - lane - EDGE);
      pen.fillRect(width - long, row * tall, long, Math.max(1, tall - 0.4));
    }
    pen.fillStyle = ink.accent;
    for (const [first, last] of passages) pen.fillRect(0, (first / n) * height - 1, width, Math.max(2.5, ((last - first) / n) * height));
    pen.fillStyle = ink.ink;
    for (const [first] of hits) pen.fillRect(width - EDGE, (first / n) * height, EDGE, 1.5);
    this.#base = pen.getImageData(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Draw a frame around the tokens that can be seen; `part` from 0 to 1 says how far the text is scrolled. */
  frame(first, last, part) {
    if (!this.#base) return;
    const { canvas } = this, pen = canvas.getContext("2d"), ink = colours(canvas), height = canvas.clientHeight;
    pen.putImageData(this.#base, 0, 0);
    const top = (first / this.#n) * height, tall = Math.max(6, ((last - first + 1) / this.#n) * height);
    pen.fillStyle = `rgb(${ink.tint} / 0.12)`;
    pen.fillRect(0, top, canvas.clientWidth, tall);
    pen.strokeStyle = ink.ink; pen.lineWidth = 1.25;
    pen.strokeRect(0.75, top + 0.75, canvas.clientWidth - 1.5, Math.max(4, tall - 1.5));
    canvas.setAttribute("aria-valuenow", String(Math.round(100 * part)));
  }
}

function means(values, rows) {
  return Float32Array.from({ length: rows }, (_, row) => {
    const [from, to] = cell(row, rows, values.length);
    let sum = 0;
    for (let i = from; i < to; i++) sum += values[i];
    return sum / (to - from);
  });
}
