// Run the ways one after the other, tell what goes on, and stop when asked to.

import { taskOf } from "./state.js";
import { events } from "./wire.js";

/** Whether tokens of an arm come at once, so that they may follow every key. */
export const isQuick = (state, arm) => state.kind === "text" && !arm.answer && !arm.methods.length;

/** Whether there is something to read. */
export const isEmpty = (state) => (state.kind === "picture" || state.kind === "sound" ? !state.data : !state.text.trim());

/** What a result depends on. */
export const keyOf = ({ kind, text, data, ask }, arm) => JSON.stringify([kind, text, data.length, ask, arm]);

const SLOW = 400; // milliseconds after which quick work says what it does and can be stopped

export class Runs {
  #abort = null; #light = true;

  /** `changed` is called whenever something of the result `at` is new; `progress` with what is going on, or "". */
  constructor({ changed, progress }) {
    this.changed = changed;
    this.progress = progress;
    this.results = [];
  }

  get running() { return this.#abort !== null; }

  /** Whether what runs may be begun anew without a loss. */
  get light() { return !this.running || this.#light; }

  /** Ways whose tokens come at once, and that were not found yet. */
  lacking(state) {
    return state.arms.map((_, at) => at).filter((at) => isQuick(state, state.arms[at]) && !(this.results[at]?.value && !this.results[at].stale));
  }

  stop() { this.#abort?.abort(); }

  /** Keep to each way what was found for it, and mark what was found for another input or other fields. */
  settle(state) {
    this.results = state.arms.map((arm) => this.results.find((result) => result?.arm === arm));
    state.arms.forEach((arm, at) => { if (this.results[at]?.value) this.results[at].stale = this.results[at].key !== keyOf(state, arm); });
  }

  /** Run some of the arms, by number; whatever runs is stopped first. */
  async run(state, which) {
    this.stop();
    const abort = (this.#abort = new AbortController());
    this.#light = which.every((at) => isQuick(state, state.arms[at]));
    for (const at of which) {
      if (abort.signal.aborted) break;
      await this.#one(state, at, abort.signal);
    }
    if (this.#abort !== abort) return;
    this.#abort = null;
    this.progress("");
    // What was changed meanwhile waited, so that nothing heavy was stopped for it.
    if (!abort.signal.aborted && !this.#light) await this.run(state, this.lacking(state));
  }

  async #one(state, at, signal) {
    const arm = state.arms[at];
    if (!arm) return; // it was removed while others ran
    const now = { status: "running", arm, key: keyOf(state, arm), pieces: [], value: this.results[at]?.value, stale: true };
    this.results[at] = now;
    const place = () => this.results.indexOf(now); // ways may be removed meanwhile
    const many = state.arms.length > 1 ? `way ${at + 1}: ` : "";
    let soon = 0;
    this.changed(at, "begun");
    // What is quick mostly ends before it needs a word.
    const slow = isQuick(state, arm) && setTimeout(() => { if (!signal.aborted) this.progress(`${many}cuts the text into tokens`); }, SLOW);
    const drawSoon = () => { soon ||= requestAnimationFrame(() => { soon = 0; if (place() >= 0) this.changed(place(), "piece"); }); };
    try {
      const task = taskOf(state, arm);
      if (!isQuick(state, arm)) this.progress(`${many}starts`);
      for await (const told of events("api/run", task, signal)) {
        if (told.progress) this.progress(many + told.progress);
        if (told.piece) { now.pieces.push(told.piece); drawSoon(); }
        if (told.error) throw new Error(told.error);
        if (told.result) Object.assign(now, { status: "done", value: told.result, stale: false });
      }
      if (now.status === "running") throw new Error("The studio stopped in the middle of it; start it again. What you entered is kept.");
    } catch (error) {
      if (error.name === "AbortError") Object.assign(now, { status: "stopped" });
      else Object.assign(now, { status: "error", error: error.message, value: null });
    }
    clearTimeout(slow);
    if (soon) cancelAnimationFrame(soon);
    if (place() >= 0) this.changed(place(), now.status);
  }
}
