// Find words in a text of tokens, wherever the borders of tokens lie.

const MOST = 5000; // matches that are found; a letter alone has more

const ends = new WeakMap(); // the ends of a text's tokens, in characters

/** First and last token of every match; white space matches any white space, case does not matter. */
export function find(tokens, words) {
  const wanted = words.trim();
  if (!wanted) return [];
  const pattern = new RegExp(wanted.split(/\s+/u).map(escaped).join("\\s+"), "giu");
  const at = endsOf(tokens), hits = [];
  let first = 0;
  for (const found of tokens.join("").matchAll(pattern)) {
    if (hits.length >= MOST) break;
    const stop = found.index + found[0].length;
    while (at[first + 1] <= found.index) first++;
    let last = first;
    while (at[last + 1] < stop) last++;
    hits.push([first, last]);
  }
  return hits;
}

const escaped = (word) => word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

function endsOf(tokens) {
  if (!ends.has(tokens)) {
    const at = new Uint32Array(tokens.length + 1);
    tokens.forEach((token, i) => { at[i + 1] = at[i] + token.length; });
    ends.set(tokens, at);
  }
  return ends.get(tokens);
}
