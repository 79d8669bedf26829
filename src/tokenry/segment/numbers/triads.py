"""Numbers in groups of three digits that say their order of magnitude: `12m 345k 678 . 123p 400pp`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal as OneOf

from tokenry.segment.numbers.literals import SEPARATORS, Literal

SUFFIXES = ("", "k", "m", "b", "t", "q")


@dataclass(frozen=True, slots=True)
class Sign:
    """One sign of a number in triads.

    Args:
        kind: `triad`, the decimal `point`, how many digits to `cut` that only fill up the last group, and what
            separates the groups of a number that is `grouped`.
        digits: of a triad, three where others stand before it.
        order: of a triad, the power of a thousand; of `cut` the digits; of `grouped` the number of the separator.
        covers: characters of the text it stands for.
        leads: whether no other group stands before it.
    """

    kind: OneOf["triad", "point", "cut", "grouped"]
    digits: str = ""
    order: int = 0
    covers: int = 0
    leads: bool = False


def signs(literal: Literal, exact: bool) -> Iterator[Sign]:
    """A number as signs; with `exact` also what brings back how it was written."""
    if exact and literal.separator:
        yield Sign("grouped", order=SEPARATORS.index(literal.separator))
    whole, first = literal.whole, (len(literal.whole) - 1) % 3 + 1
    groups = [whole[:first], *(whole[i : i + 3] for i in range(first, len(whole), 3))]
    for i, digits in enumerate(groups):
        covers = len(digits) + (len(literal.separator) if i else 0)
        yield Sign("triad", digits, len(groups) - 1 - i, covers, leads=not i)
    if literal.fraction:
        yield Sign("point", covers=1)
    for i in range(0, len(literal.fraction), 3):
        digits = literal.fraction[i : i + 3]
        yield Sign("triad", digits.ljust(3, "0"), -1 - i // 3, len(digits))
        if exact and len(digits) < 3:
            yield Sign("cut", order=3 - len(digits))


def suffix(order: int) -> str:
    """How an order of magnitude is shown: `m` for millions, `pp` for millionths."""
    if order < 0:
        return "p" * -order
    return SUFFIXES[order] if order < len(SUFFIXES) else f"e{3 * order}"
