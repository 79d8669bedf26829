// How each token of a text looks: what it is (kinds.js) and what marks lie on it, as one string of classes.

import { KINDS } from "./kinds.js";

/** Marks that can lie on a token, and their classes. */
const MARKS = { passage: "p", match: "m", current: "mm", flash: "f", held: "c" };
const BITS = Object.fromEntries(Object.keys(MARKS).map((mark, at) => [mark, 1 << at]));
const WIDTH = Object.keys(MARKS).length;
const CLASSES = Array.from({ length: KINDS.length << WIDTH }, (_, key) =>
  ["t", KINDS[key >> WIDTH], ...Object.keys(MARKS).filter((mark) => key & BITS[mark]).map((mark) => MARKS[mark])].join(" "));

/** The classes of a key. */
export const classesOf = (key) => CLASSES[key];

export class Looks {
  #kinds; #marks;

  /** `kinds` as `kindsOf` gives them, `passages` as pairs of tokens. */
  constructor(kinds, passages = []) {
    this.#kinds = kinds;
    this.#marks = new Uint8Array(kinds.length);
    for (const [first, last] of passages) this.mark("passage", first, last);
  }

  get length() { return this.#kinds.length; }

  /** A number that says everything of how a token looks. */
  key(i) { return (this.#kinds[i] << WIDTH) | this.#marks[i]; }

  kind(i) { return this.#kinds[i]; }

  has(name, i) { return (this.#marks[i] & BITS[name]) !== 0; }

  /** Give the tokens other kinds. */
  paint(kinds) { this.#kinds = kinds; }

  /** Lay a mark on the tokens from `first` to `last`, or take it off. */
  mark(name, first, last, on = true) {
    const bit = BITS[name], end = Math.min(last, this.#marks.length - 1);
    for (let i = Math.max(0, first); i <= end; i++) this.#marks[i] = on ? this.#marks[i] | bit : this.#marks[i] & ~bit;
  }

  /** Take marks off all tokens. */
  unmark(...names) {
    for (const name of names) this.mark(name, 0, this.#marks.length - 1, false);
  }
}
