// The tokens of one result: every stage, what is kept, how important tokens are, and how often each layer reads them.

import { booksOf, fateOf } from "../trace/books.js";
import { barsOf, cardOf } from "../drawing/card.js";
import { element } from "../drawing/elements.js";
import { HeatMap } from "../drawing/heat_map.js";
import { READ_LABELS, kindsOf } from "../drawing/kinds.js";
import { sampleOf, scaleOf } from "../drawing/legend.js";
import { count, percent } from "../drawing/numbers.js";
import { PlaceMap } from "../drawing/place_map.js";
import { Pointing } from "../drawing/pointing.js";
import { TokenRows } from "../drawing/rows.js";
import { find } from "../drawing/search.js";

const DROPPED = [["grey", "Grey"], ["strike", "Strike"], ["hide", "Hide"]];
const TURNS = 5; // colours that take turns
const RESTS = 200; // milliseconds on a token before its neighbours are asked for

let made = 0;

export class Pane {
  #is = {}; #number = ++made; #trace = null; #books = []; #extra = {}; #hits = []; #hit = -1; #asked = 0;
  #view = { doc: 0, step: 0, layer: -1, paint: "turns", dropped: "grey", find: "" };

  /** `neighbours` is asked for the neighbours of a token, by its id. */
  constructor(template, neighbours) {
    this.element = template.content.firstElementChild.cloneNode(true);
    for (const node of this.element.querySelectorAll("[data-is]")) this.#is[node.dataset.is] = node;
    this.neighbours = neighbours;
    const is = this.#is;
    is.text.id = `text-${this.#number}`;
    is.map.setAttribute("aria-controls", is.text.id);
    this.text = new TokenRows(is.text);
    this.pointing = new Pointing(this.text, (aloud) => this.#inspect(aloud));
    this.map = new PlaceMap(is.map, (token) => this.text.bringTo(token, false));
    this.heat = new HeatMap(is.heatmap, (layer, token) => { this.#set({ layer, paint: "reads" }); this.text.bringTo(token, false); });
    this.hint = is.card.firstElementChild;
    this.#choices(is.droppeds, "dropped", DROPPED);
    is.doc.addEventListener("change", () => this.#set({ doc: Number(is.doc.value) }));
    is.layer.addEventListener("input", () => this.#set({ layer: Number(is.layer.value), paint: "reads" }));
    is.find.addEventListener("input", () => this.#set({ find: is.find.value }));
    is.find.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); this.#turn(this.#hit + (event.shiftKey ? -1 : 1)); } });
    is.prev.addEventListener("click", () => this.#turn(this.#hit - 1));
    is.next.addEventListener("click", () => this.#turn(this.#hit + 1));
    is.text.addEventListener("scroll", () => this.#frame(), { passive: true });
    for (const node of [is.text, is.map]) node.addEventListener("keydown", (event) => this.#scroll(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#drawMaps());
    new ResizeObserver(() => this.#drawMaps()).observe(is.text);
  }

  /** Where the result that is shown is chosen. */
  get chooser() { return this.#is.arm; }

  get chooserRow() { return this.#is["pick-arm"]; }

  get view() { return this.#view; }

  /**
   * Show a result: a trace, and of each document ids, places in bytes and what is drawn of some tokens, and whether they
   * have neighbours.
   */
  show(trace, extra) {
    const is = this.#is, same = this.#trace && this.#trace.steps.length === trace.steps.length;
    this.#trace = trace; this.#extra = extra;
    const shown = { ...trace, documents: trace.documents.map((document, d) => ({ ...document, tokens: drawn(document.tokens, extra.shown?.[d]) })) };
    this.#books = booksOf(shown);
    is.doc.replaceChildren(...trace.documents.map((document, d) => new Option(document.name, d)));
    is["pick-doc"].hidden = trace.documents.length < 2;
    const names = [["0", "Original", this.#books.reduce((sum, book) => sum + book.n, 0)], ...trace.steps.map((step, s) => [String(s + 1), `${s + 1} ${step.method}`, step.tokens_out])];
    this.#choices(is.steps, "step", names);
    is["pick-step"].hidden = is["pick-dropped"].hidden = !trace.steps.length;
    const paints = [["turns", "Borders"]];
    if (trace.steps.some((step) => step.importance)) paints.push(["importance", "Importance"]);
    else if (trace.steps.length) paints.push(["importance", "Kept"]);
    if (trace.reads) paints.push(["reads", "Reads"]);
    this.#choices(is.paints, "paint", paints);
    is["pick-paint"].hidden = paints.length < 2;
    is["pick-layer"].hidden = is.heat.hidden = !trace.reads;
    if (trace.reads) is.layer.max = String(trace.reads.layers - 1);
    const view = this.#view, kept = same && paints.some(([paint]) => paint === view.paint);
    if (!kept) Object.assign(view, { step: trace.steps.length, layer: -1, paint: paints.length > 1 ? paints[1][0] : "turns" });
    view.doc = Math.min(view.doc, trace.documents.length - 1);
    is.text.className = `text ${view.dropped}`;
    // Who types far down sees what is there, not the beginning again.
    const place = same ? is.text.scrollTop : 0;
    this.#drawn();
    if (place && !view.find.trim()) is.text.scrollTop = place;
  }

  #set(change) {
    const before = { ...this.#view }, view = Object.assign(this.#view, change);
    if (view.doc !== before.doc) { this.#drawn(); return; }
    this.#is.text.className = `text ${view.dropped}`;
    const top = this.text.visible()[0];
    this.text.paint(this.#kinds());
    if (view.dropped !== before.dropped) { this.text.moved(); this.text.begin(top); }
    if (view.find !== before.find) this.#search();
    this.#sync();
    this.#inspect(false);
    this.#drawMaps();
  }

  /** Draw another text from its beginning. */
  #drawn() {
    this.pointing.forget();
    const book = this.#book;
    this.text.show(book.tokens, this.#kinds(), book.passages, () => {
      this.#search();
      this.#sync();
      this.#inspect(false);
      this.#drawMaps();
    });
  }

  get #book() { return this.#books[this.#view.doc]; }

  #kinds() {
    const { step, paint, layer } = this.#view, book = this.#book, reads = paint === "reads" && this.#trace.reads;
    const values = reads ? book.reads(layer) : book.importance[step]();
    return kindsOf(book.kept[step](), values, paint);
  }

  #choices(home, name, options) {
    home.replaceChildren(...options.map(([value, words, amount]) => {
      const label = element("label"), input = element("input"), face = element("span", words);
      input.type = "radio"; input.name = `${name}-${this.#number}`; input.value = value;
      input.checked = String(this.#view[name]) === value;
      input.addEventListener("change", () => this.#set({ [name]: name === "step" ? Number(value) : value }));
      if (amount !== undefined && amount !== null) face.append(element("small", count(amount)));
      label.append(input, face);
      return label;
    }));
  }

  #sync() {
    const is = this.#is, view = this.#view, book = this.#book;
    for (const name of ["step", "paint", "dropped"])
      for (const input of this.element.querySelectorAll(`input[name=${name}-${this.#number}]`)) input.checked = input.value === String(view[name]);
    is.doc.value = String(view.doc);
    is.layer.value = String(view.layer);
    is["layer-name"].textContent = view.layer < 0 ? "mean of all" : String(view.layer);
    is.layer.setAttribute("aria-valuetext", view.layer < 0 ? "mean of all layers" : `layer ${view.layer}`);
    const left = book.kept[view.step]().reduce((a, b) => a + b, 0);
    is.summary.textContent = left === book.n ? `${count(book.n)} tokens` : `${count(left)} of ${count(book.n)} tokens kept, ${percent(left / Math.max(1, book.n))}`;
    is.legend.replaceChildren(...this.#legend());
  }

  #legend() {
    const { paint, step } = this.#view, book = this.#book, scorer = book.scorer[step];
    const tints = paint === "turns" ? scaleOf("one token each", "b", Array(TURNS).fill("\u2007"), "")
      : paint === "reads" ? scaleOf("read in", "r", READ_LABELS, "% of decoding steps")
      : scorer >= 0 ? scaleOf(`importance by ${this.#trace.steps[scorer].method}  0`, "i", Array(8).fill("\u2007"), "1") : sampleOf("k", "kept");
    const items = [tints];
    if (this.#trace.steps.length) items.push(sampleOf("d", "dropped"));
    if (book.passages.length) items.push(sampleOf("p", "repeated by the answer"));
    return items;
  }

  #drawMaps() {
    if (!this.#trace || !this.element.isConnected) return;
    const { step, layer } = this.#view, book = this.#book;
    this.map.draw({ kept: book.kept[step](), reads: this.#trace.reads ? book.reads(layer) : null, passages: book.passages, hits: this.#hits });
    this.#frame();
    if (this.#trace.reads && book.n) this.heat.draw(book.heat());
    this.#cross();
  }

  #frame() {
    if (!this.text.length) return;
    const { scrollTop, scrollHeight, clientHeight } = this.#is.text, room = scrollHeight - clientHeight;
    this.map.frame(...this.text.visible(), room > 0 ? scrollTop / room : 0);
  }

  #cross() { if (this.#trace.reads) this.heat.cross(this.#view.layer, this.pointing.token); }

  #inspect(aloud) {
    const i = this.pointing.token, { card } = this.#is;
    card.setAttribute("aria-live", aloud ? "polite" : "off");
    card.replaceChildren(...(i < 0 ? [this.hint] : cardOf(this.#book.tokens[i], this.#facts(i), ...this.#bars(i))));
    this.#cross();
    this.#near(i);
  }

  #facts(i) {
    const { doc, step, layer } = this.#view, book = this.#book, facts = [["Token", `${count(i + 1)} of ${count(book.n)}`]];
    const id = this.#extra.ids?.[doc]?.[i], bytes = this.#extra.bytes?.[doc]?.[i];
    if (id !== undefined) facts.push(["Id", String(id)]);
    if (bytes) facts.push(["Bytes", `${count(bytes[0])} to ${count(bytes[1])}`]);
    const scores = book.importance[step]();
    if (scores) facts.push(["Importance", (scores[i] / 255).toFixed(2)]);
    if (this.#trace.reads) facts.push(["Read, mean", percent(book.reads(-1)[i] / 255)]);
    if (this.#trace.reads && layer >= 0) facts.push([`Read, layer ${layer}`, percent(book.reads(layer)[i] / 255)]);
    if (!this.#trace.steps.length) return facts;
    const [stays, fate] = fateOf(book, this.#trace.steps, i);
    return [...facts, ["Fate", fate, stays ? "fate" : "fate no"]];
  }

  #bars(i) {
    if (!this.#trace.reads) return [];
    const { layers } = this.#trace.reads, bars = Array.from({ length: layers }, (_, layer) => this.#book.reads(layer)[i]);
    return [barsOf(bars, this.#view.layer, "reads by layer")];
  }

  /** The neighbours of the token, where a model is there that has some. */
  async #near(i) {
    const id = this.#extra.ids?.[this.#view.doc]?.[i], asked = ++this.#asked;
    if (i < 0 || id === undefined || !this.#extra.near) return;
    await new Promise((rest) => setTimeout(rest, RESTS));
    if (asked !== this.#asked) return;
    const found = await this.neighbours(id).catch(() => null);
    if (asked !== this.#asked || !found) return;
    const list = element("ul", "", "near");
    for (const { text, cosine } of found) {
      const item = element("li", text.replace(/^ /, "␣") || "·");
      item.append(element("small", cosine.toFixed(2)));
      list.append(item);
    }
    this.#is.card.append(element("h3", "Nearest in the vocabulary"), list);
  }

  #search() {
    this.text.unmark("match", "current");
    this.#hits = find(this.#book.tokens, this.#view.find);
    for (const [first, last] of this.#hits) this.text.mark("match", first, last);
    const top = this.text.visible()[0];
    this.#turn(Math.max(0, this.#hits.findIndex(([first]) => first >= top)));
  }

  #turn(to) {
    const hits = this.#hits;
    this.text.unmark("current");
    this.#hit = hits.length ? (to + hits.length) % hits.length : -1;
    if (this.#hit >= 0) this.text.mark("current", ...hits[this.#hit]);
    if (this.#view.dropped === "hide") this.text.moved(); else this.text.repaint();
    this.#is.found.textContent = hits.length ? `${count(this.#hit + 1)} of ${count(hits.length)}` : this.#view.find.trim() ? "no match" : "";
    if (this.#hit >= 0) this.text.bringTo(hits[this.#hit][0], false);
  }

  #scroll(event) {
    const { text } = this.#is, page = text.clientHeight * 0.9;
    const by = { ArrowDown: 60, ArrowUp: -60, PageDown: page, PageUp: -page, End: 1e9, Home: -1e9 }[event.key];
    if (by) { event.preventDefault(); text.scrollBy({ top: by }); }
  }
}

/** Tokens as they are drawn: some hold what cannot be seen. */
function drawn(tokens, shown) {
  if (!shown || !Object.keys(shown).length) return tokens;
  const out = tokens.slice();
  for (const [i, text] of Object.entries(shown)) out[i] = text;
  return out;
}
