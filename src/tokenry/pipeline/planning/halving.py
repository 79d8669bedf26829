"""Which settings are worth more samples: the better half after each round, by what they cost and lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

FEWEST = 4
"""Samples below which no interval is worth printing, and settings that a round does not reduce."""


class Point(Protocol):
    """What a setting cost and lost."""

    @property
    def loss(self) -> float: ...


P = TypeVar("P", bound=Point)


def rounds(samples: int) -> list[int]:
    """How many samples each round has seen when it ends: twice as many each time."""
    sizes = [FEWEST]
    while sizes[-1] < samples:
        sizes.append(min(2 * sizes[-1], samples))
    return sizes


def front(points: Sequence[P], cost: str) -> list[P]:
    """Those that no other one beats in cost and loss at once, cheapest first."""
    best, found = float("inf"), []
    for point in sorted(points, key=lambda p: (float(getattr(p, cost)), p.loss)):
        if point.loss < best:
            best = point.loss
            found.append(point)
    return found


def better_half(points: Sequence[P], cost: str, tolerated: float) -> list[P]:
    """The half that goes on: the front, what is the front without it, and so on."""
    left = list(points)
    kept: list[P] = []
    wanted = max(FEWEST, (len(left) + 1) // 2)
    while left and len(kept) < wanted:
        layer = front(left, cost)
        left = [p for p in left if not any(p is q for q in layer)]
        # Of the last layer those that lose little go on first.
        kept += sorted(layer, key=lambda p: (p.loss > tolerated, float(getattr(p, cost))))
    return kept[:wanted]
