// The page of `tokenry encode --html`: every token in one of five colours, with its id and its bytes.

import "../trace/errors.js";
import { cardOf } from "../drawing/card.js";
import { kindsOf } from "../drawing/kinds.js";
import { scaleOf } from "../drawing/legend.js";
import { count } from "../drawing/numbers.js";
import { Pointing } from "../drawing/pointing.js";
import { TokenRows } from "../drawing/rows.js";
import { find } from "../drawing/search.js";

const TURNS = 5; // colours that take turns

const $ = (id) => document.getElementById(id);
const { tokens, ids, ends, parts } = JSON.parse($("tokens").textContent);
const text = new TokenRows($("text")), isPart = new Set(parts), card = $("card"), hint = card.firstElementChild;
const pointing = new Pointing(text, inspect);
const shown = tokens.map((token, i) => (isPart.has(i) ? `⟨${token}⟩` : token));

let hits = [], hit = -1;

function inspect(aloud) {
  const i = pointing.token;
  card.setAttribute("aria-live", aloud ? "polite" : "off");
  card.replaceChildren(...(i < 0 ? [hint] : cardOf(shown[i], [["Token", `${count(i + 1)} of ${count(tokens.length)}`], ["Id", String(ids[i])],
    ["Bytes", `${count(i ? ends[i - 1] : 0)} to ${count(ends[i])}`], ...(isPart.has(i) ? [["Holds", "part of a character"]] : [])])));
}

function turn(to) {
  text.unmark("current");
  hit = hits.length ? (to + hits.length) % hits.length : -1;
  if (hit >= 0) { text.mark("current", ...hits[hit]); text.bringTo(hits[hit][0], false); }
  text.repaint();
  $("found").textContent = hits.length ? `${count(hit + 1)} of ${count(hits.length)}` : $("find").value.trim() ? "no match" : "";
}

$("find").addEventListener("input", () => {
  text.unmark("match");
  hits = find(shown, $("find").value);
  for (const [first, last] of hits) text.mark("match", first, last);
  turn(0);
});
$("find").addEventListener("keydown", (event) => { if (event.key === "Enter") turn(hit + (event.shiftKey ? -1 : 1)); });
$("prev").addEventListener("click", () => turn(hit - 1));
$("next").addEventListener("click", () => turn(hit + 1));
$("legend").append(scaleOf("one token each", "b", Array(TURNS).fill("\u2007"), ""));
text.show(shown, kindsOf(new Uint8Array(tokens.length).fill(1), null, "turns"), [], () => { document.documentElement.dataset.ready = "1"; });
