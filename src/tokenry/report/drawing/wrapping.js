// Where lines of a long text break, so that only those that can be seen need to be drawn.

const START = 4096; // pieces that there is room for at first

/** Pieces of tokens, line by line: of each piece its token, and from which to which character of it. */
export class Lines {
  #size = 0;

  constructor() {
    this.starts = [0];
    this.token = new Uint32Array(START); this.from = new Uint32Array(START); this.to = new Uint32Array(START);
  }

  get count() { return this.starts.length; }

  add(token, from, to) {
    if (this.#size === this.token.length)
      for (const name of ["token", "from", "to"]) {
        const more = new Uint32Array(2 * this.#size);
        more.set(this[name]);
        this[name] = more;
      }
    this.token[this.#size] = token; this.from[this.#size] = from; this.to[this.#size++] = to;
  }

  /** End the line before the piece `at`, or behind all that there are. */
  end(at = this.#size) { this.starts.push(at); }

  get size() { return this.#size; }

  /** First piece of a line, and the one behind its last. */
  line(row) { return [this.starts[row], row + 1 < this.starts.length ? this.starts[row + 1] : this.#size]; }

  /** The line on which a token begins. */
  lineOf(token) {
    let low = 0, high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1, first = this.starts[middle];
      if (first < this.#size && this.token[first] <= token) low = middle + 1; else high = middle;
    }
    let row = Math.max(0, low - 1);
    // A token that is longer than a line begins where it begins.
    while (row > 0 && this.token[this.starts[row]] === token && this.from[this.starts[row]] > 0) row--;
    return row;
  }
}

/**
 * Break a text of tokens into lines of at most `width`.
 *
 * `textOf(i)` is what is shown of a token, `measure(text)` how wide that is. Lines break where words begin, at ends of
 * lines in the text, and inside of what is longer than a line.
 */
export function wrapped(n, textOf, measure, width) {
  const lines = new Lines();
  let across = 0, word = 0, wide = 0; // of the line so far; the piece at which the last word begins, and its width
  const place = (token, text, from, to) => {
    const long = measure(text);
    if (/^\s/u.test(text)) { word = lines.size; wide = 0; }
    if (across + long > width && across > 0) {
      if (word > lines.starts.at(-1) && wide + long <= width) { lines.end(word); across = wide; } else { lines.end(); across = 0; wide = 0; word = lines.size; }
    }
    if (long > width && to - from > 1) {
      const middle = halfOf(text);
      place(token, text.slice(0, middle), from, from + middle);
      place(token, text.slice(middle), from + middle, to);
      return;
    }
    lines.add(token, from, to);
    across += long; wide += long;
  };
  for (let i = 0; i < n; i++) {
    const text = textOf(i);
    if (text.length === 0) continue;
    let from = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", from)) {
      place(i, text.slice(from, end + 1), from, end + 1);
      lines.end();
      across = wide = 0; word = lines.size;
      from = end + 1;
    }
    if (from < text.length) place(i, from ? text.slice(from) : text, from, text.length);
  }
  return lines;
}

/** The middle of a text, between two characters and not inside of one. */
function halfOf(text) {
  const middle = Math.max(1, text.length >> 1), code = text.charCodeAt(middle);
  return code >= 0xdc00 && code < 0xe000 && text.length > 2 ? middle + 1 : middle;
}
