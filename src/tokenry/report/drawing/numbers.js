// Numbers as people read them.

const grouped = new Intl.NumberFormat("en");

/** A number of things: 5,163. */
export const count = (n) => grouped.format(n);

/** A part of a whole; what is above zero is never called nothing. */
export const percent = (share) => (share === 0 ? "0 %" : share < 0.01 ? "under 1 %" : `${Math.round(share * 100)} %`);
