// The receipt of all ways side by side: a table of what was measured, and charts of it.

import { element, shape } from "../drawing/elements.js";
import { count, percent, seconds, size } from "../drawing/numbers.js";
import { sizeOf } from "./results.js";

const PITCH = 44; // pixels of a bar with its name
const MOST = 24; // letters of a name beside its figure
const WIDE = 1000, HIGH = 400; // units of the chart of lines
const DASHES = ["", "14 8", "3 7", "20 6 4 6", "2 4", "9 3"]; // lines differ without colour too

const ROWS = [
  ["Tokens of the text", (value) => sizeOf(value)[0], count], ["Left of them", (value) => sizeOf(value)[1], count],
  ["Prompt tokens", (value) => value.trace?.receipt.prompt_tokens, count],
  ["New tokens", (value) => value.trace?.receipt.new_tokens || null, count],
  ["Methods", (value) => value.trace?.steps.length ? value.trace.receipt.steps.filter((step) => step.room === "compress").reduce((sum, step) => sum + (step.seconds || 0), 0) : null, seconds],
  ["Load the model", (value) => value.trace?.receipt.seconds.load, seconds], ["Prefill", (value) => value.trace?.receipt.seconds.prefill, seconds],
  ["First token after", (value) => value.trace?.receipt.seconds.first_token, seconds], ["Decode", (value) => value.trace?.receipt.seconds.decode, seconds],
  ["Tokens a second", (value) => value.trace?.receipt.tokens_per_second, (value) => value.toFixed(1)],
  ["Operations", (value) => value.trace?.receipt.flops, (value) => `${(value / 1e12).toFixed(3)} T`],
  ["Read per step", (value) => mean(value.trace?.receipt.read_per_step), (value) => count(Math.round(value))],
  ["Bytes read", (value) => value.trace?.receipt.bytes_read, size], ["KV cache", (value) => value.trace?.receipt.kv_bytes, size],
  ["Peak memory", (value) => value.trace?.receipt.peak_bytes, size],
  ["Lost beside the model alone, KL", (value) => value.trace?.dense?.kl, (value) => `${value.toFixed(3)} nats a token`],
  ["Same next token as the model alone", (value) => value.trace?.dense?.top1, percent], ["All together", (value) => value.seconds, seconds],
];

const mean = (values) => (values?.length ? values.reduce((a, b) => a + b, 0) / values.length : null);

/** `ran` are pairs of a way's name and what it gave. */
export function costsTable(ran) {
  const table = element("table", "", "compare"), head = element("tr"), heading = element("thead"), body = element("tbody");
  head.append(element("td"), ...ran.map(([name]) => { const cell = element("th", name); cell.scope = "col"; return cell; }));
  for (const [name, of, show] of ROWS) {
    const values = ran.map(([, value]) => of(value) ?? null);
    if (values.every((value) => value === null)) continue;
    const row = element("tr"), label = element("th", name);
    label.scope = "row";
    row.append(label, ...values.map((value) => element("td", value === null ? "–" : show(value))));
    body.append(row);
  }
  heading.append(head);
  table.append(element("caption", "Measured; – was not measured"), heading, body);
  return table;
}

export function charts(ran) {
  const out = [bars("Tokens that are left", ran, (value) => sizeOf(value)[1], count), bars("Time, all together", ran, (value) => value.seconds, seconds)];
  const held = bars("KV cache", ran, (value) => value.trace?.receipt.kv_bytes, size), lines = readLines(ran);
  return [...out, held, lines].filter(Boolean);
}

function bars(title, ran, of, show) {
  const drawn = ran.map(([name, value]) => [name, of(value)]).filter(([, value]) => value !== null && value !== undefined);
  if (!drawn.length) return null;
  const most = Math.max(...drawn.map(([, value]) => value), 1e-9), svg = shape("svg", { width: "100%", height: drawn.length * PITCH, role: "img" });
  svg.setAttribute("aria-label", `${title}: ${drawn.map(([name, value]) => `${name} ${show(value)}`).join(", ")}`);
  drawn.forEach(([name, value], at) => {
    const label = shape("text", { x: 0, y: at * PITCH + 16, class: "name" }), figure = shape("text", { x: "100%", y: at * PITCH + 16, class: "value", "text-anchor": "end" });
    label.append(name.length > MOST ? `${name.slice(0, MOST - 1)}…` : name);
    figure.append(show(value));
    svg.append(label, figure, shape("rect", { class: "track", x: 0, y: at * PITCH + 24, width: "100%", height: 8 }), shape("rect", { class: at ? "theirs" : "mine", x: 0, y: at * PITCH + 24, width: `${((100 * value) / most).toFixed(3)}%`, height: 8 }));
  });
  return figureOf(title, svg);
}

function readLines(ran) {
  const runs = ran.map(([name, value]) => [name, value.trace?.receipt.read_per_step ?? []]).filter(([, values]) => values.length > 1);
  if (!runs.length) return null;
  const most = Math.max(...runs.flatMap(([, values]) => values)), steps = Math.max(...runs.map(([, values]) => values.length));
  const svg = shape("svg", { class: "reads", viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", `Tokens read at each decoding step: ${runs.map(([name, values]) => `${name} ${count(Math.round(mean(values)))} on average`).join(", ")}`);
  const keys = element("p", "", "keys");
  runs.forEach(([name, values], at) => {
    const points = values.map((value, step) => `${((step * WIDE) / Math.max(1, steps - 1)).toFixed(1)},${(HIGH * (1 - value / most)).toFixed(1)}`).join(" ");
    svg.append(shape("polyline", { points, class: `turn${at % 5}`, "stroke-dasharray": DASHES[at % DASHES.length], "vector-effect": "non-scaling-stroke" }));
    keys.append(element("span", `${["—", "– –", "···", "–·–", "··", "- -"][at % 6]} ${name}: ${count(Math.round(mean(values)))} on average`));
  });
  return figureOf(`Tokens read per decoding step, up to ${count(Math.round(most))}`, svg, keys);
}

function figureOf(title, ...content) {
  const out = element("figure");
  out.append(element("figcaption", title), ...content);
  return out;
}
