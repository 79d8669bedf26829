// The studio: one state, the ways to read it, and what is drawn of what they gave.

import { drawArms } from "./arms.js";
import { listenToInput, showInput } from "./input.js";
import { Pane } from "./pane.js";
import { linkOf, linked } from "./permalink.js";
import { charts, costsTable } from "./receipt.js";
import { answerOf, comparison, messagesTable, notesOf, traceOfMessages } from "./results.js";
import { Runs, isEmpty, isQuick, keyOf } from "./running.js";
import { signalPane } from "./signal_pane.js";
import { armsFor, emptyArm, emptyState, firstArm, full, methodOf, nameOf, stateOf } from "./state.js";
import { copy, download, pageOf, saved } from "./taking.js";
import { json, takeKey } from "./wire.js";

const DRAFT = "tokenry-draft"; // under which this tab keeps what was entered, should it be loaded again
const WAITS = 120; // milliseconds after the last key before tokens are drawn anew

const $ = (id) => document.getElementById(id);
const root = document.documentElement;

let offer = { methods: [], readers: [] }, state = emptyState(emptyArm("")), panes = [], shown = [], waysOf = {}, typing = 0;
const runs = new Runs({ changed: heard, progress: showProgress });

const many = () => state.arms.length > 1;
const all = () => state.arms.map((_, at) => at);
const quick = () => all().filter((at) => isQuick(state, state.arms[at]));

function say(sentence) {
  $("said").textContent = sentence;
  $("said").hidden = !sentence;
}

const tell = (words) => { $("told").textContent = words; };

/** Do something that a person asked for; what goes wrong is a sentence on the page. */
const asked = (act) => async (...given) => {
  say("");
  try { await act(...given); } catch (error) { say(error.message); }
};

/** Take over a change of the input, or of a way. */
function changed(change = {}, now = true) {
  if (change.kind && change.kind !== state.kind) {
    const isSignal = (kind) => kind === "picture" || kind === "sound";
    waysOf[state.kind] = state.arms;
    state.arms = armsFor(change.kind, state.arms, waysOf[change.kind]);
    if (isSignal(change.kind) && !("data" in change)) change = { ...change, data: "", name: "" };
    runs.results = [];
  }
  Object.assign(state, change);
  if ("kind" in change) { drawArms($("arms"), state, offer, armChanged); }
  showInput(state);
  keep();
  if ("price" in change) { drawBeside(); return; }
  runs.settle(state);
  follow(now);
}

/** Draw the tokens of ways that are quick soon, and say of the others that they are out of date. */
function follow(now) {
  clearTimeout(typing);
  if (isEmpty(state)) { runs.stop(); runs.results = []; drawResults(); return; }
  drawBeside();
  say("");
  if (now && quick().length) typing = setTimeout(() => { if (runs.light) runs.run(state, runs.lacking(state)); }, waits());
}

// A paste is drawn at once; letters wait for the next.
let pasted = false;
const waits = () => { const wait = pasted ? 0 : WAITS; pasted = false; return wait; };

function armChanged(now) {
  runs.settle(state);
  keep();
  drawResults();
  follow(now);
}

/** Something of the result `at` is new. */
function heard(at, what) {
  if (what === "begun") { drawBeside(); return; }
  if (what === "piece") { drawAnswers(); return; }
  if (what === "error" && runs.results[at].error) say(runs.results[at].error);
  if (what === "done") { tell(`${nameOf(state.arms[at], state.kind)} is done`); }
  if (what === "stopped") tell("Stopped; what was there before is kept.");
  drawResults();
}

function showProgress(words) {
  $("progress").hidden = $("stop").hidden = !words;
  $("run").disabled = Boolean(words);
  $("doing").textContent = words;
  if (words) drawBeside();
}

function drawBeside() {
  const there = all().filter((at) => runs.results[at]?.value).map((at) => [nameOf(state.arms[at], state.kind), runs.results[at].value]);
  const table = isEmpty(state) && !there.length && !many() ? hint() : comparison(state.arms, runs.results, state);
  $("beside").replaceChildren(...[table, notesOf(there)].filter(Boolean));
}

function hint() {
  const out = document.createElement("p");
  out.className = "aside";
  out.textContent = "Tokens appear here as soon as there is something to read.";
  return out;
}

function drawAnswers() {
  const said = all().filter((at) => runs.results[at]?.pieces?.length || runs.results[at]?.value?.trace?.answer);
  $("answers").replaceChildren(...said.map((at) => answerOf(nameOf(state.arms[at], state.kind), runs.results[at], many())));
}

function drawResults() {
  drawBeside();
  drawAnswers();
  drawPanes();
  const ran = all().filter((at) => runs.results[at]?.value).map((at) => [nameOf(state.arms[at], state.kind), runs.results[at].value]);
  $("receipt").hidden = $("export").hidden = !ran.length;
  if (!ran.length) { delete root.dataset.drawn; return; }
  $("charts").replaceChildren(...charts(ran));
  $("costs").replaceChildren(costsTable(ran));
  drawExport();
  root.dataset.drawn = String(Number(root.dataset.drawn || 0) + 1);
}

/** One pane, or two side by side where there are several ways. */
function drawPanes() {
  const there = all().filter((at) => runs.results[at]?.value);
  const looked = [0, 1].map((pane) => (there.includes(shown[pane]) ? shown[pane] : there[Math.min(pane, there.length - 1)]));
  const wanted = Math.min(2, there.length), kinds = state.kind === "picture" || state.kind === "sound";
  if (kinds) {
    panes = [];
    $("changes").replaceChildren();
    $("panes").classList.toggle("two", there.length > 1);
    $("panes").replaceChildren(...there.map((at) => signalPane(runs.results[at].value)));
    return;
  }
  const extra = [];
  if (!panes.length) $("panes").replaceChildren();
  while (panes.length > wanted) panes.pop().element.remove();
  while (panes.length < wanted) {
    panes.push(paneOf(panes.length));
    $("panes").append(panes.at(-1).element);
  }
  $("panes").classList.toggle("two", wanted === 2);
  panes.forEach((pane, number) => {
    const at = looked[number], { value } = runs.results[at], found = value.kind === "messages" ? traceOfMessages(value, state.arms[at]) : { trace: value.trace, extra: { ids: [value.ids ?? []], bytes: [value.bytes ?? []], shown: [value.shown], near: state.arms[at].answer } };
    pane.chooser.replaceChildren(...there.map((other) => new Option(`${other + 1} ${nameOf(state.arms[other], state.kind)}`, other)));
    pane.chooser.value = String(at);
    pane.reader = state.arms[at].reader;
    pane.chooserRow.hidden = !many();
    if (value.kind === "messages") extra.push(messagesTable(value));
    pane.element.hidden = !found;
    // What is drawn already stays as it is looked at.
    if (found && pane.value !== value) { pane.value = value; pane.show(found.trace, found.extra); }
  });
  $("changes").replaceChildren(...extra);
}

function paneOf(number) {
  const pane = new Pane($("pane"), async (id) => (await json("api/neighbours", { reader: pane.reader, id })).neighbours);
  pane.chooser.addEventListener("change", () => { shown[number] = Number(pane.chooser.value); drawPanes(); });
  return pane;
}

function drawExport() {
  const select = $("export-arm"), there = all().filter((at) => runs.results[at]?.value), before = Number(select.value);
  select.replaceChildren(...there.map((at) => new Option(`${at + 1} ${nameOf(state.arms[at], state.kind)}`, at)));
  select.value = String(there.includes(before) ? before : there[0]);
  $("export-field").hidden = there.length < 2;
  const value = chosen();
  $("command").textContent = value.command ?? "";
  $("command-note").hidden = state.kind !== "text" || !/^tokenry compress/.test(value.command ?? "");
  $("python").textContent = value.python ?? "";
  $("export-page").disabled = value.kind !== "text";
  $("copy-ids").disabled = !value.ids;
}

const chosen = () => runs.results[Number($("export-arm").value)].value;

/** Keep what was entered, should the page be loaded again. */
function keep() {
  try { sessionStorage.setItem(DRAFT, JSON.stringify(state)); } catch { /* too much to keep: a file keeps it */ }
}

/** Show other work: a state, and what was found for it. */
function open(given) {
  runs.stop();
  shown = []; waysOf = {};
  if (given.schema?.startsWith("tokenry.trace/")) {
    try { given = ofTrace(given); } catch { throw new Error("This trace is damaged; open one as a run wrote it."); }
  }
  state = stateOf(given, offer.readers[0]?.name ?? "");
  const results = Array.isArray(given.results) ? given.results : [];
  runs.results = state.arms.map((_, at) => (isResult(results[at], state.kind) ? { status: "done", arm: state.arms[at], key: keyOf(state, state.arms[at]), pieces: [], value: results[at], stale: false } : undefined));
  panes = [];
  drawArms($("arms"), state, offer, armChanged);
  showInput(state);
  keep();
  try { drawResults(); } catch {
    runs.results = []; panes = [];
    drawResults();
    say("What was found is damaged and was left out; the input is whole. Press Run to find it again.");
  }
  if (!isEmpty(state)) runs.run(state, runs.lacking(state));
}

const isResult = (value, kind) => value && value.kind === kind && (kind === "text" ? Array.isArray(value.trace?.documents) && Array.isArray(value.trace.steps) && value.trace.receipt : true);

/** The trace that a run wrote, as work. */
function ofTrace(trace) {
  const arm = { ...emptyArm(trace.model.name), methods: trace.pipeline.map(methodOf), answer: Boolean(trace.answer) };
  return { kind: "text", text: trace.documents.map((document) => document.tokens.join("")).join("\n\n"), ask: trace.ask, arms: [arm], results: [{ kind: "text", trace, seconds: trace.receipt.seconds.first_token }] };
}

async function start() {
  takeKey();
  offer = await json("api/cards");
  state = emptyState(firstArm(offer));
  if (!offer.readers.length) say("No tokenizer is ready; run `tokenry models get smollm2`, then load this page again.");
  const link = await linked(location.hash).catch((error) => { say(error.message); return null; });
  let draft = null;
  try { draft = JSON.parse(sessionStorage.getItem(DRAFT)); } catch { /* damaged: begin anew */ }
  for (const given of [link, draft, state]) if (given) { try { open(given); break; } catch (error) { if (given === link) say(error.message); } }
  root.dataset.ready = "1";
}

$("words").addEventListener("paste", () => { pasted = true; });
listenToInput({ changed, opened: asked((work) => open(work)), failed: say });
const runAll = asked(() => {
  if (isEmpty(state)) throw new Error("There is nothing to read yet; paste, type or drop something.");
  return runs.run(state, all());
});
$("run").addEventListener("click", runAll);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !runs.running) { event.preventDefault(); runAll(); }
  if (event.key === "Escape" && runs.running) runs.stop();
});
$("stop").addEventListener("click", () => runs.stop());
$("add").addEventListener("click", () => {
  if (full(state)) { say("There are as many ways as fit side by side; remove one first."); return; }
  const last = state.arms.at(-1), others = offer.readers.map((reader) => reader.name).filter((name) => !state.arms.some((arm) => arm.reader === name));
  state.arms.push(last.methods.length ? { ...last, methods: [] } : emptyArm(others[0] ?? last.reader));
  drawArms($("arms"), state, offer, armChanged);
  armChanged(true);
  $("arms").lastElementChild.querySelector("select").focus();
});
$("save").addEventListener("click", asked(() => download(saved(state, runs.results), "studio.json")));
$("link").addEventListener("click", asked(async () => {
  const link = await linkOf(state);
  history.replaceState(null, "", `#${link}`);
  await copy(location.href);
  tell("The link is copied.");
}));
window.addEventListener("hashchange", asked(async () => { const link = await linked(location.hash); if (link) open(link); }));
$("export-arm").addEventListener("change", drawExport);
$("export-page").addEventListener("click", asked(async () => download(await pageOf(chosen()), "trace.html", "text/html")));
$("export-json").addEventListener("click", asked(() => download(JSON.stringify(chosen().trace ?? chosen()), "trace.json")));
$("copy-ids").addEventListener("click", asked(async () => { await copy(chosen().ids.join(" ")); tell("The ids are copied."); }));
start().catch((error) => say(error.message));
