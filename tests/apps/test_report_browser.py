"""The report page is alive in a browser."""

from __future__ import annotations

import re
import shutil
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.apps.traces import Elements, a_trace, bare_trace, data_of, hostile_trace
from tokenry.data import read
from tokenry.report import script
from tokenry.report.page import render, write
from tokenry.report.template import styles


@pytest.fixture(scope="module")
def trace() -> dict[str, Any]:
    return a_trace()


@pytest.fixture
def browse(tmp_path: Path, chromium: Any) -> Any:
    """Open the page of a trace."""

    def open_page(trace: dict[str, Any], state: str = "", *options: str) -> str:
        write(trace, tmp_path / "report.html")
        return chromium(tmp_path / "report.html", state, *options)

    return open_page


DOM = ("--dump-dom", "--enable-logging=stderr")


def root_of(dom: str) -> dict[str, str | None]:
    return next(attributes for tag, attributes in Elements(dom).tags if tag == "html")


def classes_of(dom: str) -> Counter[str]:
    """How many tokens of the text have each class; legend samples are not in the text."""
    text = dom.split('id="text"', 1)[1].split("<canvas", 1)[0]
    return Counter(name for classes in re.findall(r'<span class="(t [^"]*)"', text) for name in classes.split())


@pytest.mark.browser
def test_browser_draws_every_token(trace: dict[str, Any], browse: Any) -> None:
    dom = browse(trace, "", *DOM)
    root, classes, kept = root_of(dom), classes_of(dom), trace["steps"][0]["kept"][0]
    assert "data-error" not in root
    assert root["data-ready"] == "1"
    assert root["data-tokens"] == str(len(kept))
    assert root["data-layer"] == "-1"
    assert classes["t"] == len(kept)
    assert classes["d"] == len(kept) - sum(kept)
    assert sum(classes[f"i{level}"] for level in range(8)) == sum(kept)
    first, last = trace["recovered"][0]["tokens"]
    assert classes["p"] == last - first + 1


@pytest.mark.browser
def test_browser_shows_one_layer_or_the_mean(trace: dict[str, Any], browse: Any) -> None:
    kept = np.array(trace["steps"][0]["kept"][0], bool)
    bytes_read = np.array(data_of(render(trace))["reads"]["counts"])[:, 0] * 255
    reach = [1, *(share * 255 for share in (0.02, 0.05, 0.1, 0.2, 0.4, 0.7))]
    for state, column in (("#layer=3&step=2", bytes_read[3]), ("#paint=reads", bytes_read.mean(0))):
        dom = browse(trace, state, *DOM)
        root, classes = root_of(dom), classes_of(dom)
        assert "data-error" not in root
        assert root["data-paint"] == "reads"
        wanted = Counter(f"r{level}" for level in np.searchsorted(reach, column[kept].round(3), "right"))
        assert {name: n for name, n in classes.items() if name[0] == "r"} == wanted
    assert 'id="layer-name">mean of all<' in dom


@pytest.mark.browser
def test_browser_shows_a_step_and_a_passage(trace: dict[str, Any], browse: Any) -> None:
    first, last = trace["recovered"][0]["tokens"]
    dom = browse(trace, f"#step=0&at={first}-{last}&find=president", *DOM)
    root, classes = root_of(dom), classes_of(dom)
    assert "data-error" not in root
    assert root["data-flashed"] == f"{first}-{last}"
    assert classes["d"] == 0
    assert classes["k"] == len(trace["documents"][0]["tokens"])
    assert classes["m"] == len(re.findall("president", read("sotu_1975"), re.IGNORECASE))
    assert classes["mm"] == 1


@pytest.mark.browser
@pytest.mark.parametrize("make", [hostile_trace, bare_trace])
@pytest.mark.parametrize("state", ["", "#doc=9&step=-4&layer=1e9&at=5-2&find=(&dropped=x", "#at=0-99999&dropped=hide"])
def test_browser_survives(make: Any, state: str, browse: Any) -> None:
    trace = make()
    dom = browse(trace, state, *DOM)
    assert "data-error" not in root_of(dom)
    assert root_of(dom)["data-tokens"] == str(len(trace["documents"][0]["tokens"]))
    assert "<img" not in dom.split('id="text"', 1)[1].split("<canvas", 1)[0]


def pixels(file: Path) -> tuple[int, int, int]:
    """Width, height, and how many different bytes the picture holds: one colour alone has very few."""
    data = file.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    at, body = 8, b""
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body += data[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    return width, height, len(set(zlib.decompress(body)))


@pytest.mark.browser
def test_browser_paints_a_picture(trace: dict[str, Any], browse: Any, tmp_path: Path) -> None:
    browse(trace, "#layer=18", f"--screenshot={tmp_path / 'page.png'}", "--window-size=1280,1600", "--hide-scrollbars")
    width, height, different = pixels(tmp_path / "page.png")
    assert (width, height) == (1280, 1600)
    assert different > 100


LONE = """<!doctype html><meta charset="utf-8"><style>{css}</style><div id="a"></div><div id="b" class="text"></div>
<script>{js}</script>"""
ALONE = """
import { kindsOf } from "../drawing/kinds.js";
import { TokenText } from "../drawing/tokens.js";
const tokens = ["Two ", "texts ", "on ", "one ", "page."];
for (const [id, kept] of [["a", [1, 1, 0, 0, 1]], ["b", [0, 1, 1, 1, 1]]]) {
  const text = new TokenText(document.getElementById(id));
  text.show(tokens, kindsOf(Uint8Array.from(kept), null, "importance"), [[1, 1]], () => {});
}
"""


@pytest.mark.browser
def test_tokens_are_drawn_without_a_trace(chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What draws tokens takes tokens and an element, and any page may have several."""
    home = tmp_path / "report"
    shutil.copytree(script.HERE, home)
    (home / "trace" / "alone.js").write_text(ALONE, encoding="utf-8")
    monkeypatch.setattr(script, "HERE", home)
    page = LONE.format(css=styles("drawing/theme.css", "drawing/tokens.css"), js=script.script("trace/alone.js"))
    (tmp_path / "alone.html").write_text(page, encoding="utf-8")
    dom = chromium(tmp_path / "alone.html", "", *DOM)
    first, second = dom.split('<div id="a">', 1)[1].split('<div id="b"', 1)
    assert re.findall(r'<span class="([^"]*)">', first) == ["t k", "t k p", "t d g", "t d", "t k"]
    assert re.findall(r'<span class="([^"]*)">', second) == ["t d g", "t k p", "t k", "t k", "t k"]
