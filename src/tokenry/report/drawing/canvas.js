// Canvases as sharp as the screen, in the colours of the page.

/** Pen, width and height; lengths are those of the page whatever the screen's pixels are. */
export function penOf(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.scale(ratio, ratio);
  return [pen, width, height];
}

/** The colours that hold now: they change with light and dark. */
export function colours(element) {
  const style = getComputedStyle(element), of = (name) => style.getPropertyValue(`--${name}`).trim();
  return { tint: of("tint"), heat: of("heat"), ink: of("ink"), accent: of("accent") };
}

/** Token where a part from 0 to 1 of a text of `n` tokens ends. */
export const tokenAtPart = (part, n) => Math.max(0, Math.min(n - 1, Math.floor(part * n)));

/** From and to, of the tokens that the cell `at` of `cells` stands for; at least one. */
export function cell(at, cells, n) {
  const from = Math.floor((at * n) / cells);
  return [from, Math.max(from + 1, Math.floor(((at + 1) * n) / cells))];
}
