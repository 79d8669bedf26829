// What is read: text and messages that are typed or pasted, and files that are dropped or chosen.

import { areMessages } from "./state.js";

const MOST_TEXT = 8 << 20, MOST_DATA = 32 << 20; // bytes, as the server has them
const LABELS = { text: "Text; paste it, type it or drop a file", messages: "Messages as JSON; paste them, type them or drop a file" };

const $ = (id) => document.getElementById(id);

/** Show the input of a state. */
export function showInput(state) {
  for (const input of document.querySelectorAll("input[name=kind]")) input.checked = input.value === state.kind;
  const written = state.kind in LABELS;
  $("text-field").hidden = !written;
  $("ask-field").hidden = !written;
  if (written) $("text-label").textContent = LABELS[state.kind];
  if ($("words").value !== state.text) $("words").value = state.text;
  if ($("ask").value !== state.ask) $("ask").value = state.ask;
  if ($("price").value !== state.price) $("price").value = state.price;
  $("held").hidden = written;
  $("held").textContent = state.data ? `${state.name || `a ${state.kind}`} is held` : `Choose a ${state.kind}, or drop it here.`;
}

/**
 * Listen to everything that changes the input. `changed` is called with the change and whether it shall be read at
 * once; `opened` with a file that holds work; `failed` with a sentence.
 */
export function listenToInput({ changed, opened, failed }) {
  $("words").addEventListener("input", () => changed({ text: $("words").value }));
  $("words").addEventListener("paste", (event) => {
    const file = event.clipboardData.files[0];
    if (file) { event.preventDefault(); take(file, changed, opened).catch((error) => failed(error.message)); return; }
    const text = event.clipboardData.getData("text");
    if ($("words").value === "" && areMessages(text)) changed({ kind: "messages" });
  });
  $("ask").addEventListener("input", () => changed({ ask: $("ask").value }));
  $("price").addEventListener("input", () => changed({ price: $("price").value }));
  for (const input of document.querySelectorAll("input[name=kind]")) input.addEventListener("change", () => changed({ kind: input.value }));
  for (const name of ["file", "open"]) $(name).addEventListener("change", ({ target }) => {
    if (target.files[0]) take(target.files[0], changed, opened).catch((error) => failed(error.message));
    target.value = "";
  });
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0], changed, opened).catch((error) => failed(error.message));
  });
  document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
}

/** Take a file for what it is. */
async function take(file, changed, opened) {
  const kind = file.type.startsWith("image/") ? "picture" : file.type.startsWith("audio/") ? "sound" : "text";
  const most = kind === "text" ? MOST_TEXT : MOST_DATA;
  if (kind === "text" && file.name.endsWith(".json")) {
    const work = workOf(await file.text());
    if (work) { opened(work); return; }
  }
  if (file.size > most) throw new Error(`${file.name}: must be at most ${most >> 20} MB; it has ${Math.ceil(file.size / (1 << 20))} MB; take a part of it, or the command line.`);
  if (file.size === 0) throw new Error(`${file.name}: must hold something; it is empty; choose another file.`);
  if (kind !== "text") { changed({ kind, name: file.name, data: await base64(file) }); return; }
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes.includes(0)) throw new Error(`${file.name}: must be text, a picture or a sound; it holds zero bytes, which no text does; convert it first.`);
  let text;
  try { text = new TextDecoder("utf-8", { fatal: true }).decode(bytes); } catch { throw new Error(`${file.name}: must be UTF-8; convert it, for example with iconv -f latin1 -t utf-8.`); }
  changed({ kind: areMessages(text) ? "messages" : "text", text, name: file.name });
}

/** The work of the studio that a file holds, or null. */
function workOf(text) {
  try {
    const found = JSON.parse(text);
    return typeof found?.schema === "string" && /^tokenry\.(studio|trace)\//.test(found.schema) ? found : null;
  } catch { return null; }
}

async function base64(file) {
  const url = await new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(new Error(`${file.name}: could not be read; choose it again.`));
    reader.readAsDataURL(file);
  });
  return url.slice(url.indexOf(",") + 1);
}
