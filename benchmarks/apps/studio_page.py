"""The studio's page in a browser: first paint, a paste until its tokens are coloured, and frames while one scrolls.

The control is a page that draws every token, as the report does for short texts, with the same scripts.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, fixed, show
from tests import browser
from tokenry.data import read
from tokenry.report.script import script
from tokenry.report.template import styles
from tokenry.segment.engines.opening import open_tokenizer

TITLE = "The studio in a browser"
SUBJECTS = ("the studio",)
ABOUT = (
    "Chromium without a window draws in software on the machine that also serves the page. A paste is measured from "
    "the event until the frame that shows the coloured tokens of `sample-unigram` and `smollm2`; the server has opened "
    "the tokenizer before, as it does by itself after its start. Scrolling moves on by 40 pixels a frame, as a wheel "
    "does, or by ten screens a frame, as the bar does when it is drawn. When this was recorded, two or three other "
    "processes shared the two processors; CPU ms are the page's own. The control draws every token at once."
)

REPEATS, PASTED, LONG, SECONDS = 5, 10_000, 100_000, 1.5
SPEEDS = {"a wheel": 40, "the bar": 6000}
"""Pixels a frame."""
SLOW = 1000 / 60 * 1.5
"""Milliseconds from which a frame was late: one was left out."""

PASTE = """async text => {
  const words = document.getElementById("words"), root = document.documentElement;
  const frame = () => new Promise(requestAnimationFrame);
  words.value = "";
  words.dispatchEvent(new Event("input", { bubbles: true }));
  await new Promise(rest => setTimeout(rest, 400));
  const before = root.dataset.drawn, start = performance.now();
  const done = new Promise(ready => new MutationObserver((_, eye) => {
    if (root.dataset.drawn && root.dataset.drawn !== before) { eye.disconnect(); ready(); }
  }).observe(root, { attributes: true, attributeFilter: ["data-drawn"] }));
  words.dispatchEvent(new ClipboardEvent("paste", { clipboardData: new DataTransfer(), bubbles: true }));
  words.value = text;
  words.dispatchEvent(new Event("input", { bubbles: true }));
  await done; await frame(); await frame();
  return performance.now() - start;
}"""
SCROLL = """async ([pixels, seconds]) => {
  const text = document.querySelector(".text"), times = [];
  const frame = () => new Promise(requestAnimationFrame);
  text.scrollTop = 0;
  await frame(); await frame();
  let last = await frame(), end = last + 1000 * seconds, way = pixels;
  while (last < end) {
    const at = text.scrollTop;
    text.scrollTop += way;
    if (text.scrollTop === at) way = -way;
    const now = await frame();
    times.push(now - last);
    last = now;
  }
  return times;
}"""
EVERY = """<!doctype html><meta charset="utf-8"><style>{css} .text {{ height: 40rem }}</style><div class="text"></div>
<script>{js}</script>"""
ALONE = """
import { kindsOf } from "../drawing/kinds.js";
import { TokenText } from "../drawing/tokens.js";
window.draw = (tokens) => new Promise((done) => new TokenText(document.querySelector(".text")).show(
  tokens, kindsOf(new Uint8Array(tokens.length).fill(1), null, "turns"), [], done));
"""


def main() -> None:
    """Measure, or less and unrecorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="each once and for a second; not recorded")
    quick = options.parse_args().quick
    repeats, seconds = (1, 1.0) if quick else (REPEATS, SECONDS)
    settings = {"repeats": repeats, "pasted": PASTED, "long": LONG, "seconds": seconds, "speeds": SPEEDS}
    record = Record("apps/studio_page", dtype="text", settings=settings, save=not quick)
    with served() as (address, started), player() as chromium:
        for what, measure in (
            ("paint", lambda: [painted(chromium, address, started, repeats)]),
            ("paste", lambda: pasted(chromium, address, repeats)),
            ("scroll", lambda: scrolled(chromium, address, seconds, repeats)),
        ):
            if record.find(what=what) is None:
                record.add(*measure())
    show(record.finish(claims(record.rows)), tables)


@contextmanager
def served() -> Iterator[tuple[str, float]]:
    """The address of a studio in a process of its own, and the seconds until it answered."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = time.perf_counter()
    command = [sys.executable, "-m", "tokenry", "studio", "--no-open", "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        while True:
            try:
                urllib.request.urlopen(address).close()
                break
            except OSError:
                time.sleep(0.02)
        yield address, time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


@contextmanager
def player() -> Iterator[Any]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=browser.find(), args=["--no-sandbox"])
        yield program
        program.close()


def painted(chromium: Any, address: str, started: float, repeats: int) -> Row:
    """Milliseconds until something is painted, and until the page can be used."""
    first, ready = [], []
    for _ in range(repeats):
        page = chromium.new_context().new_page()
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        ready.append(page.evaluate("performance.now()"))
        page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")
        first.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        page.context.close()
    return {"what": "paint", "started_s": round(started, 2), "first_ms": _rounded(first), "ready_ms": _rounded(ready)}


def pasted(chromium: Any, address: str, repeats: int) -> list[Row]:
    """Milliseconds from a paste to the frame with its tokens."""
    rows = []
    for reader in ("sample-unigram", "smollm2"):
        text = _text(reader, PASTED)
        page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        page.select_option("[data-what=reader]", reader)
        page.evaluate(PASTE, text)  # the tokenizer is open from here on
        times = [page.evaluate(PASTE, text) for _ in range(repeats)]
        rows.append({"what": "paste", "reader": reader, "tokens": PASTED, "ms": _rounded(times)})
        page.context.close()
    return rows


def scrolled(chromium: Any, address: str, seconds: float, repeats: int) -> list[Row]:
    """Milliseconds of each frame while a long text moves."""
    text = _text("smollm2", LONG)
    page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    page.evaluate(PASTE, text)
    rows = [_frames("the studio", page, name, pixels, seconds, repeats) for name, pixels in SPEEDS.items()]
    page.context.close()
    with tempfile.TemporaryDirectory() as folder:
        page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.goto(_every(Path(folder)))
        tokens = open_tokenizer("smollm2").encode(text)
        data = text.encode()
        drawn = [data[a:b].decode(errors="replace") for a, b in tokens.spans[:, :2].tolist()]
        page.evaluate("async tokens => { await window.draw(tokens); }", drawn)
        rows += [_frames("every token", page, name, pixels, seconds, repeats) for name, pixels in SPEEDS.items()]
        page.context.close()
    return rows


def _frames(arm: str, page: Any, how: str, pixels: int, seconds: float, repeats: int) -> Row:
    """The frames of all rounds; those a second are of the median round."""
    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = _worked(tools)
    rounds = [np.array(page.evaluate(SCROLL, [pixels, seconds])) for _ in range(repeats)]
    times = np.concatenate(rounds)
    worked = 1000 * (_worked(tools) - before) / len(times)
    nodes = page.evaluate("document.querySelectorAll('.text .t').length")
    a_second = float(np.median([1000 * len(r) / r.sum() for r in rounds]))
    return {
        "what": "scroll", "arm": arm, "how": how, "pixels": pixels, "frames": len(times), "nodes": nodes,
        "a_second": round(a_second, 1), "p50_ms": round(float(np.median(times)), 2),
        "p95_ms": round(float(np.quantile(times, 0.95)), 2), "late": round(float((times > SLOW).mean()), 4),
        "cpu_ms": round(worked, 2),
    }  # fmt: skip


def _worked(tools: Any) -> float:
    """Seconds of the processor that the page's own thread took."""
    found = {metric["name"]: metric["value"] for metric in tools.send("Performance.getMetrics")["metrics"]}
    return float(found["TaskDuration"])


def _every(folder: Path) -> str:
    """A page that draws every token."""
    from shutil import copytree

    from tokenry.report import script as scripts

    home, here = folder / "report", scripts.HERE
    copytree(here, home)
    (home / "trace" / "alone.js").write_text(ALONE, encoding="utf-8")
    scripts.HERE = home
    try:
        js = script("trace/alone.js")
    finally:
        scripts.HERE = here
    page = EVERY.format(css=styles("drawing/theme.css", "drawing/tokens.css"), js=js)
    (folder / "every.html").write_text(page, encoding="utf-8")
    return (folder / "every.html").as_uri()


def _text(reader: str, count: int) -> str:
    """A text of so many tokens."""
    tokenizer, whole = open_tokenizer(reader), ""
    while len(tokenizer.encode(whole)) < count:
        whole += read("sotu_1975") + "\n"
    end = int(tokenizer.encode(whole).spans[count - 1, 1])
    return whole.encode()[:end].decode(errors="ignore")


def _rounded(times: Sequence[float]) -> list[float]:
    return [round(t, 1) for t in times]


def claims(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A paste is drawn soon, and a long text moves with the screen."""
    paste = max(float(np.median(r["ms"])) for r in rows if r["what"] == "paste")
    wheel = next(r for r in rows if r["what"] == "scroll" and r["arm"] == "the studio" and r["how"] == "a wheel")
    return [
        claim(f"ms from a paste to {PASTED:,} coloured tokens, the median of the slower tokenizer", paste, at_most=300),
        claim(f"frames a second while {LONG:,} tokens scroll as by a wheel", wheel["a_second"], at_least=59),
        claim("ms of the page's thread for each of these frames", wheel["cpu_ms"], at_most=1000 / 60),
    ]


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    rows = document["rows"]
    of: Callable[[str], list[Row]] = lambda what: [r for r in rows if r["what"] == what]  # noqa: E731
    (paint,) = of("paint")
    times = [
        ("the server answers after its start", fixed(1000 * paint["started_s"], 0), ""),
        *(
            (name, fixed(float(np.median(ms)), 0), fixed(max(ms), 0))
            for name, ms in (
                ("first paint", paint["first_ms"]), ("ready for use", paint["ready_ms"]),
                *((f"paste to {r['tokens']:,} tokens of {r['reader']}", r["ms"]) for r in of("paste")),
            )
        ),
    ]  # fmt: skip
    frames = [
        (
            r["arm"], r["how"], f"{r['nodes']:,}", fixed(r["a_second"], 1), fixed(r["p50_ms"], 1),
            fixed(r["p95_ms"], 1), f"{100 * r['late']:.1f} %", fixed(r["cpu_ms"], 1),
        )
        for r in of("scroll")
    ]  # fmt: skip
    heads = ("page", "moved by", "tokens in the page", "frames a second", "p50 ms", "p95 ms", "late", "CPU ms a frame")
    return [
        Table("milliseconds", ("", "median", "slowest"), times),
        Table(f"frames while {document['settings']['long']:,} tokens scroll", heads, frames, 2),
    ]


if __name__ == "__main__":
    main()
