"""A comparison as one page that needs nothing else: loss against cost, and every answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenry.report import figures
from tokenry.report.charts import HEIGHT, WIDTH, marks
from tokenry.report.compare.costs import COSTS, Cost, front, short
from tokenry.report.pack import readable
from tokenry.report.template import environment, styles

if TYPE_CHECKING:
    from tokenry.pipeline.compare import Arm

GOLDEN = 137.508
"""Degrees between the colours of methods that follow each other, so that these look different."""
FIRST = 190
"""Degrees of the first one's colour."""


@dataclass(frozen=True)
class Mark:
    """How an arm looks in charts and tables: dense has no number, a control is hollow."""

    number: str
    hue: int
    kind: str


@dataclass(frozen=True)
class Point:
    """An arm in a chart; places are shares from the left and from the top."""

    mark: Mark
    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Chart:
    """Loss against one cost, with marks on the axes as (text, share) and the line that no point is below."""

    title: str
    points: tuple[Point, ...]
    line: str
    across: tuple[tuple[str, float], ...]
    up: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Row:
    """An arm in the table; its name may be broken between its parts."""

    mark: Mark
    parts: tuple[str, ...]
    cells: tuple[tuple[str, str], ...]
    answer: str


def compare_page(arms: Sequence[Arm]) -> str:
    """The page of arms as `compare` gives them: dense first, then every method and its control."""
    seen = [_mark(arm, at) for at, arm in enumerate(arms)]
    page = environment().get_template("compare/page.html.j2").render(
        charts=[_chart(title, cost, arms, seen) for title, cost in COSTS.items()],
        rows=[_row(arm, mark) for arm, mark in zip(arms, seen, strict=True)],
        box=(WIDTH, HEIGHT),
        css=styles("drawing/theme.css", "drawing/charts.css", "compare/page.css"),
    )  # fmt: skip
    return readable(page)


def _mark(arm: Arm, at: int) -> Mark:
    number = (at + 1) // 2
    kind = "dense" if arm.kl is None else "control" if arm.control else "method"
    return Mark(str(number) if number else "", round(FIRST + (number - 1) * GOLDEN) % 360, kind)


def _chart(title: str, cost: Cost, arms: Sequence[Arm], seen: Sequence[Mark]) -> Chart:
    points = [(cost.of(arm), arm.kl or 0.0) for arm in arms]
    across, up = marks(max(x for x, _ in points)), marks(max(y for _, y in points))
    wide, high = across[-1], up[-1]
    steps = [points[at] for at in front(points)]
    return Chart(
        title,
        tuple(
            Point(mark, arm.name, x / wide, 1 - y / high) for arm, mark, (x, y) in zip(arms, seen, points, strict=True)
        ),
        _stairs([(x / wide, 1 - y / high) for x, y in steps]),
        _named(across, cost.show),
        tuple((text, 1 - share) for text, share in _named(up, figures.plain)),
    )


def _stairs(points: Sequence[tuple[float, float]]) -> str:
    """A line that keeps its height until a point is reached."""
    corners = list(points[:1])
    for x, y in points[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return " ".join(f"{x * WIDTH:.5g},{y * HEIGHT:.4g}" for x, y in corners)


def _named(found: Sequence[float], show: Callable[[float | None], str]) -> tuple[tuple[str, float], ...]:
    return tuple((short(show(value)) if value else "0", value / found[-1]) for value in found)


def _row(arm: Arm, mark: Mark) -> Row:
    loss = figures.NONE if arm.kl is None else f"{arm.kl:.3f}"
    cells = [("KL to dense", loss), ("same next token", figures.NONE if arm.top1 is None else figures.share(arm.top1))]
    cells += [(title, cost.show(cost.of(arm))) for title, cost in COSTS.items()]
    return Row(mark, tuple(re.findall(r"[^/:,|]*[/:,|]?", arm.name)), tuple(cells), arm.answer)
