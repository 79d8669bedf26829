"""Lines over two logarithmic axes as SVG, written by hand so that the same results give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

WIDE, HIGH, LEFT, TOP, ROW, COLUMNS = 760, 400, 70, 20, 18, 4
"""Of the field in which lines are drawn, in pixels, what stands left of it and above, and the legend below."""
GOLDEN, FIRST = 137.508, 210
"""Degrees between colours that follow each other, and those of the first."""

Points = Sequence[tuple[float, float]]


def chart(lines: Mapping[str, Points], *, across: str, up: str) -> str:
    """One coloured and numbered line for each name, a dot at every point; values must be above zero.

    Args:
        across: what stands on the axis to the right.
        up: what stands on the axis upwards.
    """
    points = [point for line in lines.values() for point in line]
    wide, high = (_ends([point[axis] for point in points]) for axis in (0, 1))
    bottom = TOP + HIGH
    total = bottom + 60 + ROW * -(-len(lines) // COLUMNS)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = (_share(value, ends) for value, ends in zip(point, (wide, high), strict=True))
        return LEFT + WIDE * x, bottom - HIGH * y

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDE + 30} {total}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for value in _marks(wide):
        x, _ = place((value, high[0]))
        parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#eee"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    for value in _marks(high):
        _, y = place((wide[0], value))
        parts.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + WIDE}" stroke="#eee"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text x="{LEFT + WIDE / 2:.0f}" y="{bottom + 36}" text-anchor="middle">{escape(across)}</text>')
    parts.append(
        f'<text transform="translate(14 {TOP + HIGH / 2:.0f}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
    )
    for i, (name, line) in enumerate(lines.items()):
        colour = f"hsl({(FIRST + i * GOLDEN) % 360:.0f} 65% 42%)"
        places = [place(point) for point in sorted(line)]
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<g fill="{colour}"><title>{escape(name)}</title>')
        parts.append(f'<polyline points="{way}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
        parts.append(f'<text x="{places[-1][0] + 5:.1f}" y="{places[-1][1] + 4:.1f}">{i + 1}</text>')
        x, y = LEFT + i % COLUMNS * WIDE / COLUMNS, bottom + 60 + ROW * (i // COLUMNS)
        parts.append(f'<text x="{x:.0f}" y="{y}">{i + 1}  {escape(name)}</text></g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Round numbers around all values."""
    found = list(_round())
    low = max((v for v in found if v <= min(values)), default=found[0])
    return low, min((v for v in found if v >= max(values) and v > low), default=found[-1])


def _share(value: float, ends: tuple[float, float]) -> float:
    return math.log(max(value, ends[0]) / ends[0]) / math.log(ends[1] / ends[0])


def _marks(ends: tuple[float, float]) -> list[float]:
    return [v for v in _round() if ends[0] <= v <= ends[1]]


def _round() -> Iterator[float]:
    """1, 2, 5, 10 and so on, from 0.0001 on."""
    for power in range(-4, 8):
        yield from (float(f"{digit}e{power}") for digit in (1, 2, 5))
