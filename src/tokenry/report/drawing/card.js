// What is known of one token: its text, facts in two columns, and a bar for each layer.

import { element, shape } from "./elements.js";

const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };
const TALL = 38; // pixels of the longest bar

/** The nodes of a card; a fact is a name, a value and perhaps a class. */
export function cardOf(token, facts, ...more) {
  const list = element("dl");
  for (const [name, value, kind] of facts) list.append(element("dt", name), element("dd", value, kind));
  return [wordOf(token), list, ...more];
}

/** A token with signs for white space, the one thing that cannot be seen. */
function wordOf(token) {
  const out = element("p", "", "word");
  for (const piece of token.split(/(\s)/u)) if (piece) out.append(SIGNS[piece] ? element("i", SIGNS[piece]) : piece);
  return out;
}

/** A bar for each layer, from bytes; `now` is the layer that is shown elsewhere, or -1. */
export function barsOf(values, now, name) {
  const out = element("div", "", "spark"), pitch = 100 / values.length;
  const svg = shape("svg", { width: "100%", height: TALL + 2, "aria-hidden": "true" });
  values.forEach((value, layer) => {
    const tall = (value / 255) * TALL, x = `${layer * pitch + pitch * 0.1}%`;
    svg.append(shape("rect", { x, y: TALL + 1 - tall, width: `${pitch * 0.8}%`, height: tall, class: layer === now ? "now" : "" }));
  });
  svg.append(shape("line", { x1: 0, x2: "100%", y1: TALL + 1.5, y2: TALL + 1.5 }));
  const ends = element("p", element("span", "layer 0"), "ends");
  ends.append(element("span", name), element("span", String(values.length - 1)));
  out.append(svg, ends);
  return out;
}
