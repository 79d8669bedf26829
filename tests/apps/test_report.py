"""The report page: whole, safe, honest about every number, and alive in a browser."""

from __future__ import annotations

import base64
import copy
import json
import math
import random
import re
import shutil
import struct
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenry.apps.report import charts, figures, receipt
from tokenry.apps.report.page import render, write
from tokenry.core.errors import InvalidValue, StorageError
from tokenry.data import questions, read

LAYERS = 30
QUESTION = next(q for q in questions() if q.id == "sotu-1975-04")


def words(text: str) -> list[str]:
    return re.findall(r" ?\w+| ?[^\w\s]+|\s+", text)


def a_receipt(steps: list[dict[str, Any]], prompt: int, scale: float, read: list[float]) -> dict[str, Any]:
    return {
        "steps": steps,
        "prompt_tokens": prompt,
        "read_per_step": read,
        "seconds": {"load": 2.314, "prefill": 0.871 * scale, "decode": 2.418 * scale**0.5, "first_token": 0.41 + scale},
        "tokens_per_second": 26.47 / scale**0.5,
        "flops": 1.374e12 * scale,
        "kv_bytes": round(59_473_920 * scale),
        "bytes_read": round(1_218_314_240 * scale**1.6),
        "peak_bytes": round(612_368_384 * scale**0.3),
    }


def a_trace(text: str | None = None, *, layers: int = LAYERS, decoded: int = 64) -> dict[str, Any]:
    """A run as it could have been: sentences near the evidence matter, a quarter of the tokens stays."""
    chance = random.Random(7)
    tokens = words(read("sotu_1975") if text is None else text)
    n = len(tokens)
    ends = np.cumsum([len(token) for token in tokens])
    start = "".join(tokens).find(QUESTION.evidence)
    first = int(np.searchsorted(ends, start, "right")) if start >= 0 else 0
    last = min(n - 1, int(np.searchsorted(ends, start + len(QUESTION.evidence)))) if start >= 0 else min(9, n - 1)

    importance, mood = [], 0.2
    for i, token in enumerate(tokens):
        if token.strip() in ".\n":
            mood = min(0.75, max(0.02, chance.gauss(0.2, 0.16)))
        inside = first <= i <= last
        importance.append(min(1.0, max(0.0, (0.85 if inside else mood) + chance.gauss(0, 0.1))))
    floor = sorted(importance)[int(n * 0.75)]
    kept = [int(score >= floor) for score in importance]
    counts = []
    for layer in range(layers):
        focus = 0.02 + 0.2 * math.exp(-(((layer - layers * 0.6) / (layers * 0.22)) ** 2))
        row = [
            0.0 if not k else min(1.0, max(0.0, chance.gauss(focus, focus) * (0.3 + s * 1.4)))
            for k, s in zip(kept, importance, strict=True)
        ]
        row[:3] = [1.0 if k else 0.0 for k in kept[:3]]
        counts.append([row])
    out = sum(kept)
    compress = {"method": "dense_relevance", "room": "compress", "tokens_in": n, "tokens_out": out, "seconds": 1.187}
    select = {"method": "token_select", "room": "attend", "tokens_in": out, "tokens_out": out, "seconds": 0.093}
    answer = "By 1943 the program had reached 125,000 aircraft annually."
    return {
        "schema": "tokenry.trace/0",
        "model": {"name": "smollm2", "context": 8192, "dtype": "bfloat16", "device": "cpu"},
        "ask": QUESTION.ask,
        "pipeline": ["compress/dense_relevance:budget=0.25", "attend/token_select:budget=256"],
        "documents": [{"name": "sotu_1975.txt", "tokens": tokens}],
        "steps": [{**compress, "kept": [kept], "importance": [importance]}, {**select, "importance": None}],
        "reads": {"layers": layers, "steps": decoded, "counts": counts},
        "answer": answer,
        "recovered": [
            {
                "answer": [answer.index("125"), answer.index(" annually")],
                "document": 0,
                "tokens": [first, last],
                "text": "".join(tokens[first : last + 1]),
            },
        ],
        "receipt": a_receipt(
            [compress, select], out + 41, 1.0, [256 + chance.uniform(-6, 18) + i / 6 for i in range(decoded)]
        ),
        "dense": {
            "answer": "In 1943, production reached 125,000 aircraft per year.",
            "receipt": a_receipt([], n + 41, 3.871, [float(n + 40 + i) for i in range(decoded)]),
            "kl": 0.1234,
            "top1": 0.9123,
        },
    }


@pytest.fixture(scope="module")
def trace() -> dict[str, Any]:
    return a_trace()


@pytest.fixture(scope="module")
def page(trace: dict[str, Any]) -> str:
    return render(trace)


class Elements(HTMLParser):
    """What a browser would see: start tags with their attributes, and the text of script elements."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._in = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._in = dict(attrs).get("id") or f"{tag}{len(self.scripts)}"
            self.scripts[self._in] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in:
            self.scripts[self._in] += data
        else:
            self.text += data


def data_of(page: str) -> dict[str, Any]:
    """The trace back out of its script element, with columns unpacked."""
    data = json.loads(Elements(page).scripts["trace"])
    lengths = [len(document["tokens"]) for document in data["documents"]]

    def raw(text: str) -> np.ndarray:
        return np.frombuffer(base64.b64decode(text), np.uint8)

    for step in data["steps"]:
        if step["kept"] is not None:
            columns = zip(step["kept"], lengths, strict=True)
            step["kept"] = [np.unpackbits(raw(c), bitorder="little")[:n].tolist() for c, n in columns]
        if step["importance"] is not None:
            step["importance"] = [raw(column) / 255 for column in step["importance"]]
    if data["reads"]:
        data["reads"]["counts"] = [[raw(column) / 255 for column in row] for row in data["reads"]["counts"]]
    return data


def test_loads_nothing(page: str) -> None:
    seen = Elements(page)
    for tag, attributes in seen.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:,")), f"<{tag} {name}={value!r}>"
    own = "".join(text for name, text in seen.scripts.items() if name != "trace")
    for load in ("http://", "https://", "@import", "url(", "fetch(", "XMLHttpRequest", "import("):
        assert load not in own
    policy = next(a["content"] for _, a in seen.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_data_comes_back_whole(trace: dict[str, Any], page: str) -> None:
    data = data_of(page)
    for key in ("schema", "model", "ask", "pipeline", "documents", "answer", "recovered", "receipt", "dense"):
        assert data[key] == trace[key], key
    assert "".join(data["documents"][0]["tokens"]) == read("sotu_1975")
    assert data["steps"][0]["kept"] == trace["steps"][0]["kept"]
    assert data["steps"][1]["kept"] is None
    np.testing.assert_allclose(data["steps"][0]["importance"], trace["steps"][0]["importance"], atol=1 / 255)
    np.testing.assert_allclose(data["reads"]["counts"], trace["reads"]["counts"], atol=1 / 255)


def test_what_was_read_once_is_not_called_unread() -> None:
    trace = a_trace("one two three")
    trace["reads"] = {"layers": 1, "steps": 5000, "counts": [[[1e-4, 0, 0.5]]]}
    column = data_of(render(trace))["reads"]["counts"][0][0]
    assert column[0] > 0
    assert column[1] == 0


HOSTILE = (
    '</script><script>document.documentElement.dataset.error="out"</script><!-- <script> --> &amp; &lt; ]]> '
    "<img src=x onerror=alert(1)> \u2028 \u2029 \x00 {{ 7*7 }} {% raw %} \"'` \\u003c/script> "
    "\U0001f9ea \ud800 e\u0301 \u202e"
)


def hostile_trace() -> dict[str, Any]:
    trace = a_trace(HOSTILE)
    trace["ask"] = trace["answer"] = HOSTILE
    trace["dense"]["answer"] = HOSTILE
    trace["model"]["name"] = trace["documents"][0]["name"] = trace["steps"][0]["method"] = HOSTILE
    trace["receipt"]["steps"][0] = {**trace["receipt"]["steps"][0], "method": HOSTILE}
    trace["pipeline"] = [HOSTILE, f"compress/{HOSTILE}:a={HOSTILE}"]
    trace["recovered"][0] |= {"text": HOSTILE, "answer": [0, 30]}
    return trace


def test_hostile_text_stays_text(page: str) -> None:
    trace = hostile_trace()
    hostile = render(trace)
    whole = HOSTILE.replace("\ud800", "\ufffd")  # half a character is no text: the page shows that it was one
    assert data_of(hostile)["answer"] == whole
    assert "".join(data_of(hostile)["documents"][0]["tokens"]) == whole
    assert hostile.encode("utf-8")

    def skeleton(page: str) -> Counter[str]:
        return Counter(
            tag for tag, _ in Elements(page).tags if tag in ("script", "img", "style", "link", "meta", "body")
        )

    assert skeleton(hostile) == skeleton(page)
    assert not [a for _, a in Elements(hostile).tags if any(name.startswith("on") for name in a)]
    assert "{{ 7*7 }}" in Elements(hostile).text


def test_size_is_bounded() -> None:
    text = " ".join(read(name) for name in ("sotu_1975", "sotu_1930"))
    trace = a_trace("".join(words(text)[:6000]))
    assert len(trace["documents"][0]["tokens"]) == 6000
    assert len(render(trace).encode("utf-8")) < 1_000_000


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for entry in value.values():
            yield from numbers(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from numbers(entry)
    elif isinstance(value, int | float):
        yield value


def test_every_number_of_the_receipt_is_shown(trace: dict[str, Any], page: str) -> None:
    shown = {float(a["value"]) for tag, a in Elements(page).tags if tag == "data" and a["value"]}
    for run in (trace, trace["dense"]):
        wanted = {key: value for key, value in run["receipt"].items() if key != "read_per_step"}
        assert set(numbers(wanted)) <= shown
        assert figures.mean(run["receipt"]["read_per_step"]) in shown
    assert {trace["dense"]["kl"], trace["dense"]["top1"]} <= shown
    points = re.findall(r'<polyline class="ours" points="([^"]*)"', page)
    assert len(points[0].split()) == len(trace["receipt"]["read_per_step"])


def test_numbers_are_formatted_for_people(page: str) -> None:
    text = Elements(page).text
    for shown in ("3.0×", "sooner", "3.9×", "59 MB", "230 MB", "1.4 s", "1.4 TFLOP", "91.2 %", "0.123", "410"[:1]):
        assert shown in text, shown


@pytest.mark.parametrize(
    ("make", "value", "text"),
    [
        (figures.seconds, 0.0, "0 s"),
        (figures.seconds, 0.9996, "1.0 s"),
        (figures.seconds, 99.96, "1 min 40 s"),
        (figures.seconds, 3601, "60 min 01 s"),
        (figures.seconds, float("nan"), "–"),
        (figures.size, 0, "0 B"),
        (figures.size, 999.6, "1.0 kB"),
        (figures.size, 1_218_314_240, "1.2 GB"),
        (figures.size, None, "–"),
        (figures.count, 12000, "12,000"),
        (figures.count, 1234.5, "1,234"),
        (figures.times, 9.96, "10×"),
        (figures.times, 1234.0, "1,234×"),
        (figures.share, 0.99999, "100 %"),
        (figures.plain, 0.0000123, "1.23e-05"),
    ],
)
def test_figures(make: Any, value: float | None, text: str) -> None:
    assert make(value) == text


def test_a_worse_number_is_called_worse() -> None:
    assert receipt.compare(3.0, 1.0, "less", "more") == receipt.Verdict("3.0×", "more", "worse")
    assert receipt.compare(3.0, 1.0, "faster", "slower", more=True) == receipt.Verdict("3.0×", "faster", "better")
    assert receipt.compare(1.0, 1.01, "less", "more").tone == "same"
    assert receipt.compare(0.0, 1.0, "less", "more") == receipt.compare(None, 1.0, "less", "more") == receipt.Verdict()


def without(trace: dict[str, Any], path: str) -> dict[str, Any]:
    trace = copy.deepcopy(trace)
    below: Any = trace
    *way, last = [int(key) if key.isdigit() else key for key in re.findall(r"\w+", path)]
    for key in way:
        below = below[key]
    del below[last]
    return trace


@pytest.mark.parametrize(
    "path",
    [
        "schema", "model", "model.name", "model.device", "ask", "pipeline", "documents", "documents[0].tokens", "steps",
        "steps[1].room", "answer", "receipt", "receipt.steps[0].seconds", "receipt.seconds.first_token",
        "receipt.kv_bytes", "recovered[0].tokens", "reads.counts", "dense.kl", "dense.receipt.flops",
    ],
)  # fmt: skip
def test_missing_key_is_named(path: str) -> None:
    with pytest.raises(InvalidValue, match=re.escape(repr(path))):
        render(without(a_trace("one two three four", layers=2), path))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("schema", "tokenry.trace/9", "schema"),
        ("documents", [], "documents"),
        ("answer", None, "answer"),
        ("receipt", 3, "receipt"),
        ("pipeline", "dense_relevance", "pipeline"),
    ],
)
def test_wrong_value_is_named(path: str, value: Any, named: str) -> None:
    with pytest.raises(InvalidValue, match=named):
        render({**a_trace("one two three", layers=1), path: value})


def test_columns_must_match_tokens() -> None:
    for change in ("kept", "importance"):
        trace = a_trace("one two three four", layers=2)
        trace["steps"][0][change][0].pop()
        with pytest.raises(InvalidValue, match=re.escape(f"steps[0].{change}[0]")):
            render(trace)
    trace = a_trace("one two three four", layers=2)
    trace["reads"]["counts"][1][0].append(0.5)
    with pytest.raises(InvalidValue, match=re.escape("reads.counts[1][0]")):
        render(trace)
    trace["reads"]["counts"].pop()
    with pytest.raises(InvalidValue, match="2 layers"):
        render(trace)
    trace = a_trace("one two three four", layers=2)
    trace["recovered"][0]["tokens"] = [2, 9]
    with pytest.raises(InvalidValue, match=re.escape("recovered[0].tokens")):
        render(trace)


def test_render_leaves_the_trace_alone(trace: dict[str, Any]) -> None:
    before = copy.deepcopy(trace)
    assert render(trace) == render(trace)
    assert trace == before


def bare_trace() -> dict[str, Any]:
    """As little as is allowed: no method, no reads, no dense run, hardly a number."""
    trace = a_trace("one two three.")
    for key in ("dense", "reads", "recovered"):
        del trace[key]
    nothing = {"load": None, "prefill": None, "decode": None, "first_token": float("nan")}
    trace |= {"ask": "", "answer": "", "pipeline": [], "steps": []}
    trace["receipt"] = {**dict.fromkeys(trace["receipt"]), "steps": [], "read_per_step": [], "seconds": nothing}
    return trace


def test_a_bare_trace_is_drawn() -> None:
    seen = Elements(render(bare_trace()))
    assert "No question was asked" in seen.text
    assert "No method ran" in seen.text
    assert not [tag for tag, _ in seen.tags if tag == "polyline"]


def test_arrays_are_taken_as_lists(trace: dict[str, Any], page: str) -> None:
    arrays = copy.deepcopy(trace)
    arrays["steps"][0]["kept"] = [np.array(column) for column in trace["steps"][0]["kept"]]
    arrays["reads"]["counts"] = np.array(trace["reads"]["counts"])
    arrays["receipt"]["read_per_step"] = np.array(trace["receipt"]["read_per_step"])
    arrays["receipt"]["flops"] = np.float64(trace["receipt"]["flops"])
    assert data_of(render(arrays))["receipt"] == data_of(page)["receipt"]


def test_charts_stay_in_their_box(trace: dict[str, Any]) -> None:
    lines = charts.read_per_step(trace)
    assert lines is not None
    assert lines.marks[0][1] == 1
    assert lines.marks[-1][1] == 0
    for line in lines.lines:
        for point in line.points.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= charts.WIDTH
            assert 0 <= y <= charts.HEIGHT
    ours, dense = charts.seconds_split(trace)
    assert max(part.start + part.length for stack in (ours, dense) for part in stack.parts) == pytest.approx(1)
    assert [bar.length for bar in charts.tokens_after(trace)] == sorted(
        (bar.length for bar in charts.tokens_after(trace)), reverse=True
    )
    single = copy.deepcopy(trace)
    single["receipt"]["read_per_step"], single["dense"] = [12.0], None
    alone = charts.read_per_step(single)
    assert alone is not None
    assert len(alone.lines[0].points.split()) == 2


def test_overlapping_citations_are_cut_once() -> None:
    trace = a_trace("one two three four five six")
    trace["answer"] = "abcdefghij"
    passage = trace["recovered"][0]
    trace["recovered"] = [{**passage, "answer": span} for span in ([4, 8], [2, 5], [9, 99], [8, 8])]
    page = render(trace)
    assert [text for text in re.findall(r'class="cite"[^>]*>(\w*)<sup>', page)] == ["cde"]
    assert page.count("<q>") == 4


def test_fields_of_methods_may_hold_commas() -> None:
    trace = a_trace("one two three")
    trace["pipeline"] = ["frugal_prompt:budget=0.5,attribution=decompx(layer=3,norm=true)"]
    text = " ".join(Elements(render(trace)).text.split())
    assert "attribution decompx(layer=3,norm=true)" in text


def luminance(hex_colour: str) -> float:
    parts = [int(hex_colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def over(rgb: str, alpha: float, ground: str) -> str:
    below = [int(ground[i : i + 2], 16) for i in (1, 3, 5)]
    mixed = (round(c * alpha + b * (1 - alpha)) for c, b in zip(map(int, rgb.split()), below, strict=True))
    return "#" + "".join(f"{c:02x}" for c in mixed)


def test_text_can_be_read_in_light_and_dark() -> None:
    css = (Path(charts.__file__).parent / "page.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    )
    tints = re.findall(r"\.[ir]\d \{ background: rgb\(var\(--(tint|heat)\) / ([\d.]+)\)", css)
    assert len(tints) >= 14
    for theme in (light, dark):
        for ground in (theme["page"], theme["panel"]):
            for ink in ("ink", "soft", "faint", "accent", "worse", "heat-ink", "dropped"):
                assert contrast(theme[ink], ground) >= 4.5, (ink, ground)
        for hue, alpha in tints:
            assert contrast(theme["ink"], over(theme[hue], float(alpha), theme["panel"])) >= 4.5, (hue, alpha)
        assert contrast(theme["on-accent"], theme["accent"]) >= 4.5


def test_write(trace: dict[str, Any], page: str, tmp_path: Path) -> None:
    write(trace, tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_bytes() == page.encode("utf-8")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write(trace, tmp_path / "file" / "report.html")


# ---- in a browser ----------------------------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def browse(tmp_path: Path) -> Any:
    """Open a page in headless chromium and give its document back as it stands after its scripts ran."""
    if CHROMIUM is None:
        pytest.skip("needs chromium")

    def open_page(trace: dict[str, Any], state: str = "", *options: str) -> str:
        file = tmp_path / "report.html"
        write(trace, file)
        quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000", *options]
        done = subprocess.run(
            [*command, file.as_uri() + state], capture_output=True, text=True, timeout=120, check=True
        )
        assert "CONSOLE" not in done.stderr, done.stderr
        return done.stdout

    return open_page


def root_of(dom: str) -> dict[str, str | None]:
    return next(attributes for tag, attributes in Elements(dom).tags if tag == "html")


def classes_of(dom: str) -> Counter[str]:
    """How many tokens of the text have each class; legend samples are not in the text."""
    text = dom.split('id="text"', 1)[1].split("<canvas", 1)[0]
    return Counter(name for classes in re.findall(r'<span class="(t [^"]*)"', text) for name in classes.split())


LOGGED = "--enable-logging=stderr"


@pytest.mark.browser
def test_browser_draws_every_token(trace: dict[str, Any], browse: Any) -> None:
    dom = browse(trace, "", "--dump-dom", LOGGED)
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
        dom = browse(trace, state, "--dump-dom", LOGGED)
        root, classes = root_of(dom), classes_of(dom)
        assert "data-error" not in root
        assert root["data-paint"] == "reads"
        wanted = Counter(f"r{level}" for level in np.searchsorted(reach, column[kept].round(3), "right"))
        assert {name: n for name, n in classes.items() if name[0] == "r"} == wanted
    assert 'id="layer-name">mean of all<' in dom


@pytest.mark.browser
def test_browser_shows_a_step_and_a_passage(trace: dict[str, Any], browse: Any) -> None:
    first, last = trace["recovered"][0]["tokens"]
    dom = browse(trace, f"#step=0&at={first}-{last}&find=president", "--dump-dom", LOGGED)
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
    dom = browse(trace, state, "--dump-dom", LOGGED)
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
