// What a token looks like: dropped, kept, one of eight tints by importance or by reads, or one of five colours in turn.

const LEVELS = [0, 1, 2, 3, 4, 5, 6, 7];
const DROPPED = 0, FIRST_DROPPED = 1, KEPT = 2, IMPORTANCE = 3, READS = IMPORTANCE + LEVELS.length;
const TURNS = 5, TURN = READS + LEVELS.length;

/** Classes by the number of a kind; `g` is the first dropped token of a gap. */
export const KINDS = ["d", "d g", "k", ...LEVELS.map((level) => `i${level}`), ...LEVELS.map((level) => `r${level}`),
  ...Array.from({ length: TURNS }, (_, turn) => `b${turn}`)];

/** Whether tokens of a kind are dropped. */
export const isDropped = (kind) => kind <= FIRST_DROPPED;

/** Whether tokens of a kind are the first of a gap. */
export const isFirstDropped = (kind) => kind === FIRST_DROPPED;

/** Shares of decoding steps at which the levels of reads begin. */
const REACH = [0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7];

/** What a legend writes on the levels of reads, in percent. */
export const READ_LABELS = ["0", "<2", ...REACH.slice(1).map((share) => String(share * 100))];

/**
 * The kind of every token.
 *
 * `kept` holds 0 or 1, `values` bytes from 0 to 255 for shares from 0 to 1, or null; `scale` says whether these are
 * "importance" or "reads", or that colours take "turns", so that one sees where tokens end.
 */
export function kindsOf(kept, values, scale) {
  const kinds = new Uint8Array(kept.length);
  for (let i = 0; i < kept.length; i++) {
    if (!kept[i]) kinds[i] = i && !kept[i - 1] ? DROPPED : FIRST_DROPPED;
    else if (scale === "turns") kinds[i] = TURN + (i % TURNS);
    else if (!values) kinds[i] = KEPT;
    else if (scale === "importance") kinds[i] = IMPORTANCE + Math.min(7, values[i] >> 5);
    else kinds[i] = READS + readLevel(values[i]);
  }
  return kinds;
}

function readLevel(byte) {
  let level = 0;
  while (level < 7 && byte >= Math.max(1, REACH[level] * 255)) level++;
  return level;
}
