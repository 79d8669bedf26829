// A link that holds what was chosen, in the part of the address that no server sees.

const MOST = 6000; // characters of a link that every browser and mail program leaves whole

/** The state as a part of an address. Pictures, sounds and long texts do not fit. */
export async function linkOf(state) {
  if (state.kind === "picture" || state.kind === "sound") throw new Error("A link cannot hold a picture or a sound; save a file.");
  const { kind, text, name, ask, price, arms } = state;
  const packed = await through(new CompressionStream("deflate-raw"), new TextEncoder().encode(JSON.stringify({ kind, text, name, ask, price, arms })));
  const link = `s=${base64(packed)}`;
  if (link.length > MOST) throw new Error("The input is too long for a link; save a file.");
  return link;
}

/** What a link holds, or null where the address holds none. */
export async function linked(hash) {
  const given = new URLSearchParams(hash.slice(1)).get("s");
  if (!given) return null;
  try {
    const packed = Uint8Array.from(atob(given.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(await through(new DecompressionStream("deflate-raw"), packed)));
  } catch {
    throw new Error("The link is damaged, so nothing of it was opened; ask for it again.");
  }
}

const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

async function through(stream, bytes) {
  const pipe = new Blob([bytes]).stream().pipeThrough(stream);
  return new Uint8Array(await new Response(pipe).arrayBuffer());
}
