"""The geometry of the three small charts; the template turns it into SVG.

Lengths are shares from 0 to 1, so that a chart fits any width and its text never stretches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenry.report.figures import NONE, count, known, mean, seconds, share

# The box a line is drawn in; it is stretched to the chart, its strokes are not.
WIDTH, HEIGHT = 1000, 400
_PARTS = ("compress", "prefill", "decode")


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
class PartRow:
    """What one part took in each of the stacked bars."""

    label: str
    shade: int
    values: tuple[str, ...]


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
    """Tokens in the document, after each step, and read at each decoding step."""
    steps = trace["receipt"]["steps"]
    if not steps:
        return []
    values = [("document", steps[0]["tokens_in"])]
    values += [(step["method"], step["tokens_out"]) for step in steps]
    if (read := mean(trace["receipt"]["read_per_step"])) is not None:
        values.append(("read per step", round(read)))
    first, longest = values[0][1] or 0, max(value or 0 for _, value in values) or 1
    bars: list[Bar] = []
    for label, value in values:
        part = share(value / first) if bars and first and known(value) else ""
        bars.append(Bar(label, count(value), (value or 0) / longest, part))
    return bars


def seconds_split(trace: Mapping[str, Any]) -> list[Stack]:
    """Where the time went after the model was loaded: methods before it, prefill, decoding."""
    runs = [("this run", trace["receipt"])]
    if trace.get("dense"):
        runs.append(("dense", trace["dense"]["receipt"]))
    spent = [(label, _spent(run)) for label, run in runs]
    longest = max(sum(parts.values()) for _, parts in spent) or 1
    stacks = []
    for label, parts in spent:
        start, drawn = 0.0, []
        for name, value in parts.items():
            drawn.append(Part(name, seconds(value), start / longest, value / longest, _PARTS.index(name)))
            start += value
        stacks.append(Stack(label, seconds(start or None), tuple(drawn)))
    return stacks


def seconds_rows(stacks: Sequence[Stack]) -> list[PartRow]:
    """The parts of `seconds_split` as a table, for those who want the numbers."""
    rows = []
    for shade, name in enumerate(_PARTS):
        values = [{part.label: part.value for part in stack.parts}.get(name) for stack in stacks]
        if any(values):
            rows.append(PartRow(name, shade, tuple(value or NONE for value in values)))
    return rows


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
    found = marks(max(1, *(max(values) for _, _, values in runs)))
    top = found[-1]
    lines = tuple(_line(label, kind, values, steps, top) for label, kind, values in runs)
    return Lines(lines, tuple((count(mark), 1 - mark / top) for mark in found), steps)


def marks(largest: float) -> list[float]:
    """Two to five round numbers from zero up to the first that is not below `largest`."""
    largest = largest if largest > 0 else 1.0
    raw = largest / 3
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw)
    return [step * i for i in range(math.ceil(largest / step - 1e-9) + 1)]


def _spent(run: Mapping[str, Any]) -> dict[str, float]:
    # Methods inside attention work within prefill and decode; adding their time would count it twice.
    before = sum(step["seconds"] or 0 for step in run["steps"] if step["room"] == "compress")
    times = zip(_PARTS, (before, run["seconds"]["prefill"], run["seconds"]["decode"]), strict=True)
    return {name: float(value) for name, value in times if known(value) and value > 0}


def _line(label: str, kind: str, values: Sequence[float], steps: int, top: float) -> Line:
    shown = [*values, values[0]] if len(values) == 1 else values
    across = WIDTH / max(1, steps - 1)
    points = " ".join(f"{i * across:.5g},{HEIGHT * (1 - value / top):.4g}" for i, value in enumerate(shown))
    return Line(label, kind, points, 1 - shown[-1] / top, count(sum(values) / len(values)))
