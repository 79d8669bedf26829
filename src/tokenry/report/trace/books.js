// The documents of a trace, with what every step and every layer says of their tokens.

import { bits, bytes, once } from "../drawing/columns.js";
import { heatOf } from "../drawing/heat_map.js";

/**
 * One book for each document. `kept[step]` and `importance[step]` begin with the document as it was, before any step;
 * a step without scores of its own shows those of the last one that had some, which `scorer[step]` names.
 */
export function booksOf(trace) {
  return trace.documents.map((document, d) => {
    const { tokens } = document, n = tokens.length;
    const kept = [once(() => new Uint8Array(n).fill(1))], importance = [() => null], scorer = [-1];
    trace.steps.forEach((step, s) => {
      kept.push(step.kept ? once(() => bits(step.kept[d], n)) : kept[s]);
      importance.push(step.importance ? once(() => bytes(step.importance[d])) : importance[s]);
      scorer.push(step.importance ? s : scorer[s]);
    });
    const layers = trace.reads ? trace.reads.counts.map((row) => once(() => bytes(row[d]))) : [];
    const mean = once(() => meanOf(layers.map((layer) => layer()), n));
    return {
      n, tokens, kept, importance, scorer,
      passages: trace.recovered.filter((passage) => passage.document === d).map((passage) => passage.tokens),
      reads: (layer) => (layer < 0 ? mean() : layers[layer]()),
      heat: once(() => heatOf(layers.map((layer) => layer()))),
    };
  });
}

/** Whether a token stays to the end, and what became of it in words. */
export function fateOf(book, steps, i) {
  const s = steps.findIndex((_, s) => !book.kept[s + 1]()[i]);
  return s < 0 ? [true, steps.length ? "kept to the end" : "kept"] : [false, `dropped by ${steps[s].method}`];
}

function meanOf(rows, n) {
  const sum = new Float32Array(n);
  for (const row of rows) for (let i = 0; i < n; i++) sum[i] += row[i];
  return sum.map((value) => value / rows.length);
}
