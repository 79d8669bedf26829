// What results say beside their tokens: one row for each in a table, and what models answered.

import { element } from "../drawing/elements.js";
import { count, percent, seconds } from "../drawing/numbers.js";
import { nameOf } from "./state.js";

const IDS = 8; // ids that a row shows

/** One table for all ways; `price` is what a million tokens cost, or nothing. */
export function comparison(arms, results, state) {
  const out = element("div", "", "scroll"), table = element("table", "", "compare"), head = element("tr"), body = element("tbody");
  const priced = Number(state.price) > 0, bytes = new TextEncoder().encode(state.text).length, textual = state.kind === "text";
  const lossOf = (result) => result?.value?.trace?.dense?.kl, judged = results.some((result) => lossOf(result) !== undefined); // KL in nats a token
  const heads = ["Way", "Tokens", ...(textual ? ["Bytes a token"] : []), "Left", "Kept", ...(judged ? ["Lost, KL"] : []), ...(priced ? ["Cost"] : []), "Time", ...(textual ? ["First ids"] : [])];
  head.append(...heads.map((name) => { const cell = element("th", name); cell.scope = "col"; return cell; }));
  const least = Math.min(...results.map((result) => (result?.value ? sizeOf(result.value)[1] : Infinity)));
  arms.forEach((arm, at) => {
    const row = element("tr"), name = element("th", nameOf(arm, state.kind)), result = results[at];
    name.scope = "row";
    row.append(name);
    if (!result?.value) {
      const cell = element("td", result?.error ?? { running: "under way", stopped: "stopped" }[result?.status] ?? "press Run", result?.error ? "wrong" : "aside");
      cell.colSpan = heads.length - 1;
      row.append(cell);
    } else {
      const [before, after] = sizeOf(result.value), number = (words, kind) => row.append(element("td", words, kind));
      number(count(before));
      if (textual) number(before ? (bytes / before).toFixed(2) : "–");
      number(`${count(after)}${arms.length > 1 && after === least ? " ✓" : ""}`, arms.length > 1 && after === least ? "least" : "");
      number(before ? percent(after / before) : "–");
      if (judged) number(lossOf(result)?.toFixed(3) ?? "–");
      if (priced) number(((after * Number(state.price)) / 1e6).toFixed(6));
      number(result.stale ? "out of date" : seconds(result.value.seconds));
      if (textual) { const ids = element("td", "", "ids"); ids.append(element("code", (result.value.ids ?? []).slice(0, IDS).join(" "))); row.append(ids); }
    }
    body.append(row);
  });
  const heading = element("thead");
  heading.append(head);
  table.append(element("caption", "What each way makes of it"), heading, body);
  out.append(table);
  out.tabIndex = 0; out.setAttribute("role", "region"); out.setAttribute("aria-label", "Comparison");
  return out;
}

/** Tokens before and after. */
export function sizeOf(value) {
  if (value.kind === "text") {
    const before = value.trace.documents.reduce((sum, document) => sum + document.tokens.length, 0);
    const last = [...value.trace.steps].reverse().find((step) => step.kept);
    return [before, last ? last.kept.flat().reduce((a, b) => a + b, 0) : before];
  }
  return value.kind === "messages" ? [value.tokens_in, value.tokens_out] : [value.count, value.count];
}

/** What a model said, while it says it and after; what it repeats of the text is marked. */
export function answerOf(name, result, many) {
  const out = element("article", "", "answer"), words = element("p");
  out.append(element("h3", many ? name : "Answer"));
  const pieces = result.pieces ?? [], said = result.value?.trace?.answer;
  if (pieces.length) pieces.forEach((piece, at) => words.append(element("span", piece, `t b${at % 5}`)));
  else words.append(said || "…");
  out.append(words);
  const alone = result.value?.trace?.dense;
  if (alone) out.append(element("h4", "The model alone, on all of the text"), element("p", alone.answer));
  return out;
}

/** What was noticed while the ways ran, or null where nothing was; `ran` are pairs of a way's name and what it gave. */
export function notesOf(ran) {
  const said = ran.flatMap(([name, value]) => (value.notes ?? []).map((note) => element("li", ran.length > 1 ? `${name}: ${note}` : note)));
  if (!said.length) return null;
  const out = element("ul", "", "notes");
  out.append(...said);
  return out;
}

/** Chat messages: what became of every result, and beside each its tokens where they are drawn. */
export function messagesTable(value) {
  const table = element("table", "", "compare"), head = element("tr"), heading = element("thead"), body = element("tbody");
  head.append(...["Message", "Tool", "Content", "Before", "After", "Why not"].map((name) => { const cell = element("th", name); cell.scope = "col"; return cell; }));
  for (const change of value.changes) {
    const row = element("tr"), name = element("th", `${change.path[0] + 1}`);
    name.scope = "row";
    row.append(name, ...[change.tool, change.kind, count(change.tokens_in), count(change.tokens_out), change.why].map((words) => element("td", words)));
    body.append(row);
  }
  heading.append(head);
  table.append(element("caption", value.changes.length ? "Results of tools" : "No results of tools are in these messages"), heading, body);
  const out = element("div", "", "scroll");
  out.append(table);
  out.tabIndex = 0; out.setAttribute("role", "region"); out.setAttribute("aria-label", "Results of tools");
  return out;
}

/** The drawn results of messages as a trace of several documents, or null where none is drawn. */
export function traceOfMessages(value, arm) {
  const drawn = value.changes.filter((change) => change.tokens);
  if (!drawn.length) return null;
  const kept = drawn.map((change) => change.kept ?? change.tokens.map(() => 1));
  return {
    trace: {
      documents: drawn.map((change) => ({ name: `message ${change.path[0] + 1} ${change.tool}`, tokens: change.tokens })),
      steps: [{ method: arm.methods.length ? arm.methods[0].name.split("/").at(-1) : "lexical_relevance", room: "compress", tokens_in: value.tokens_in, tokens_out: value.tokens_out, kept, importance: null }],
      reads: null, recovered: [],
    },
    extra: { ids: drawn.map((change) => change.ids) },
  };
}
