"use strict";
// Errors are written on the root element, where a test or a person can see them.
window.onerror = (message) => { document.documentElement.dataset.error = String(message); };
window.onunhandledrejection = (event) => { document.documentElement.dataset.error = String(event.reason); };

(() => {
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const trace = JSON.parse($("trace").textContent);
  const [text, map, card, heatmap, controls] = ["text", "map", "card", "heatmap", "controls"].map($);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const layers = trace.reads ? trace.reads.layers : 0;

  // ---- data -----------------------------------------------------------------------------------------------------

  const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const once = (make) => { let value; return () => (value === undefined ? (value = make()) : value); };

  // Columns are unpacked when they are first looked at: 30 layers of 12,000 tokens need not all be.
  const books = trace.documents.map((document, d) => {
    const n = document.tokens.length;
    const kept = [once(() => new Uint8Array(n).fill(1))];
    const importance = [() => null];
    const scorer = [-1];
    trace.steps.forEach((step, s) => {
      const before = kept[s];
      kept.push(step.kept ? once(() => {
        const packed = bytes(step.kept[d]);
        return Uint8Array.from({ length: n }, (_, i) => (packed[i >> 3] >> (i & 7)) & 1);
      }) : before);
      // A step without scores of its own shows those of the last step that had some.
      importance.push(step.importance ? once(() => bytes(step.importance[d])) : importance[s]);
      scorer.push(step.importance ? s : scorer[s]);
    });
    const reads = trace.reads ? trace.reads.counts.map((row) => once(() => bytes(row[d]))) : [];
    const mean = once(() => {
      const sum = new Float32Array(n);
      for (const layer of reads) { const row = layer(); for (let i = 0; i < n; i++) sum[i] += row[i]; }
      return sum.map((v) => v / reads.length);
    });
    return { n, tokens: document.tokens, kept, importance, scorer, reads: (layer) => (layer < 0 ? mean() : reads[layer]()) };
  });

  // ---- state: everything that can be chosen stands in the address, so a view can be linked ------------------------

  const start = () => ({
    doc: 0, step: trace.steps.length, layer: -1, dropped: "grey", find: "", at: null,
    paint: books[0].scorer.at(-1) < 0 && layers ? "reads" : "importance",
  });
  let state = start();

  function fromHash() {
    const given = new URLSearchParams(location.hash.slice(1));
    const next = start();
    const whole = (name, low, high) => {
      const value = Number(given.get(name));
      if (given.get(name) && Number.isInteger(value)) next[name] = Math.min(high, Math.max(low, value));
    };
    whole("doc", 0, books.length - 1);
    whole("step", 0, trace.steps.length);
    whole("layer", -1, layers - 1);
    if (layers && given.has("layer")) next.paint = "reads";
    if (given.get("paint") === "importance" || (given.get("paint") === "reads" && layers)) next.paint = given.get("paint");
    if (["grey", "strike", "hide"].includes(given.get("dropped"))) next.dropped = given.get("dropped");
    next.find = given.get("find") || "";
    const at = /^(\d+)-(\d+)$/.exec(given.get("at") || "");
    if (at) next.at = [Number(at[1]), Number(at[2])];
    return next;
  }

  function toHash() {
    const plain = start(), out = new URLSearchParams();
    for (const name of ["doc", "step", "layer", "paint", "dropped", "find"]) if (state[name] !== plain[name]) out.set(name, state[name]);
    if (state.at) out.set("at", state.at.join("-"));
    try { history.replaceState(null, "", out.size === 0 ? location.pathname + location.search : "#" + out); } catch { /* a sandbox may forbid it */ }
  }

  // ---- tokens: one class string each, written only when it changes ------------------------------------------------

  const REACH = [1, 0.02 * 255, 0.05 * 255, 0.1 * 255, 0.2 * 255, 0.4 * 255, 0.7 * 255]; // lower bounds of r1 to r7
  const DROPPED = 0, GAP = 1, KEPT = 2, IMPORTANCE = 3, READS = 11;
  const KINDS = ["d", "d g", "k", ...Array.from({ length: 8 }, (_, i) => "i" + i), ...Array.from({ length: 8 }, (_, i) => "r" + i)];
  const MARKS = [["p", 1], ["m", 2], ["mm", 4], ["f", 8], ["c", 16]];
  const [PASSAGE, MATCH, CURRENT, FLASH, HELD] = MARKS.map((mark) => mark[1]);
  const names = Array.from({ length: KINDS.length << 5 }, (_, key) =>
    ["t", KINDS[key >> 5], ...MARKS.filter(([, bit]) => key & bit).map(([name]) => name)].join(" "));

  let nodes = [], kinds = new Uint8Array(0), marks = new Uint8Array(0), shown = new Uint16Array(0), places = null, job = 0;

  function classify() {
    const book = books[state.doc], kept = book.kept[state.step](), reading = state.paint === "reads" && layers;
    const values = reading ? book.reads(state.layer) : book.importance[state.step]();
    for (let i = 0; i < book.n; i++) {
      if (!kept[i]) kinds[i] = i && !kept[i - 1] ? DROPPED : GAP;
      else if (!values) kinds[i] = KEPT;
      else if (!reading) kinds[i] = IMPORTANCE + Math.min(7, values[i] >> 5);
      else { let level = 0; while (level < 7 && values[i] >= REACH[level]) level++; kinds[i] = READS + level; }
    }
  }

  function repaint() {
    for (let i = 0; i < nodes.length; i++) {
      const key = (kinds[i] << 5) | marks[i];
      if (shown[i] !== key) { shown[i] = key; nodes[i].className = names[key]; }
    }
  }

  function fill(done) {
    const book = books[state.doc], mine = ++job;
    nodes = []; kinds = new Uint8Array(book.n); marks = new Uint8Array(book.n); shown = new Uint16Array(book.n);
    places = null; held = hovered = -1;
    text.replaceChildren(); text.scrollTop = 0;
    for (const passage of trace.recovered) if (passage.document === state.doc)
      for (let i = passage.tokens[0]; i <= passage.tokens[1]; i++) marks[i] |= PASSAGE;
    classify();
    (function chunk() {
      if (mine !== job) return; // another document was chosen meanwhile
      const piece = document.createDocumentFragment(), end = Math.min(book.n, nodes.length + 2000);
      for (let i = nodes.length; i < end; i++) {
        const node = document.createElement("span");
        node.textContent = book.tokens[i];
        node.token = i;
        shown[i] = (kinds[i] << 5) | marks[i];
        node.className = names[shown[i]];
        nodes.push(node);
        piece.append(node);
      }
      text.append(piece);
      if (end < book.n) setTimeout(chunk); else done();
    })();
  }

  // ---- place: where tokens stand in the scrolled text ------------------------------------------------------------

  function measure() {
    if (places && places.length === nodes.length) return places;
    places = new Float32Array(nodes.length);
    // A hidden token has no place of its own: it takes that of the one before.
    for (let i = 0; i < nodes.length; i++) places[i] = nodes[i].offsetParent ? nodes[i].offsetTop : i ? places[i - 1] : 0;
    return places;
  }
  function tokenAt(y) {
    const at = measure();
    let low = 0, high = at.length;
    while (low < high) { const middle = (low + high) >> 1; if (at[middle] < y) low = middle + 1; else high = middle; }
    return low;
  }
  const visible = () => [tokenAt(text.scrollTop - 8), Math.max(0, tokenAt(text.scrollTop + text.clientHeight) - 1)];
  function bringTo(i, smooth) {
    text.scrollTo({ top: measure()[i] - text.clientHeight / 3, behavior: smooth && !calm.matches ? "smooth" : "auto" });
  }

  // ---- the map beside the text: kept tokens grow from the left, reads from the right --------------------------------

  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  function canvas2d(canvas) {
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = Math.max(1, Math.round(width * ratio)); canvas.height = Math.max(1, Math.round(height * ratio));
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.scale(ratio, ratio);
    return [pen, width, height];
  }

  let mapBase = null;
  function drawMap() {
    if (!books[state.doc].n) return;
    const [pen, width, height] = canvas2d(map);
    const book = books[state.doc], kept = book.kept[state.step](), reads = layers ? book.reads(state.layer) : null;
    const rows = Math.max(1, Math.min(book.n, Math.floor(height / 2))), tall = height / rows;
    const share = new Float32Array(rows), read = new Float32Array(rows);
    for (let row = 0; row < rows; row++) {
      const from = Math.floor((row * book.n) / rows), to = Math.max(from + 1, Math.floor(((row + 1) * book.n) / rows));
      for (let i = from; i < to; i++) { share[row] += kept[i]; if (reads) read[row] += reads[i]; }
      share[row] /= to - from; read[row] /= to - from;
    }
    const most = Math.max(1e-6, ...read), lane = reads ? width * 0.56 : width - 6;
    for (let row = 0; row < rows; row++) {
      pen.fillStyle = `rgb(${colours.tint} / 0.75)`;
      pen.fillRect(0, row * tall, share[row] * lane, Math.max(1, tall - 0.4));
      if (!reads) continue;
      pen.fillStyle = `rgb(${colours.heat} / 0.9)`;
      const long = (read[row] / most) * (width - lane - 6);
      pen.fillRect(width - long, row * tall, long, Math.max(1, tall - 0.4));
    }
    pen.fillStyle = colours.accent;
    for (const passage of trace.recovered) if (passage.document === state.doc)
      pen.fillRect(0, (passage.tokens[0] / book.n) * height - 1, width, Math.max(2.5, ((passage.tokens[1] - passage.tokens[0]) / book.n) * height));
    pen.fillStyle = colours.ink;
    for (const hit of hits) pen.fillRect(width - 6, (hit[0] / book.n) * height, 6, 1.5);
    mapBase = pen.getImageData(0, 0, map.width, map.height);
    drawFrame();
  }

  function drawFrame() {
    if (!mapBase || !nodes.length) return;
    const pen = map.getContext("2d"), n = books[state.doc].n;
    const [first, last] = visible(), height = map.clientHeight;
    pen.putImageData(mapBase, 0, 0);
    const top = (first / n) * height, tall = Math.max(6, ((last - first + 1) / n) * height);
    pen.fillStyle = `rgb(${colours.tint} / 0.12)`;
    pen.fillRect(0, top, map.clientWidth, tall);
    pen.strokeStyle = colours.ink; pen.lineWidth = 1.25;
    pen.strokeRect(0.75, top + 0.75, map.clientWidth - 1.5, Math.max(4, tall - 1.5));
    const room = text.scrollHeight - text.clientHeight;
    map.setAttribute("aria-valuenow", String(room > 0 ? Math.round((100 * text.scrollTop) / room) : 0));
  }

  // ---- the heat map: every layer at once ----------------------------------------------------------------------------

  const heatCells = once(() => books.map((book) => once(() => {
    const wide = Math.min(240, book.n), cells = new Float32Array(wide * layers);
    for (let layer = 0; layer < layers; layer++) {
      const row = book.reads(layer);
      for (let x = 0; x < wide; x++) {
        const from = Math.floor((x * book.n) / wide), to = Math.max(from + 1, Math.floor(((x + 1) * book.n) / wide));
        let sum = 0;
        for (let i = from; i < to; i++) sum += row[i];
        cells[layer * wide + x] = sum / (to - from) / 255;
      }
    }
    return { wide, cells, most: cells.reduce((a, b) => Math.max(a, b), 1e-6) };
  })));

  let heatBase = null;
  function drawHeat() {
    if (!layers || !books[state.doc].n) return;
    const [pen, width, height] = canvas2d(heatmap), { wide, cells, most } = heatCells()[state.doc]();
    const tall = height / layers, across = width / wide;
    pen.clearRect(0, 0, width, height);
    for (let layer = 0; layer < layers; layer++) for (let x = 0; x < wide; x++) {
      const value = cells[layer * wide + x];
      if (!value) continue;
      pen.fillStyle = `rgb(${colours.heat} / ${(0.06 + 0.94 * Math.sqrt(value / most)).toFixed(3)})`;
      pen.fillRect(x * across, layer * tall, across + 0.3, tall + 0.3);
    }
    heatBase = pen.getImageData(0, 0, heatmap.width, heatmap.height);
    $("heat-note").textContent = `Layer 0 on top. Strongest place ${percent(most)}.`;
    drawCross();
  }

  function drawCross() {
    if (!heatBase) return;
    const pen = heatmap.getContext("2d"), width = heatmap.clientWidth, tall = heatmap.clientHeight / layers, i = focused();
    pen.putImageData(heatBase, 0, 0);
    pen.strokeStyle = pen.fillStyle = colours.ink; pen.lineWidth = 1.25;
    if (state.layer >= 0) pen.strokeRect(0.75, state.layer * tall - 0.5, width - 1.5, tall + 1);
    if (i >= 0) pen.fillRect((i / books[state.doc].n) * width, 0, 1, heatmap.clientHeight);
  }

  // ---- the inspected token -------------------------------------------------------------------------------------------

  let held = -1, hovered = -1;
  const focused = () => (hovered >= 0 ? hovered : held);
  const whole = new Intl.NumberFormat("en");
  const percent = (share) => (share === 0 ? "0 %" : share < 0.01 ? "under 1 %" : `${Math.round(share * 100)} %`);
  const element = (tag, content, kind) => {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    made.append(content);
    return made;
  };

  function fate(i) {
    const book = books[state.doc];
    for (let s = 1; s <= trace.steps.length; s++) if (!book.kept[s]()[i]) return [false, `dropped by ${trace.steps[s - 1].method}`];
    return [true, trace.steps.length ? "kept to the end" : "kept"];
  }

  // White space is the one thing that cannot be seen: it is drawn as signs.
  function word(token) {
    const out = element("p", "", "word");
    for (const piece of token.split(/(\s)/u)) {
      if (!piece) continue;
      const sign = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" }[piece];
      out.append(sign ? element("i", sign) : piece);
    }
    return out;
  }

  const SVG = document.querySelector("svg").namespaceURI;
  function spark(i) {
    const out = element("div", "", "spark"), svg = document.createElementNS(SVG, "svg"), pitch = 100 / layers;
    const draw = (tag, values) => {
      const made = document.createElementNS(SVG, tag);
      for (const [name, value] of Object.entries(values)) made.setAttribute(name, value);
      svg.append(made);
    };
    svg.setAttribute("width", "100%"); svg.setAttribute("height", "40"); svg.setAttribute("aria-hidden", "true");
    for (let layer = 0; layer < layers; layer++) {
      const tall = (books[state.doc].reads(layer)[i] / 255) * 38;
      draw("rect", { x: `${layer * pitch + pitch * 0.1}%`, y: 39 - tall, width: `${pitch * 0.8}%`, height: tall, class: layer === state.layer ? "now" : "" });
    }
    draw("line", { x1: 0, x2: "100%", y1: 39.5, y2: 39.5 });
    const ends = element("p", element("span", "layer 0"), "ends");
    ends.append(element("span", `reads by layer`), element("span", String(layers - 1)));
    out.append(svg, ends);
    return out;
  }

  const hint = card.firstElementChild;
  function inspect(aloud) {
    const i = focused(), book = books[state.doc];
    card.setAttribute("aria-live", aloud ? "polite" : "off");
    if (i < 0) { card.replaceChildren(hint); drawCross(); return; }
    const facts = document.createElement("dl"), [stays, destiny] = fate(i);
    const add = (name, value, kind) => facts.append(element("dt", name), element("dd", value, kind));
    add("Index", whole.format(i));
    const scores = book.importance[state.step]();
    if (scores) add("Importance", (scores[i] / 255).toFixed(2));
    if (layers) {
      add("Read, mean", percent(book.reads(-1)[i] / 255));
      if (state.layer >= 0) add(`Read, layer ${state.layer}`, percent(book.reads(state.layer)[i] / 255));
    }
    add("Fate", destiny, stays ? "fate" : "fate no");
    card.replaceChildren(word(book.tokens[i]), facts, ...(layers && wide.matches ? [spark(i)] : []));
    drawCross();
  }

  const mark = (i, bit, on) => { if (i >= 0 && i < marks.length) marks[i] = on ? marks[i] | bit : marks[i] & ~bit; };
  function hold(i, aloud) {
    mark(held, HELD, false);
    held = i;
    mark(held, HELD, true);
    repaint(); inspect(aloud);
  }

  // ---- search ------------------------------------------------------------------------------------------------------

  let hits = [], hit = -1;
  const offsets = books.map((book) => once(() => {
    const at = new Uint32Array(book.n + 1);
    book.tokens.forEach((token, i) => { at[i + 1] = at[i] + token.length; });
    return at;
  }));

  function find() {
    for (let i = 0; i < marks.length; i++) marks[i] &= ~(MATCH | CURRENT);
    hits = []; hit = -1;
    const words = state.find.trim();
    if (words) {
      const book = books[state.doc], at = offsets[state.doc](), all = book.tokens.join("");
      const pattern = new RegExp(words.split(/\s+/u).map((w) => w.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("\\s+"), "giu");
      let i = 0;
      for (const found of all.matchAll(pattern)) {
        if (hits.length >= 5000) break;
        while (at[i + 1] <= found.index) i++;
        let last = i;
        while (at[last + 1] < found.index + found[0].length) last++;
        hits.push([i, last]);
        for (let j = i; j <= last; j++) marks[j] |= MATCH;
      }
    }
    turn(hits.length ? Math.max(0, hits.findIndex(([first]) => first >= visible()[0])) : -1, false);
    drawMap();
  }

  function turn(to, smooth) {
    if (hit >= 0) for (let j = hits[hit][0]; j <= hits[hit][1]; j++) marks[j] &= ~CURRENT;
    hit = hits.length ? (to + hits.length) % hits.length : -1;
    if (hit >= 0) for (let j = hits[hit][0]; j <= hits[hit][1]; j++) marks[j] |= CURRENT;
    repaint();
    if (state.dropped === "hide") places = null;
    $("found").textContent = hits.length ? `${whole.format(hit + 1)} of ${whole.format(hits.length)}` : state.find.trim() ? "no match" : "";
    if (hit >= 0) bringTo(hits[hit][0], smooth);
  }

  // ---- jump to a passage --------------------------------------------------------------------------------------------

  let fading = 0;
  function jump([first, last], bring) {
    const end = Math.min(last, nodes.length - 1);
    if (first > end) return;
    clearTimeout(fading);
    for (let i = 0; i < marks.length; i++) marks[i] &= ~FLASH;
    repaint();
    void text.offsetWidth; // lets the animation start anew
    for (let i = first; i <= end; i++) marks[i] |= FLASH;
    repaint();
    if (state.dropped === "hide") places = null;
    if (bring) $("reading").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "start" });
    bringTo(first, false);
    root.dataset.flashed = `${first}-${end}`;
    fading = setTimeout(() => { for (let i = first; i <= end; i++) mark(i, FLASH, false); places = null; repaint(); }, 2600);
  }

  // ---- controls -----------------------------------------------------------------------------------------------------

  const wide = matchMedia("(min-width: 60.01rem)");
  let colours = {};
  function readColours() {
    colours = { tint: colour("--tint"), heat: colour("--heat"), ink: colour("--ink"), accent: colour("--accent") };
  }

  function build() {
    const seg = $("pick-step").querySelector(".seg");
    const total = books.reduce((sum, book) => sum + book.n, 0);
    [["Original", total], ...trace.steps.map((step, s) => [`${s + 1} ${step.method}`, step.tokens_out])].forEach(([name, tokens], s) => {
      const label = document.createElement("label"), input = document.createElement("input");
      input.type = "radio"; input.name = "step"; input.value = String(s);
      const face = element("span", name);
      if (tokens !== null) face.append(element("small", whole.format(tokens)));
      label.append(input, face);
      seg.append(label);
    });
    $("pick-doc").hidden = books.length < 2;
    $("pick-paint").hidden = $("pick-layer").hidden = $("heat").hidden = !layers;
  }

  function legend() {
    const scale = (title, kind, labels, unit) => {
      const out = element("span", title, "scale"), steps = document.createElement("b");
      labels.forEach((label, i) => steps.append(element("span", label, kind + i)));
      out.append(steps, unit);
      return out;
    };
    const sample = (kind, words) => element("span", words, "t " + kind);
    const scored = books[state.doc].scorer[state.step];
    const items = state.paint === "reads"
      ? [scale("read in", "r", ["0", "<2", "2", "5", "10", "20", "40", "70"], "% of decoding steps")]
      : scored >= 0
        ? [scale(`importance by ${trace.steps[scored].method}  0`, "i", Array(8).fill("\u2007"), "1")]
        : [sample("k", "kept")];
    items.push(sample("d", "dropped"));
    if (trace.recovered.some((passage) => passage.document === state.doc)) items.push(sample("p", "recovered passage"));
    $("legend").replaceChildren(...items);
  }

  function sync() {
    const book = books[state.doc], left = book.kept[state.step]().reduce((a, b) => a + b, 0);
    for (const name of ["step", "paint", "dropped"])
      for (const input of controls.querySelectorAll(`input[name=${name}]`)) input.checked = input.value === String(state[name]);
    controls.elements.doc.value = String(state.doc);
    controls.elements.layer.value = String(state.layer);
    if (document.activeElement !== controls.elements.find) controls.elements.find.value = state.find;
    const layer = state.layer < 0 ? "mean of all" : String(state.layer);
    $("layer-name").textContent = layer;
    controls.elements.layer.setAttribute("aria-valuetext", state.layer < 0 ? "mean of all layers" : `layer ${layer}`);
    text.className = `text ${state.dropped}`;
    $("summary").textContent = `${whole.format(left)} of ${whole.format(book.n)} tokens kept, ${percent(left / Math.max(1, book.n))}`;
    Object.assign(root.dataset, { doc: state.doc, step: state.step, layer: state.layer, paint: state.paint, dropped: state.dropped });
    legend();
  }

  /** Take over a new state; only what it changes is drawn again. */
  function set(change, bring) {
    const old = state;
    state = { ...state, ...change };
    if (books[state.doc].scorer.length && state.paint === "reads" && !layers) state.paint = "importance";
    sync();
    const ready = () => {
      if (state.find !== old.find || state.doc !== old.doc) find();
      if (state.at && (state.at !== old.at || bring)) jump(state.at, bring);
      drawMap();
      if (state.doc !== old.doc || !heatBase) drawHeat(); else drawCross();
      root.dataset.ready = "1"; root.dataset.tokens = String(nodes.length);
    };
    if (state.doc !== old.doc || !nodes.length) { delete root.dataset.ready; fill(ready); } else {
      // What is read stays where it is while tokens above it come or go.
      const top = visible()[0], moves = state.dropped !== old.dropped || (state.dropped === "hide" && state.step !== old.step);
      classify(); repaint();
      if (moves) { places = null; text.scrollTop = measure()[top] - 8; }
      inspect(); ready();
    }
    toHash();
  }

  let queued = null;
  function soon(change) { // many slider moves in one frame are one change
    if (queued) { Object.assign(queued, change); return; }
    queued = change;
    requestAnimationFrame(() => { const now = queued; queued = null; set(now); });
  }

  controls.addEventListener("submit", (event) => event.preventDefault());
  $("reading").addEventListener("input", ({ target }) => {
    if (target.name === "layer") soon({ layer: Number(target.value), paint: "reads" });
    else if (target.name === "find") soon({ find: target.value, at: null });
    else if (target.name === "doc" || target.name === "step") set({ [target.name]: Number(target.value), at: null });
    else set({ [target.name]: target.value });
  });
  $("reading").addEventListener("keydown", (event) => {
    if (event.target !== controls.elements.find || event.key !== "Enter") return;
    event.preventDefault();
    turn(hit + (event.shiftKey ? -1 : 1), true);
  });
  $("prev").addEventListener("click", () => turn(hit - 1, true));
  $("next").addEventListener("click", () => turn(hit + 1, true));

  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#doc="]');
    if (!link) return;
    event.preventDefault();
    const given = new URLSearchParams(link.getAttribute("href").slice(1));
    set({ doc: Number(given.get("doc")), at: given.get("at").split("-").map(Number) }, true);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
    event.preventDefault();
    controls.elements.find.focus();
  });

  text.addEventListener("pointerover", (event) => {
    const i = event.target.token;
    if (event.pointerType === "touch" || i === undefined || i === hovered) return;
    hovered = i; inspect();
  });
  text.addEventListener("pointerleave", () => { hovered = -1; inspect(); });
  text.addEventListener("click", (event) => {
    if (event.target.token !== undefined && getSelection().isCollapsed) hold(event.target.token === held ? -1 : event.target.token);
  });
  text.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") { hovered = -1; hold(-1); }
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    let i = held < 0 ? visible()[0] : held + by;
    while (nodes[i] && !nodes[i].offsetParent) i += by; // over hidden ones
    if (!nodes[i]) return;
    hovered = -1; hold(i, true);
    const y = measure()[i] - text.scrollTop;
    if (y < 0 || y > text.clientHeight - 40) bringTo(i, false);
  });
  text.addEventListener("scroll", () => requestAnimationFrame(drawFrame), { passive: true });

  const toPlace = (event) => {
    const box = map.getBoundingClientRect(), n = books[state.doc].n;
    bringTo(Math.max(0, Math.min(n - 1, Math.floor(((event.clientY - box.top) / box.height) * n))), false);
  };
  map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); toPlace(event); });
  map.addEventListener("pointermove", (event) => { if (event.buttons) toPlace(event); });
  map.addEventListener("keydown", (event) => {
    const page = text.clientHeight * 0.9;
    const by = { ArrowDown: 60, ArrowUp: -60, PageDown: page, PageUp: -page, End: 1e9, Home: -1e9 }[event.key];
    if (by) { event.preventDefault(); text.scrollBy({ top: by }); }
  });
  heatmap.addEventListener("click", (event) => {
    const box = heatmap.getBoundingClientRect();
    const part = (at, length) => Math.max(0, Math.min(0.9999, at / length));
    set({ layer: Math.floor(part(event.clientY - box.top, box.height) * layers), paint: "reads" });
    bringTo(Math.floor(part(event.clientX - box.left, box.width) * books[state.doc].n), true);
  });

  // ---- the line of reads per step -------------------------------------------------------------------------------------

  const lines = $("lines");
  if (lines) {
    const runs = [["this run", "mine", trace.receipt.read_per_step]];
    if (trace.dense) runs.push(["dense", "theirs", trace.dense.receipt.read_per_step]);
    const drawn = runs.filter((run) => run[2].length), steps = Math.max(...drawn.map((run) => run[2].length));
    const readout = $("readout"), average = [...readout.childNodes];
    lines.addEventListener("pointermove", (event) => {
      const box = lines.getBoundingClientRect();
      const at = Math.max(0, Math.min(steps - 1, Math.round(((event.clientX - box.left) / box.width) * (steps - 1))));
      const x = steps > 1 ? (at / (steps - 1)) * lines.viewBox.baseVal.width : 0;
      for (const end of ["x1", "x2"]) $("cursor").setAttribute(end, x);
      $("cursor").setAttribute("visibility", "visible");
      readout.replaceChildren(...drawn.flatMap(([name, kind, values]) => {
        const key = element("span", name + " ", "key " + kind);
        key.append(element("b", values[at] == null ? "–" : whole.format(Math.round(values[at]))));
        return [key, " "];
      }), element("span", `at step ${at + 1}`));
    });
    lines.addEventListener("pointerleave", () => { $("cursor").setAttribute("visibility", "hidden"); readout.replaceChildren(...average); });
  }

  // ---- begin ----------------------------------------------------------------------------------------------------------

  const redraw = () => { readColours(); places = null; drawMap(); inspect(); drawHeat(); };
  new ResizeObserver(() => { if (root.dataset.ready) redraw(); }).observe(text);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  window.addEventListener("hashchange", () => { if (!location.hash || location.hash.includes("=")) set(fromHash(), location.hash.includes("at=")); });
  readColours();
  build();
  set(fromHash(), location.hash.includes("at="));
})();
