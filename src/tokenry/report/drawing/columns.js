// Columns of numbers as a page carries them: base64 of one bit or one byte for each token.

export const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

/** `n` zeros and ones; the lowest bit of each byte comes first. */
export function bits(base64, n) {
  const packed = bytes(base64);
  return Uint8Array.from({ length: n }, (_, i) => (packed[i >> 3] >> (i & 7)) & 1);
}

/** A function that makes its value when it is first asked: 30 layers of 12,000 tokens need not all be unpacked. */
export function once(make) {
  let value;
  return () => (value === undefined ? (value = make()) : value);
}
