// What the page asks the server. A refusal is an error whose message is a sentence for people.

const KEY = "tokenry-key"; // under which this tab keeps the key; no address that the page writes holds it

/** Take a key out of the address, so that no link that is copied or kept in a history holds it. */
export function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has("key")) return;
  sessionStorage.setItem(KEY, given.get("key"));
  given.delete("key");
  history.replaceState(null, "", location.pathname + location.search + (given.size ? `#${given}` : ""));
}

const headers = () => {
  const key = sessionStorage.getItem(KEY), plain = { "content-type": "application/json" };
  return key ? { ...plain, "x-tokenry-key": key } : plain;
};

async function asked(path, body, signal) {
  const way = body === undefined ? { headers: headers() } : { method: "POST", headers: headers(), body: JSON.stringify(body), signal };
  let reply;
  try {
    reply = await fetch(path, way);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The studio does not answer; see whether it still runs. What you entered is kept.");
  }
  if (reply.ok) return reply;
  let sentence = `The studio answered with status ${reply.status}.`;
  try { sentence = (await reply.json()).error || sentence; } catch { /* no JSON: the status must do */ }
  throw new Error(sentence);
}

export const json = async (path, body) => (await asked(path, body)).json();

export const blob = async (path, body) => (await asked(path, body)).blob();

/** What a piece of work tells, as it comes: objects with one of `progress`, `piece`, `result` and `error`. */
export async function* events(path, body, signal) {
  const reader = (await asked(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let held = [];
  for (;;) {
    let read;
    try { read = await reader.read(); } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The studio stopped in the middle of it; start it again. What you entered is kept.");
    }
    if (read.done) break;
    const parts = read.value.split("\n");
    for (const part of parts.slice(0, -1)) {
      held.push(part);
      yield JSON.parse(held.join(""));
      held = [];
    }
    held.push(parts.at(-1));
  }
}
