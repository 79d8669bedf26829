// Numbers as people read them.

const grouped = new Intl.NumberFormat("en");

/** A number of things: 5,163. */
export const count = (n) => grouped.format(n);

/** A part of a whole; what is above zero is never called nothing. */
export const percent = (share) => (share === 0 ? "0 %" : share < 0.01 ? "under 1 %" : `${Math.round(share * 100)} %`);

/** How long something took. */
export const seconds = (s) => (s == null ? "–" : s < 0.001 ? "under 1 ms" : s < 1 ? `${Math.round(s * 1000)} ms` : s < 90 ? `${s.toFixed(s < 10 ? 2 : 1)} s` : `${(s / 60).toFixed(1)} min`);

/** Bytes: 12.4 MB. */
export function size(n) {
  if (n == null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; n >= 1000 && at < units.length - 1; at++) n /= 1000;
  return `${n >= 100 || at === 0 ? Math.round(n) : n.toFixed(1)} ${units[at]}`;
}
