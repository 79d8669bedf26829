// What leaves the page: files, pages and lines to copy.

import { blob } from "./wire.js";
import { SCHEMA } from "./state.js";

/** Hand a file to the browser. */
export function download(content, name, type = "application/json") {
  const link = document.createElement("a"), address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  link.href = address; link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A file that opens again, with what was found. */
export function saved(state, results) {
  const kept = results.map((result) => (result?.value && !result.stale ? result.value : null));
  return JSON.stringify({ schema: SCHEMA, ...state, results: kept });
}

/** The page of one result, which needs nothing else. */
export async function pageOf(value) {
  if (value.kind === "text") return blob("api/page", value.trace);
  throw new Error("Only texts have a page here; the command line below writes one of a picture or a sound.");
}

/** Copy a text. */
export async function copy(text) {
  try { await navigator.clipboard.writeText(text); } catch { throw new Error("The browser does not let this page copy; select it and copy it yourself."); }
}
