"""The geometry of the three small charts; the template turns it into SVG.

Lengths are shares from 0 to 1, so that a chart fits any width and its text never stretches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenry.apps.report.figures import count, known, seconds, share

# The box a line is drawn in; it is stretched to the chart, its strokes are not.
WIDTH, HEIGHT = 1000, 400


@dataclass(frozen=True)
class Bar:
    """One bar, its length a share of the longest."""

    label: str
    value: str
    length: float
    note: str = ""


@dataclass(frozen=True)
class Part:
    """One piece of a stacked bar, from `start`; parts of one name have one `shade` in all bars."""

    label: str
    value: str
    start: float
    length: float
    shade: int


@dataclass(frozen=True)
class Stack:
    """One stacked bar."""

    label: str
    value: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Line:
    """One line as the points of a polyline; `kind` is ours or dense."""

    label: str
    kind: str
    points: str
    end: float
    mean: str


@dataclass(frozen=True)
class Lines:
    """Lines over decoding steps, with marks on the vertical axis as (text, share from the top)."""

    lines: tuple[Line, ...]
    marks: tuple[tuple[str, float], ...]
    steps: int


def tokens_after(trace: Mapping[str, Any]) -> list[Bar]:
    """Tokens in the document and after each step."""
    steps = trace["receipt"]["steps"]
    if not steps:
        return []
    values = [("document", steps[0]["tokens_in"], "")]
    values += [(step["method"], step["tokens_out"], step["room"]) for step in steps]
    first, longest = values[0][1] or 0, max(value or 0 for _, value, _ in values) or 1
    bars = []
    for label, value, room in values:
        part = f"{room}, {share(value / first)}" if room and first and known(value) else room
        bars.append(Bar(label, count(value), (value or 0) / longest, part))
    return bars


def seconds_split(trace: Mapping[str, Any]) -> list[Stack]:
    """Where the time went after the model was loaded: methods before it, prefill, decoding."""
    runs = [("this run", trace["receipt"])]
    if trace.get("dense"):
        runs.append(("dense", trace["dense"]["receipt"]))
    # Methods inside attention work within prefill and decode; adding their time would count it twice.
    before = [sum(step["seconds"] or 0 for step in run["steps"] if step["room"] == "compress") for _, run in runs]
    rows = []
    for (label, run), first in zip(runs, before, strict=True):
        split = (("compress", first), ("prefill", run["seconds"]["prefill"]), ("decode", run["seconds"]["decode"]))
        rows.append((label, [(name, float(value)) for name, value in split if known(value) and value > 0], split))
    longest = max((sum(value for _, value in parts) for _, parts, _ in rows), default=0) or 1
    stacks = []
    for label, parts, split in rows:
        names, start, drawn = [name for name, _ in split], 0.0, []
        for name, value in parts:
            drawn.append(Part(name, seconds(value), start / longest, value / longest, names.index(name)))
            start += value
        stacks.append(Stack(label, seconds(start), tuple(drawn)))
    return stacks


def read_per_step(trace: Mapping[str, Any]) -> Lines | None:
    """Tokens that attention reads at each decoding step."""
    runs = [("this run", "ours", trace["receipt"]["read_per_step"])]
    if trace.get("dense"):
        runs.append(("dense", "dense", trace["dense"]["receipt"]["read_per_step"]))
    runs = [(label, kind, [float(v) if known(v) else 0.0 for v in values]) for label, kind, values in runs]
    runs = [run for run in runs if run[2]]
    if not runs:
        return None
    steps = max(len(values) for _, _, values in runs)
    marks = _marks(max(max(values) for _, _, values in runs))
    top = marks[-1]
    lines = tuple(_line(label, kind, values, steps, top) for label, kind, values in runs)
    return Lines(lines, tuple((count(mark), 1 - mark / top) for mark in marks), steps)


def _line(label: str, kind: str, values: Sequence[float], steps: int, top: float) -> Line:
    shown = [*values, values[0]] if len(values) == 1 else values
    across = WIDTH / max(1, steps - 1)
    points = " ".join(f"{i * across:.5g},{HEIGHT * (1 - value / top):.4g}" for i, value in enumerate(shown))
    return Line(label, kind, points, 1 - shown[-1] / top, count(sum(values) / len(values)))


def _marks(largest: float) -> list[float]:
    """Two to five round numbers from zero up to the first that is not below `largest`."""
    raw = max(largest, 1) / 3
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw)
    return [step * i for i in range(math.ceil(max(largest, 1) / step - 1e-9) + 1)]
