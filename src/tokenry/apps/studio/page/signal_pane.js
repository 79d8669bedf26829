// A picture or a sound with a box for every token, what the ids give back, and the ids of a place.

import { element, shape } from "../drawing/elements.js";
import { count } from "../drawing/numbers.js";

const EDGED = 1500; // boxes up to which each has a border; of more nothing else would be seen

export function signalPane(result) {
  const out = element("article", "", "pane signal"), said = element("p", "Point at a box, or move to it with the arrow keys.", "aside");
  const figure = element("figure"), drawing = drawingOf(result, said);
  said.setAttribute("role", "status");
  figure.append(drawing, element("figcaption", `${count(result.count)} tokens in ${count(result.places)} places${result.side > 1 ? "; a box stands for several" : ""}`));
  const row = element("div", "", "beside");
  row.append(figure);
  if (result.again) {
    const other = element("figure"), again = element(result.kind === "picture" ? "img" : "audio");
    again.src = result.again;
    if (result.kind === "picture") again.alt = "What the ids give back"; else { again.controls = true; again.setAttribute("aria-label", "What the ids give back"); }
    other.append(again, element("figcaption", "what the ids give back"));
    row.append(other);
  }
  out.append(row);
  if (result.kind === "sound") {
    const play = element("audio");
    play.controls = true; play.src = result.data; play.setAttribute("aria-label", "The sound");
    out.append(play);
  }
  out.append(said);
  return out;
}

function drawingOf({ kind, size: [wide, high], boxes, strokes, data }, said) {
  const svg = shape("svg", { viewBox: `0 0 ${wide} ${high}`, tabindex: "0", role: "img", preserveAspectRatio: kind === "sound" ? "none" : "xMidYMid meet" });
  svg.setAttribute("aria-label", `The ${kind} with ${boxes.length} boxes of tokens; arrow keys move from box to box`);
  if (kind === "picture") svg.append(shape("image", { href: data, width: wide, height: high }));
  for (const [x, top, bottom] of strokes) svg.append(shape("line", { x1: x, x2: x, y1: top, y2: bottom, class: "stroke" }));
  const edged = boxes.length <= EDGED, drawn = boxes.map((box) => {
    const rect = shape("rect", { x: box.x, y: box.y, width: box.width, height: box.height, fill: `hsl(${box.hue} 80% 50% / 0.28)`, class: edged ? "edged" : "" });
    svg.append(rect);
    return rect;
  });
  let now = -1;
  const look = (at) => {
    drawn[now]?.classList.remove("now");
    now = at;
    drawn[now]?.classList.add("now");
    if (boxes[now]) said.textContent = boxes[now].words;
  };
  svg.addEventListener("pointerover", (event) => { const at = drawn.indexOf(event.target); if (at >= 0) look(at); });
  svg.addEventListener("keydown", (event) => {
    const across = boxes.findIndex((box, i) => i > 0 && box.y > boxes[0].y), by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
    if (!by) return;
    event.preventDefault();
    look(Math.max(0, Math.min(boxes.length - 1, now + by)));
  });
  return svg;
}
