// Everything that can be chosen stands in the address of the page, so that a view can be linked.

const DROPPED = ["grey", "strike", "hide"];
const WRITTEN = ["doc", "step", "layer", "paint", "dropped", "find"];

/** What is shown first. */
export function startOf(trace, books) {
  const paint = books[0].scorer.at(-1) < 0 && trace.reads ? "reads" : "importance";
  return { doc: 0, step: trace.steps.length, layer: -1, dropped: "grey", find: "", at: null, paint };
}

/** What an address asks for; what is missing or wrong is as at the start. */
export function stateOf(hash, trace, books) {
  const given = new URLSearchParams(hash.slice(1)), next = startOf(trace, books), layers = trace.reads ? trace.reads.layers : 0;
  const whole = (name, low, high) => {
    const value = Number(given.get(name));
    if (given.get(name) && Number.isInteger(value)) next[name] = Math.min(high, Math.max(low, value));
  };
  whole("doc", 0, books.length - 1);
  whole("step", 0, trace.steps.length);
  whole("layer", -1, layers - 1);
  if (layers && given.has("layer")) next.paint = "reads";
  if (given.get("paint") === "importance" || (given.get("paint") === "reads" && layers)) next.paint = given.get("paint");
  if (DROPPED.includes(given.get("dropped"))) next.dropped = given.get("dropped");
  next.find = given.get("find") || "";
  next.at = passageOf(given);
  return next;
}

/** Write into the address what differs from the start. */
export function remember(state, start) {
  const out = new URLSearchParams();
  for (const name of WRITTEN) if (state[name] !== start[name]) out.set(name, state[name]);
  if (state.at) out.set("at", state.at.join("-"));
  const address = out.size === 0 ? location.pathname + location.search : `#${out}`;
  try { history.replaceState(null, "", address); } catch { /* a sandbox may forbid it */ }
}

/** Document and passage that a link of this page leads to. */
export function linkOf(link) {
  const given = new URLSearchParams(link.getAttribute("href").slice(1));
  return { doc: Number(given.get("doc")), at: passageOf(given) };
}

function passageOf(given) {
  const at = /^(\d+)-(\d+)$/.exec(given.get("at") || "");
  return at && [Number(at[1]), Number(at[2])];
}
