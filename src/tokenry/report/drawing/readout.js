// A chart of lines says its values where the pointer is.

import { element } from "./elements.js";
import { count } from "./numbers.js";

/** `runs` are names, classes and values; what `readout` says without a pointer comes back when it leaves. */
export function readLines(chart, cursor, readout, runs) {
  const drawn = runs.filter((run) => run[2].length), steps = Math.max(...drawn.map((run) => run[2].length));
  const before = [...readout.childNodes];
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect(), part = (event.clientX - box.left) / box.width;
    const at = Math.max(0, Math.min(steps - 1, Math.round(part * (steps - 1))));
    const x = steps > 1 ? (at / (steps - 1)) * chart.viewBox.baseVal.width : 0;
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, x);
    cursor.setAttribute("visibility", "visible");
    readout.replaceChildren(...drawn.flatMap(([name, kind, values]) => {
      const key = element("span", `${name} `, `key ${kind}`);
      key.append(element("b", values[at] == null ? "–" : count(Math.round(values[at]))));
      return [key, " "];
    }), element("span", `at step ${at + 1}`));
  });
  chart.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    readout.replaceChildren(...before);
  });
}
