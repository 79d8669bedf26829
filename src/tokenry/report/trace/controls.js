// The form above the document: it shows what is chosen, and says when something else is.

import { element } from "../drawing/elements.js";
import { READ_LABELS } from "../drawing/kinds.js";
import { sampleOf, scaleOf } from "../drawing/legend.js";
import { count, percent } from "../drawing/numbers.js";

const $ = (id) => document.getElementById(id);
const form = $("controls");

/** Make what depends on the trace: the steps, and what is there only with several documents or with reads. */
export function build(trace, books) {
  const steps = $("pick-step").querySelector(".seg");
  const total = books.reduce((sum, book) => sum + book.n, 0);
  const names = [["Original", total], ...trace.steps.map((step, s) => [`${s + 1} ${step.method}`, step.tokens_out])];
  names.forEach(([name, tokens], s) => {
    const label = element("label"), input = element("input"), face = element("span", name);
    input.type = "radio"; input.name = "step"; input.value = String(s);
    if (tokens !== null) face.append(element("small", count(tokens)));
    label.append(input, face);
    steps.append(label);
  });
  $("pick-doc").hidden = books.length < 2;
  $("pick-paint").hidden = $("pick-layer").hidden = $("heat").hidden = !trace.reads;
}

/** Show a state. */
export function sync(state, trace, book) {
  for (const name of ["step", "paint", "dropped"])
    for (const input of form.querySelectorAll(`input[name=${name}]`)) input.checked = input.value === String(state[name]);
  form.elements.doc.value = String(state.doc);
  form.elements.layer.value = String(state.layer);
  if (document.activeElement !== form.elements.find) form.elements.find.value = state.find;
  const mean = state.layer < 0;
  $("layer-name").textContent = mean ? "mean of all" : String(state.layer);
  form.elements.layer.setAttribute("aria-valuetext", mean ? "mean of all layers" : `layer ${state.layer}`);
  const left = book.kept[state.step]().reduce((a, b) => a + b, 0);
  $("summary").textContent = `${count(left)} of ${count(book.n)} tokens kept, ${percent(left / Math.max(1, book.n))}`;
  $("legend").replaceChildren(...legendOf(state, trace, book));
}

/** Say how many matches there are, and which is shown. */
export function showFound(hit, hits, find) {
  const said = find.trim() ? "no match" : "";
  $("found").textContent = hits.length ? `${count(hit + 1)} of ${count(hits.length)}` : said;
}

/** Call `changed` with every choice; moves of the slider and letters come at most once in a frame. */
export function listen(changed) {
  let queued = null;
  const soon = (change) => {
    if (queued) { Object.assign(queued, change); return; }
    queued = change;
    requestAnimationFrame(() => { const now = queued; queued = null; changed(now); });
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  $("reading").addEventListener("input", ({ target }) => {
    if (target.name === "layer") soon({ layer: Number(target.value), paint: "reads" });
    else if (target.name === "find") soon({ find: target.value, at: null });
    else if (target.name === "doc" || target.name === "step") changed({ [target.name]: Number(target.value), at: null });
    else changed({ [target.name]: target.value });
  });
}

/** Call `turn` with 1 or -1 for the next match and the one before; a slash leads to the field. */
export function listenToFind(turn) {
  const field = form.elements.find;
  $("reading").addEventListener("keydown", (event) => {
    if (event.target !== field || event.key !== "Enter") return;
    event.preventDefault();
    turn(event.shiftKey ? -1 : 1);
  });
  $("prev").addEventListener("click", () => turn(-1));
  $("next").addEventListener("click", () => turn(1));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
    event.preventDefault();
    field.focus();
  });
}

function legendOf(state, trace, book) {
  const scorer = book.scorer[state.step], none = Array(8).fill("\u2007");
  const tints = state.paint === "reads" ? scaleOf("read in", "r", READ_LABELS, "% of decoding steps")
    : scorer >= 0 ? scaleOf(`importance by ${trace.steps[scorer].method}  0`, "i", none, "1")
    : sampleOf("k", "kept");
  const items = [tints, sampleOf("d", "dropped")];
  if (book.passages.length) items.push(sampleOf("p", "recovered passage"));
  return items;
}
