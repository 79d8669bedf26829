// The ways to read the input, each a reader, methods with their fields, and perhaps an answer.

import { element } from "../drawing/elements.js";
import { formOf } from "./fields.js";
import { methodOf, shortOf } from "./state.js";

const ROOMS = { text: ["segment", "soft", "compress", "attend", "decode"], messages: ["compress"], picture: ["signal"], sound: ["signal"] };
const ORDER = ["segment", "soft", "compress", "attend", "decode", "signal"];
const TITLES = { segment: "spelling", soft: "soft tokens", compress: "fewer tokens before the model", attend: "fewer tokens inside attention", decode: "how tokens are chosen", signal: "tokens of pictures and sounds" };
const OWN = "…"; // stands for a method that is written as its one-line form

let made = 0;

/** Draw all arms into `home`; `changed` is called after each change, with true where tokens may be drawn at once. */
export function drawArms(home, state, offer, changed) {
  const redraw = (focus, quick = true) => {
    drawArms(home, state, offer, changed);
    changed(quick);
    home.querySelector(focus)?.focus();
  };
  home.replaceChildren(...state.arms.map((arm, at) => armOf(arm, at, state, offer, changed, redraw)));
}

function armOf(arm, at, state, offer, changed, redraw) {
  const out = element("fieldset", "", "arm"), title = element("legend", state.arms.length > 1 ? `Way ${at + 1}` : "Way");
  out.append(title);
  if (state.kind === "text" || state.kind === "messages") out.append(readerOf(arm, offer, () => redraw(`[data-arm="${at}"][data-what=reader]`), at));
  arm.methods.forEach((method, m) => out.append(stepOf(arm, method, m, at, offer, changed, redraw)));
  out.append(chooserOf(arm, at, state, offer, redraw));
  if (state.kind === "text" && offer.readers.find((each) => each.name === arm.reader)?.answers) out.append(answerOf(arm, at, changed, redraw));
  if (state.arms.length > 1) {
    const remove = button("Remove this way", () => { state.arms.splice(at, 1); redraw("[data-what=reader]"); });
    remove.setAttribute("aria-label", `Remove way ${at + 1}`);
    out.append(remove);
  }
  return out;
}

function readerOf(arm, offer, changed, at) {
  const select = element("select");
  select.append(...offer.readers.map((each) => new Option(each.answers ? shortOf(each.name) : `${each.name} (tokens only)`, each.name)));
  if (![...select.options].some((option) => option.value === arm.reader)) select.append(new Option(`${arm.reader} (not here)`, arm.reader));
  select.value = arm.reader;
  select.dataset.arm = at; select.dataset.what = "reader";
  select.addEventListener("change", () => {
    arm.reader = select.value;
    arm.answer &&= Boolean(offer.readers.find((each) => each.name === arm.reader)?.answers);
    changed();
  });
  return labelled("Tokenizer or model", select);
}

function stepOf(arm, method, m, at, offer, changed, redraw) {
  const card = offer.methods.find((each) => each.name === method.name), out = element("div", "", "method");
  const head = element("div", "", "line"), name = element("b", method.name);
  const acts = element("span", "", "acts");
  const move = (by) => { arm.methods.splice(m + by, 0, ...arm.methods.splice(m, 1)); redraw(`[data-arm="${at}"][data-what=more]`); };
  if (m > 0) acts.append(named(button("↑", () => move(-1)), `Move ${method.name} up`));
  if (m + 1 < arm.methods.length) acts.append(named(button("↓", () => move(1)), `Move ${method.name} down`));
  acts.append(named(button("×", () => { arm.methods.splice(m, 1); redraw(`[data-arm="${at}"][data-what=more]`); }), `Remove ${method.name}`));
  head.append(name, acts);
  out.append(head);
  if (!card) return out;
  out.append(element("p", `${card.summary}${needsOf(card)}`, "aside"));
  out.append(formOf(card, method.fields, (field, value) => { method.fields[field] = value; changed(false); }));
  return out;
}

const needsOf = ({ needs }) => {
  const words = [needs.question === "yes" && "a question", needs.model && "a model", needs.encoder && "a text encoder", needs.training && "training"].filter(Boolean);
  return words.length ? `; needs ${words.join(" and ")}` : "";
};

function chooserOf(arm, at, state, offer, redraw) {
  const select = element("select");
  select.append(new Option(arm.methods.length ? "Add another method" : "Add a method", ""));
  for (const room of ROOMS[state.kind]) {
    const group = element("optgroup");
    group.label = `${room}: ${TITLES[room]}`;
    const cards = offer.methods.filter((card) => card.room === room);
    group.append(...cards.map((card) => new Option(card.name.split("/")[1], card.name)));
    if (cards.length) select.append(group);
  }
  select.append(new Option("write its one-line form …", OWN));
  select.dataset.arm = at; select.dataset.what = "more";
  const own = element("input"), row = labelled("One-line form, or the folder of a saved method", own);
  row.hidden = true;
  own.addEventListener("keydown", (event) => { if (event.key === "Enter") own.blur(); });
  own.addEventListener("change", () => {
    const { name, fields } = methodOf(own.value);
    if (name) add(name, fields);
  });
  const add = (name, fields = {}) => {
    arm.methods.push({ name, fields });
    // A token's life has an order, which the pipeline asks for.
    const place = (method) => ORDER.indexOf(method.name.split("/")[0]);
    arm.methods.sort((a, b) => (place(a) < 0 || place(b) < 0 ? 0 : place(a) - place(b)));
    redraw(`[data-arm="${at}"][data-what=more]`);
  };
  select.addEventListener("change", () => {
    if (select.value !== OWN) { add(select.value); return; }
    row.hidden = false;
    own.focus();
  });
  const out = element("div");
  out.append(labelled(arm.methods.length ? "Then" : "Method", select), row);
  return out;
}

function answerOf(arm, at, changed, redraw) {
  const out = element("div", "", "line"), most = element("input");
  out.append(checkOf("answer", "Let the model answer", arm, at, redraw));
  if (!arm.answer) return out;
  most.type = "number"; most.min = "1"; most.max = "4096"; most.value = String(arm.max_new);
  most.addEventListener("input", () => { if (most.checkValidity() && most.value) { arm.max_new = Number(most.value); changed(false); } });
  out.append(labelled("Most new tokens", most, "short"));
  if (arm.methods.length) out.append(checkOf("beside", "Say what is lost beside the model alone", arm, at, redraw));
  return out;
}

function checkOf(what, words, arm, at, redraw) {
  const label = element("label", "", "check"), check = element("input");
  check.type = "checkbox"; check.checked = arm[what];
  check.dataset.arm = at; check.dataset.what = what;
  check.addEventListener("change", () => { arm[what] = check.checked; redraw(`[data-arm="${at}"][data-what=${what}]`, false); });
  label.append(check, ` ${words}`);
  return label;
}

function labelled(words, input, kind = "") {
  const out = element("div", "", `field ${kind}`), label = element("label", words);
  input.id = `arm-${++made}`; label.htmlFor = input.id;
  out.append(label, input);
  return out;
}

function button(words, act) {
  const out = element("button", words);
  out.type = "button";
  out.addEventListener("click", act);
  return out;
}

function named(node, name) {
  node.setAttribute("aria-label", name);
  return node;
}
