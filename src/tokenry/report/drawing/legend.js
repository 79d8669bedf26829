// What the looks of tokens mean.

import { element } from "./elements.js";

/** A row of tints; `kind` is the first letter of their classes. */
export function scaleOf(title, kind, labels, unit) {
  const out = element("span", title, "scale"), steps = element("b");
  labels.forEach((label, i) => steps.append(element("span", label, kind + i)));
  out.append(steps, unit);
  return out;
}

/** Words in the look that they name. */
export const sampleOf = (kind, words) => element("span", words, `t ${kind}`);
