// What has been chosen: the input, the ways to read it, and how the result is looked at.

export const SCHEMA = "tokenry.studio/0";
const KINDS = ["text", "messages", "picture", "sound"];
const MOST_ARMS = 12;
const USUAL = { messages: "lexical_relevance", picture: "patches", sound: "audio_frames" };

export const emptyArm = (reader) => ({ reader, methods: [], answer: false, max_new: 64, beside: false });

/** What a page begins with. */
export const emptyState = (arm) => ({ kind: "text", text: "", data: "", name: "", ask: "", price: "", arms: [arm] });

/** The way that a page begins with: the first reader, and the methods that the studio was started with. */
export function firstArm({ readers, first }) {
  const [reader] = readers, methods = first.map(methodOf);
  const answer = Boolean(reader?.answers) && methods.some(({ name }) => /^(attend|decode)\//.test(name));
  return { ...emptyArm(reader?.name ?? ""), methods, answer };
}

/** A state out of a file or a link. What is wrong is an error that says so, and nothing of it is taken. */
export function stateOf(given, reader) {
  if (!given || typeof given !== "object") throw new Error("This holds no work of the studio; open a file that it saved.");
  const text = (name) => {
    const value = given[name] ?? "";
    if (typeof value !== "string") throw new Error(`This work is damaged: ${name} must be a text; open another one.`);
    return value;
  };
  const kind = given.kind ?? "text";
  if (!KINDS.includes(kind)) throw new Error(`This work is damaged: its kind must be one of ${KINDS.join(", ")}; open another one.`);
  const arms = given.arms ?? [emptyArm(reader)];
  if (!Array.isArray(arms) || !arms.length || arms.length > MOST_ARMS || !arms.every(isArm))
    throw new Error(`This work is damaged: arms must be 1 to ${MOST_ARMS} ways to read; open another one.`);
  return {
    kind, text: text("text"), data: text("data"), name: text("name"), ask: text("ask"), price: text("price"),
    arms: arms.map(({ reader, methods, answer, max_new, beside }) => ({ reader, methods: methods.map(copyOf), answer, max_new, beside: beside === true })),
  };
}

export const full = (state) => state.arms.length >= MOST_ARMS;

const copyOf = ({ name, fields }) => ({ name, fields: { ...fields } });

const isArm = (arm) => arm && typeof arm.reader === "string" && Array.isArray(arm.methods) && typeof arm.answer === "boolean" &&
  Number.isInteger(arm.max_new) && arm.methods.every((method) => method && typeof method.name === "string" &&
    method.fields && typeof method.fields === "object" && Object.values(method.fields).every((value) => typeof value === "string"));

/** The one-line form of a method: what is left empty is as the method has it. */
function specOf({ name, fields }) {
  const given = Object.entries(fields).filter(([, value]) => value.trim() !== "").map(([field, value]) => `${field}=${value.trim()}`);
  return given.length ? `${name}:${given.join(",")}` : name;
}

/** A method out of its one-line form; commas inside brackets separate fields of a part. */
export function methodOf(spec) {
  const [name, ...settings] = spec.trim().split(":"), parts = settings.join(":").match(/(?:[^,[\]]|\[[^\]]*\])+/g) ?? [];
  const fields = parts.map((part) => [part.split("=")[0].trim(), part.split("=").slice(1).join("=").trim()]);
  return { name: name.trim(), fields: Object.fromEntries(fields) };
}

/** What an arm is called. Where no method is chosen, the server takes the usual one of `USUAL`. */
export function nameOf(arm, kind) {
  const methods = arm.methods.map((method) => specOf(method).replace(/^\w+\//, ""));
  if (kind === "picture" || kind === "sound") return methods.join(" · ") || USUAL[kind];
  return [shortOf(arm.reader), ...(methods.length || kind === "text" ? methods : [USUAL[kind]]), ...(arm.answer && kind === "text" ? ["answer"] : [])].join(" · ");
}

/** A reader without the folders that it lies in. */
export const shortOf = (reader) => (/^[./~]/.test(reader) ? reader.split("/").filter(Boolean).at(-1) : reader);

/** The ways that an input of another kind begins with: those that were there for it, or what fits it of these. */
export function armsFor(kind, arms, before) {
  if (before) return before;
  if (kind === "picture" || kind === "sound") return [emptyArm(arms[0].reader)];
  const fits = kind === "messages" ? (method) => /^compress\//.test(method.name) : (method) => !/^signal\//.test(method.name);
  return arms.map((arm) => ({ ...arm, methods: arm.methods.filter(fits).map(copyOf) }));
}

/** The task that the server is asked to do; errors of messages that are no JSON are found here. */
export function taskOf(state, arm) {
  const task = { kind: state.kind, name: state.name, ask: state.ask, reader: arm.reader, methods: arm.methods.map(specOf) };
  if (state.kind === "text") return { ...task, text: state.text, answer: arm.answer, max_new: arm.max_new, beside: arm.beside };
  if (state.kind === "messages") return { ...task, messages: messagesOf(state.text) };
  return { ...task, data: state.data };
}

/** Chat messages out of a text. */
function messagesOf(text) {
  let found;
  try { found = JSON.parse(text); } catch (error) {
    throw new Error(`Messages must be JSON: ${error.message}; mend it, or choose Text.`);
  }
  const list = Array.isArray(found) ? found : found?.messages ?? found?.input;
  if (!Array.isArray(list)) throw new Error("Messages must be a list, or an object with the list `messages`; mend it, or choose Text.");
  const odd = list.findIndex((message) => !isObject(message));
  if (odd >= 0) throw new Error(`Every message must be an object; number ${odd + 1} is not; mend it, or choose Text.`);
  return list;
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** Whether a text looks like chat messages. */
export function areMessages(text) {
  if (!/^\s*[[{]/.test(text)) return false;
  try { return messagesOf(text).every((message) => "role" in message || "type" in message); } catch { return false; }
}
