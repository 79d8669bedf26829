// Elements, made in one line each. Text is always text: nothing here reads markup.

// No page holds the name of the namespace, which looks like an address that is loaded.
const SVG = new DOMParser().parseFromString("<svg/>", "text/html").body.firstChild.namespaceURI;

export function element(tag, content = "", kind = "") {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(content);
  return made;
}

export function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
