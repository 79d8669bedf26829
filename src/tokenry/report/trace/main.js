// The page of a trace: one state, and everything that is drawn of it.

import "./errors.js";
import { linkOf, remember, startOf, stateOf } from "./address.js";
import { booksOf, fateOf } from "./books.js";
import { build, listen, listenToFind, showFound, sync } from "./controls.js";
import { barsOf, cardOf } from "../drawing/card.js";
import { HeatMap } from "../drawing/heat_map.js";
import { kindsOf } from "../drawing/kinds.js";
import { count, percent } from "../drawing/numbers.js";
import { PlaceMap } from "../drawing/place_map.js";
import { Pointing } from "../drawing/pointing.js";
import { readLines } from "../drawing/readout.js";
import { find } from "../drawing/search.js";
import { TokenText } from "../drawing/tokens.js";

const FLASHES = 2600; // milliseconds
const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const calm = matchMedia("(prefers-reduced-motion: reduce)"), wide = matchMedia("(min-width: 60.01rem)");

const trace = JSON.parse($("trace").textContent), layers = trace.reads ? trace.reads.layers : 0;
const books = booksOf(trace), start = startOf(trace, books);
const card = $("card"), hint = card.firstElementChild;
const text = new TokenText($("text")), pointing = new Pointing(text, inspect);
const map = new PlaceMap($("map"), (token) => text.bringTo(token, false));
const heat = new HeatMap($("heatmap"), (layer, token) => { set({ layer, paint: "reads" }); bringTo(token); });

let state = start, hits = [], hit = -1, fading = 0;

const book = () => books[state.doc];
const bringTo = (token) => text.bringTo(token, !calm.matches);

function kindsNow() {
  const reads = state.paint === "reads" && layers;
  const values = reads ? book().reads(state.layer) : book().importance[state.step]();
  return kindsOf(book().kept[state.step](), values, reads ? "reads" : "importance");
}

/** Take over a new state; only what it changes is drawn again. */
function set(change, bring = false) {
  const old = state;
  state = { ...state, ...change };
  if (state.paint === "reads" && !layers) state.paint = "importance";
  sync(state, trace, book());
  text.element.className = `text ${state.dropped}`;
  for (const name of ["doc", "step", "layer", "paint", "dropped"]) root.dataset[name] = state[name];
  const ready = () => {
    if (state.find !== old.find || state.doc !== old.doc) search();
    if (state.at && (state.at !== old.at || bring)) jump(state.at, bring);
    drawMap();
    if (state.doc !== old.doc || !root.dataset.ready) drawHeat(); else drawCross();
    root.dataset.ready = "1";
    root.dataset.tokens = String(text.length);
  };
  if (state.doc !== old.doc || !text.length) {
    delete root.dataset.ready;
    pointing.forget();
    text.show(book().tokens, kindsNow(), book().passages, ready);
  } else {
    // What is read stays where it is while tokens above it come or go.
    const top = text.visible()[0], moves = state.dropped !== old.dropped || (state.dropped === "hide" && state.step !== old.step);
    text.paint(kindsNow());
    if (moves) { text.moved(); text.begin(top); }
    inspect(false);
    ready();
  }
  remember(state, start);
}

function drawMap() {
  const reads = layers ? book().reads(state.layer) : null;
  map.draw({ kept: book().kept[state.step](), reads, passages: book().passages, hits });
  drawFrame();
}

function drawFrame() {
  if (!text.length) return;
  const { scrollTop, scrollHeight, clientHeight } = text.element, room = scrollHeight - clientHeight;
  map.frame(...text.visible(), room > 0 ? scrollTop / room : 0);
}

function drawHeat() {
  if (!layers || !book().n) return;
  heat.draw(book().heat());
  $("heat-note").textContent = `Layer 0 on top. Strongest place ${percent(book().heat().most)}.`;
  drawCross();
}

function drawCross() {
  if (layers) heat.cross(state.layer, pointing.token);
}

function inspect(aloud) {
  const i = pointing.token;
  card.setAttribute("aria-live", aloud ? "polite" : "off");
  card.replaceChildren(...(i < 0 ? [hint] : cardOf(book().tokens[i], factsOf(i), ...barsUnder(i))));
  drawCross();
}

function factsOf(i) {
  const facts = [["Index", count(i)]], [stays, fate] = fateOf(book(), trace.steps, i);
  const scores = book().importance[state.step]();
  if (scores) facts.push(["Importance", (scores[i] / 255).toFixed(2)]);
  if (layers) facts.push(["Read, mean", percent(book().reads(-1)[i] / 255)]);
  if (state.layer >= 0) facts.push([`Read, layer ${state.layer}`, percent(book().reads(state.layer)[i] / 255)]);
  return [...facts, ["Fate", fate, stays ? "fate" : "fate no"]];
}

function barsUnder(i) {
  if (!layers || !wide.matches) return [];
  return [barsOf(Array.from({ length: layers }, (_, layer) => book().reads(layer)[i]), state.layer, "reads by layer")];
}

function search() {
  text.unmark("match", "current");
  hits = find(book().tokens, state.find);
  hit = -1;
  for (const [first, last] of hits) text.mark("match", first, last);
  const top = text.visible()[0], next = hits.findIndex(([first]) => first >= top);
  turn(Math.max(0, next), false);
}

function turn(to, smooth) {
  text.unmark("current");
  hit = hits.length ? (to + hits.length) % hits.length : -1;
  if (hit >= 0) text.mark("current", ...hits[hit]);
  text.repaint();
  if (state.dropped === "hide") text.moved();
  showFound(hit, hits, state.find);
  if (hit < 0) return;
  if (smooth) bringTo(hits[hit][0]); else text.bringTo(hits[hit][0], false);
}

/** Let a passage light up. */
function jump([first, last], bring) {
  const end = Math.min(last, text.length - 1);
  if (first > end) return;
  clearTimeout(fading);
  text.unmark("flash");
  text.repaint();
  void text.element.offsetWidth; // lets the animation start anew
  flash(first, end, true);
  if (bring) $("reading").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "start" });
  text.bringTo(first, false);
  root.dataset.flashed = `${first}-${end}`;
  fading = setTimeout(() => flash(first, end, false), FLASHES);
}

function flash(first, last, on) {
  text.mark("flash", first, last, on);
  text.repaint();
  if (state.dropped === "hide") text.moved();
}

function redraw() {
  text.moved();
  drawMap();
  inspect(false);
  drawHeat();
}

const arrive = () => set(stateOf(location.hash, trace, books), location.hash.includes("at="));

listen(set);
listenToFind((by) => turn(hit + by, true));
text.element.addEventListener("scroll", () => requestAnimationFrame(drawFrame), { passive: true });
$("map").addEventListener("keydown", (event) => {
  const page = text.element.clientHeight * 0.9;
  const by = { ArrowDown: 60, ArrowUp: -60, PageDown: page, PageUp: -page, End: 1e9, Home: -1e9 }[event.key];
  if (by) { event.preventDefault(); text.element.scrollBy({ top: by }); }
});
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#doc="]');
  if (!link) return;
  event.preventDefault();
  set(linkOf(link), true);
});
window.addEventListener("hashchange", () => { if (!location.hash || location.hash.includes("=")) arrive(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new ResizeObserver(() => { if (root.dataset.ready) redraw(); }).observe(text.element);
if ($("lines")) {
  const runs = [["this run", "mine", trace.receipt.read_per_step]];
  if (trace.dense) runs.push(["dense", "theirs", trace.dense.receipt.read_per_step]);
  readLines($("lines"), $("cursor"), $("readout"), runs);
}
build(trace, books);
arrive();
