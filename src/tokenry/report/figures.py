"""Numbers as people read them: 1.2 s, 34 MB, 2.9×."""

from __future__ import annotations

import math
from collections.abc import Iterable

NONE = "–"
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def known(value: float | None) -> bool:
    """Whether there is a number at all: not None, not NaN, not infinite."""
    return value is not None and math.isfinite(value)


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what was measured; None of nothing."""
    measured = [float(value) for value in values if value is not None and math.isfinite(value)]
    return sum(measured) / len(measured) if measured else None


def count(value: float | None) -> str:
    """A number of things: 5,163, or 240.5 where it is a mean.

    >>> count(5163), count(240.5), count(None)
    ('5,163', '240.5', '–')
    """
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:,.1f}"


def number(value: float, whole: bool = False) -> str:
    """What was measured of tokenizers and texts; `whole` where all numbers of its row are.

    >>> number(5163, whole=True), number(0.25), number(1), number(math.nan)
    ('5,163', '0.250', '1.000', '–')
    """
    if not math.isfinite(value):
        return NONE
    return f"{value:,.0f}" if whole else f"{value:,.3f}"


def seconds(value: float | None) -> str:
    """A duration.

    >>> seconds(0.0004), seconds(0.34), seconds(1.24), seconds(125)
    ('0.4 ms', '340 ms', '1.2 s', '2 min 05 s')
    """
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0 s"
    if value < 0.9995:
        return f"{value * 1e3:.1f} ms" if value < 0.00995 else f"{value * 1e3:.0f} ms"
    if value < 99.95:
        return f"{value:.1f} s"
    return f"{round(value) // 60} min {round(value) % 60:02d} s"


def scaled(value: float | None, unit: str) -> str:
    """A large number with a decimal prefix: 34 MB, 3.2 TFLOP.

    >>> scaled(34e6, "B"), scaled(3.21e12, "FLOP"), scaled(12, "B"), scaled(999_999, "B")
    ('34 MB', '3.2 TFLOP', '12 B', '1.0 MB')
    """
    if value is None or not math.isfinite(value):
        return NONE
    step, rest = 0, float(value)
    while abs(rest) >= 999.5 and step < len(_PREFIXES) - 1:
        step, rest = step + 1, rest / 1000
    digits = 1 if step and abs(rest) < 9.95 else 0
    return f"{rest:.{digits}f} {_PREFIXES[step]}{unit}"


def size(value: float | None) -> str:
    """A number of bytes."""
    return scaled(value, "B")


def times(value: float) -> str:
    """A ratio.

    >>> times(2.94), times(31.6), times(0.78)
    ('2.9×', '32×', '0.78×')
    """
    return f"{value:,.0f}×" if value >= 9.95 else f"{value:.1f}×" if value >= 0.995 else f"{value:.2f}×"


def share(value: float | None) -> str:
    """A part of a whole, in percent.

    >>> share(0.25), share(0.912), share(1)
    ('25 %', '91.2 %', '100 %')
    """
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value * 100:.1f}".removesuffix(".0")
    return f"{text} %"


def plain(value: float | None) -> str:
    """A number without unit, three significant digits: 0.12, 0.00341."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.3g}"
