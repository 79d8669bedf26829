"""Numbers, charts and colours of the report can be read, and say what was measured."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apps.traces import Elements, a_trace
from tokenry.report import charts, figures, receipt
from tokenry.report.page import render
from tokenry.report.template import styles


@pytest.fixture(scope="module")
def trace() -> dict[str, Any]:
    return a_trace()


@pytest.fixture(scope="module")
def page(trace: dict[str, Any]) -> str:
    return render(trace)


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
    css = styles("drawing/theme.css", "drawing/tokens.css")
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
