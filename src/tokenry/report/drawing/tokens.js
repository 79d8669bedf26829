// A text drawn token by token into an element that scrolls: every token is there, so that it can be printed and found
// by the browser's own search. rows.js draws long texts.
//
// A token is a span whose look (looks.js) is written only when it changes. The element needs `position: relative`, so
// that places are counted from its top, and tokens.css.

import { Looks, classesOf } from "./looks.js";

const CHUNK = 2000; // tokens that are made before the browser may do something else
const MARGIN = 8; // pixels of a line that may stick out above and still count as visible

export class TokenText {
  #nodes = []; #looks = new Looks(new Uint8Array(0)); #shown = new Uint16Array(0);
  #places = null; #job = 0;

  constructor(element) {
    this.element = element;
  }

  get length() { return this.#nodes.length; }

  /** Draw other tokens; `done` is called when all of them stand there. `kinds` as `kindsOf` gives them. */
  show(tokens, kinds, passages, done) {
    const n = tokens.length, job = ++this.#job;
    this.#nodes = []; this.#looks = new Looks(kinds, passages); this.#shown = new Uint16Array(n);
    this.#places = null;
    this.element.replaceChildren(); this.element.scrollTop = 0;
    const chunk = () => {
      if (job !== this.#job) return; // another text was chosen meanwhile
      const piece = document.createDocumentFragment(), end = Math.min(n, this.#nodes.length + CHUNK);
      for (let i = this.#nodes.length; i < end; i++) piece.append(this.#make(tokens[i], i));
      this.element.append(piece);
      if (end < n) setTimeout(chunk); else done();
    };
    chunk();
  }

  #make(token, i) {
    const node = document.createElement("span");
    node.textContent = token;
    node.token = i;
    node.className = classesOf(this.#shown[i] = this.#looks.key(i));
    this.#nodes.push(node);
    return node;
  }

  /** Give the tokens other kinds. */
  paint(kinds) {
    this.#looks.paint(kinds);
    this.repaint();
  }

  /** Lay a mark on the tokens from `first` to `last`, or take it off; `repaint` shows it. */
  mark(name, first, last, on = true) { this.#looks.mark(name, first, last, on); }

  /** Take marks off all tokens. */
  unmark(...names) { this.#looks.unmark(...names); }

  repaint() {
    for (let i = 0; i < this.#nodes.length; i++) {
      const key = this.#looks.key(i);
      if (this.#shown[i] !== key) this.#nodes[i].className = classesOf(this.#shown[i] = key);
    }
  }

  /** The number of the token that an event happened on, or undefined. */
  tokenOf(event) { return event.target.token; }

  /** Whether a token takes room: a dropped one may be hidden. */
  hidden(i) { return this.#nodes[i] !== undefined && !this.#nodes[i].offsetParent; }

  /** Say that tokens may have moved, for example because the element has another width. */
  moved() { this.#places = null; }

  /** Distance of every token from the top. */
  places() {
    const nodes = this.#nodes;
    if (this.#places && this.#places.length === nodes.length) return this.#places;
    const places = (this.#places = new Float32Array(nodes.length));
    // A hidden token has no place of its own: it takes that of the one before.
    for (let i = 0; i < nodes.length; i++) places[i] = nodes[i].offsetParent ? nodes[i].offsetTop : i ? places[i - 1] : 0;
    return places;
  }

  /** Distance of one token from the top. */
  topOf(i) { return this.places()[i]; }

  /** The first and the last token that can be seen. */
  visible() {
    const { scrollTop, clientHeight } = this.element;
    return [this.#below(scrollTop - MARGIN), Math.max(0, this.#below(scrollTop + clientHeight) - 1)];
  }

  #below(y) {
    const at = this.places();
    let low = 0, high = at.length;
    while (low < high) { const middle = (low + high) >> 1; if (at[middle] < y) low = middle + 1; else high = middle; }
    return low;
  }

  /** Scroll so that a token stands in the upper third. */
  bringTo(i, smooth) {
    const { element } = this;
    element.scrollTo({ top: this.topOf(i) - element.clientHeight / 3, behavior: smooth ? "smooth" : "auto" });
  }

  /** Scroll so that a token is the first that can be seen. */
  begin(i) { this.element.scrollTop = this.topOf(i) - MARGIN; }
}
