// A long text drawn token by token: only the lines that can be seen, and some around them, are there.
//
// It answers to the same calls as TokenText of tokens.js. The element scrolls and needs `position: relative`.

import { isDropped, isFirstDropped } from "./kinds.js";
import { Looks, classesOf } from "./looks.js";
import { wrapped } from "./wrapping.js";

const AROUND = 24; // lines above and below those that can be seen
const GAP = "\u2009·\u2009"; // what stands for dropped tokens that are hidden
const ROOM = 2; // pixels that measuring may be wrong by on a line
const TURNED = /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u; // written from right to left
const UNSEEN = [[/↵?\n/g, "↵"], [/⇥?\t/g, "⇥"]]; // some texts bring the signs themselves

export class TokenRows {
  #tokens = []; #looks = new Looks(new Uint8Array(0)); #lines = null; #drawn = new Map(); #pen; #font = ""; #widths = new Map();
  #tall = 24; #queued = false;

  constructor(element) {
    this.element = element;
    this.paper = document.createElement("div");
    this.paper.className = "paper";
    element.replaceChildren(this.paper);
    this.#pen = document.createElement("canvas").getContext("2d");
    element.addEventListener("scroll", () => this.#soon(), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(element);
  }

  #width = 0;

  get length() { return this.#tokens.length; }

  /** Draw other tokens; `done` is called when they stand there. */
  show(tokens, kinds, passages, done) {
    this.#tokens = tokens;
    this.#looks = new Looks(kinds, passages);
    this.element.scrollTop = 0;
    this.moved();
    done();
  }

  paint(kinds) {
    this.#looks.paint(kinds);
    if (this.#hides()) this.moved(); else this.repaint();
  }

  mark(name, first, last, on = true) { this.#looks.mark(name, first, last, on); }

  unmark(...names) { this.#looks.unmark(...names); }

  repaint() {
    for (const row of this.#drawn.values()) for (const node of row.children) {
      const key = this.#looks.key(node.token);
      if (node.key !== key) { node.key = key; node.className = classesOf(key); }
    }
  }

  tokenOf(event) { return event.target.token; }

  /** Whether a token takes no room. */
  hidden(i) { return i >= 0 && i < this.length && this.#textOf(i) === ""; }

  /** Break the lines anew: tokens may have moved. */
  moved() {
    const style = getComputedStyle(this.element);
    this.#tall = Math.round(parseFloat(style.lineHeight)) || 24;
    this.#width = this.#wide();
    if (this.#font !== style.font) { this.#font = this.#pen.font = style.font; this.#widths.clear(); }
    this.#lines = wrapped(this.length, (i) => this.#textOf(i), (text) => this.#long(text), this.#width);
    this.paper.style.height = `${this.#lines.count * this.#tall}px`;
    for (const row of this.#drawn.values()) row.remove();
    this.#drawn.clear();
    this.#draw();
  }

  /** First and last token that can be seen. */
  visible() {
    if (!this.length) return [0, 0];
    const lines = this.#lines, { scrollTop, clientHeight } = this.element, top = this.paper.offsetTop;
    const first = this.#row(scrollTop - top), last = this.#row(scrollTop - top + clientHeight);
    const [from] = lines.line(first), [, to] = lines.line(last);
    return [lines.token[Math.min(from, lines.size - 1)] || 0, lines.token[Math.max(0, to - 1)] || 0];
  }

  /** Distance of a token from the top. */
  topOf(i) { return this.paper.offsetTop + this.#lines.lineOf(i) * this.#tall; }

  /** Scroll so that a token stands in the upper third. */
  bringTo(i, smooth) {
    this.element.scrollTo({ top: this.topOf(i) - this.element.clientHeight / 3, behavior: smooth ? "smooth" : "auto" });
    if (!smooth) this.#draw();
  }

  /** Scroll so that a token is the first that can be seen. */
  begin(i) { this.element.scrollTop = this.topOf(i); this.#draw(); }

  /** Break the lines anew; what is read stays where it is. */
  #resized() {
    if (!this.#lines || this.#wide() === this.#width) return;
    const [top] = this.visible();
    this.moved();
    if (this.element.scrollTop > 0) this.begin(top);
  }

  #hides() { return this.element.classList.contains("hide"); }

  #wide() {
    const style = getComputedStyle(this.element);
    return this.element.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - ROOM;
  }

  #textOf(i) {
    const kind = this.#looks.kind(i);
    if (!isDropped(kind) || !this.#hides() || this.#looks.has("match", i) || this.#looks.has("flash", i)) return this.#tokens[i];
    return isFirstDropped(kind) ? GAP : "";
  }

  #long(text) {
    let width = this.#widths.get(text);
    if (width === undefined) this.#widths.set(text, (width = this.#pen.measureText(shown(text)).width));
    return width;
  }

  #row(y) { return Math.max(0, Math.min(this.#lines.count - 1, Math.floor(y / this.#tall))); }

  #soon() {
    if (this.#queued) return;
    this.#queued = true;
    requestAnimationFrame(() => { this.#queued = false; this.#draw(); });
  }

  #draw() {
    if (!this.#lines) return;
    const { scrollTop, clientHeight } = this.element, top = this.paper.offsetTop;
    const seen = [this.#row(scrollTop - top), this.#row(scrollTop - top + clientHeight)];
    // After a jump only what is seen is made at once, and what is around it in the next frame.
    const far = !this.#drawn.has(seen[0]) && !this.#drawn.has(seen[1]), around = far ? 1 : AROUND;
    if (far && this.#drawn.size) this.#soon();
    const first = Math.max(0, seen[0] - around), last = Math.min(this.#lines.count - 1, seen[1] + around);
    for (const [at, row] of this.#drawn) if (at < first || at > last) { row.remove(); this.#drawn.delete(at); }
    // In the order of the text, in which it is copied and read aloud.
    const above = document.createDocumentFragment(), below = document.createDocumentFragment(), begun = Math.min(...this.#drawn.keys());
    for (let at = first; at <= last; at++) if (!this.#drawn.has(at)) (at < begun ? above : below).append(this.#make(at));
    this.paper.prepend(above);
    this.paper.append(below);
  }

  #make(at) {
    const row = document.createElement("div"), { token, from, to } = this.#lines, [start, end] = this.#lines.line(at);
    row.className = "row";
    let whole = "";
    row.style.top = `${at * this.#tall}px`;
    row.style.height = `${this.#tall}px`;
    for (let piece = start; piece < end; piece++) {
      const node = document.createElement("span"), i = token[piece];
      whole += node.textContent = shown(this.#textOf(i).slice(from[piece], to[piece]));
      node.token = i;
      node.className = classesOf(node.key = this.#looks.key(i));
      row.append(node);
    }
    if (TURNED.test(whole)) row.classList.add("turned");
    this.#drawn.set(at, row);
    return row;
  }
}

/** Ends of lines and tabs as signs, since each row is one line. */
const shown = (text) => (/[\n\t]/.test(text) ? UNSEEN.reduce((out, [what, sign]) => out.replace(what, sign), text) : text);
