// Columns of numbers, one for each token: as a page carries them, in base64, or as plain lists.

const unpacked = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

/** Bytes from 0 to 255 for shares from 0 to 1; a share above zero is never zero. */
export function bytes(column) {
  if (typeof column === "string") return unpacked(column);
  return Uint8Array.from(column, (share) => (share > 0 ? Math.max(1, Math.round(Math.min(1, share) * 255)) : 0));
}

/** `n` zeros and ones; of packed ones the lowest bit of each byte comes first. */
export function bits(column, n) {
  if (typeof column !== "string") return Uint8Array.from(column);
  const packed = unpacked(column);
  return Uint8Array.from({ length: n }, (_, i) => (packed[i >> 3] >> (i & 7)) & 1);
}

/** A function that makes its value when it is first asked: 30 layers of 12,000 tokens need not all be unpacked. */
export function once(make) {
  let value;
  return () => (value === undefined ? (value = make()) : value);
}
