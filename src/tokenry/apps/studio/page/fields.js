// A form for the fields of a method, drawn from its card: names, limits, defaults and help.

import { element } from "../drawing/elements.js";

const FIRST = ["budget", "units"]; // fields that most people set; others wait behind a word

let made = 0;

/** The form of a method; `changed` is called with a field's name and what was written. */
export function formOf(card, values, changed) {
  const out = element("div", "", "fields");
  const first = card.fields.filter((field) => FIRST.includes(field.name)), rest = card.fields.filter((field) => !FIRST.includes(field.name));
  const shown = first.length ? first : rest.splice(0, 2);
  out.append(...shown.map((field) => fieldOf(field, values, changed)));
  if (rest.length) {
    const more = element("details"), list = element("div", "", "fields");
    list.append(...rest.map((field) => fieldOf(field, values, changed)));
    more.append(element("summary", rest.length === 1 ? "1 more field" : `${rest.length} more fields`), list);
    more.open = rest.some((field) => values[field.name]);
    out.append(more);
  }
  return out;
}

function fieldOf(field, values, changed) {
  const out = element("div", "", "field"), label = element("label", field.name), input = inputOf(field);
  const help = element("small", `${field.doc}${field.allowed ? `; ${field.allowed}` : ""}`);
  input.id = `field-${++made}`; label.htmlFor = input.id; help.id = `${input.id}-help`;
  input.setAttribute("aria-describedby", help.id);
  input.value = values[field.name] ?? "";
  input.addEventListener("input", () => changed(field.name, input.value));
  out.append(label, input, help);
  return out;
}

/** What fits the limit of a field; empty stands for the default. */
function inputOf(field) {
  const options = optionsOf(field);
  if (options) {
    const select = element("select");
    select.append(new Option(`${plain(field.default)} (default)`, ""), ...options.map((name) => new Option(name, name)));
    return select;
  }
  const input = element("input"), limits = /^in \[(\S+), (\S+)\]$/.exec(field.allowed), whole = field.type === "int";
  input.type = /^(int|float)$/.test(field.type) ? "number" : "text";
  input.placeholder = plain(field.default);
  input.autocomplete = "off"; input.spellcheck = false;
  if (input.type === "number") input.step = whole ? "1" : "any";
  if (input.type === "number" && limits) [input.min, input.max] = [limits[1], limits[2]];
  const least = /^at least (\d+)$/.exec(field.allowed);
  if (input.type === "number" && least) input.min = least[1];
  return input;
}

function optionsOf({ type, allowed }) {
  if (type === "bool") return ["true", "false"];
  const found = /^one of (.+)$/.exec(allowed);
  return found && found[1].split(", ");
}

/** A default as people write it: `Budget(share=0.5)` is `0.5`, `'auto'` is `auto`, `Sentence()` is `sentence`. */
function plain(source) {
  const budget = /^Budget\((?:share|tokens)=([^,)]+)/.exec(source);
  if (budget) return budget[1];
  const part = /^([A-Z]\w*)\(\)$/.exec(source);
  if (part) return part[1].replace(/(?<=[a-z0-9])(?=[A-Z])/g, "_").toLowerCase();
  return source === "None" ? "none" : { True: "true", False: "false" }[source] ?? source.replace(/^'(.*)'$/, "$1");
}
