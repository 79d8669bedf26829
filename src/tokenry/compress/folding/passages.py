"""Passages that a text says again: equal lines that follow each other, found in one go through the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_TOGETHER = 3
"""Lines by which a passage is found."""
_LONG = 200
"""Characters of a line that is a passage by itself."""
_LEAST = 120
"""Characters of a passage that is worth being said once."""


@dataclass(frozen=True, slots=True)
class Again:
    """Lines that say what earlier ones said.

    Args:
        at: the first of them.
        like: the first of the earlier ones, and `count` how many they are.
    """

    at: int
    like: int
    count: int


def repeats(lines: Sequence[str]) -> list[Again]:
    """Passages that repeat earlier ones, in their order; what they repeat is no repeat itself."""
    known: dict[str, int] = {}
    ids = [known.setdefault(line, len(known)) for line in lines]
    if len(known) == len(lines):
        return []
    first: dict[tuple[int, ...], int] = {}
    gone = bytearray(len(lines))
    found: list[Again] = []
    at = 0
    while at < len(lines):
        key = (ids[at],) if len(lines[at]) >= _LONG else tuple(ids[at : at + _TOGETHER])
        like = first.setdefault(key, at) if len(key) in (1, _TOGETHER) else at
        count = length = 0
        while like + count < at and at + count < len(lines) and not gone[like + count]:
            if ids[like + count] != ids[at + count]:
                break
            length += len(lines[at + count])
            count += 1
            # Endless lines of nothing are no passage, however many they are.
            if count > _LEAST and length < _LEAST:
                break
        if length >= _LEAST:
            found.append(Again(at, like, count))
            gone[at : at + count] = b"\1" * count
            at += count
        else:
            at += 1
    return found
