// One token is looked at: the one under the pointer, or the one that a click or the arrow keys hold.

const EDGE = 40; // pixels at the bottom in which a held token counts as out of sight

export class Pointing {
  #held = -1; #hovered = -1;

  /** `changed` is called when another token is looked at; its argument says whether that shall be read aloud. */
  constructor(text, changed) {
    this.text = text;
    this.changed = changed;
    const { element } = text;
    element.addEventListener("pointerover", (event) => this.#over(event));
    element.addEventListener("pointerleave", () => { this.#hovered = -1; changed(false); });
    element.addEventListener("click", (event) => this.#click(event));
    element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** The token that is looked at, or -1. */
  get token() { return this.#hovered >= 0 ? this.#hovered : this.#held; }

  /** Look at nothing, without a word: other tokens are drawn. */
  forget() { this.#held = this.#hovered = -1; }

  hold(i, aloud = false) {
    this.text.mark("held", this.#held, this.#held, false);
    this.#held = i;
    this.text.mark("held", i, i, i >= 0);
    this.text.repaint();
    this.changed(aloud);
  }

  #over(event) {
    const i = this.text.tokenOf(event);
    if (event.pointerType === "touch" || i === undefined || i === this.#hovered) return;
    this.#hovered = i;
    this.changed(false);
  }

  #click(event) {
    const i = this.text.tokenOf(event);
    if (i !== undefined && getSelection().isCollapsed) this.hold(i === this.#held ? -1 : i);
  }

  #key(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key], { text } = this;
    if (event.key === "Escape") { this.#hovered = -1; this.hold(-1); }
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    let i = this.#held < 0 ? text.visible()[0] : this.#held + by;
    while (text.hidden(i)) i += by;
    if (i < 0 || i >= text.length) return;
    this.#hovered = -1;
    this.hold(i, true);
    const y = text.topOf(i) - text.element.scrollTop;
    if (y < 0 || y > text.element.clientHeight - EDGE) text.bringTo(i, false);
  }
}
