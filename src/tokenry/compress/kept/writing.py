"""What is left of a text: slices of it, byte for byte, and marks where something is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from tokenry.compress.units.cut import Cut


@dataclass(frozen=True, slots=True)
class Piece:
    """A slice of the source, or a mark.

    Args:
        text: what is written.
        start: first character in the source that it stands for, and `end` the one behind the last.
        mark: whether it stands for what is missing.
    """

    text: str
    start: int
    end: int
    mark: bool = False


def pieces(text: str, cut: Cut, kept: Bool[np.ndarray, "U"], key: str | None = None) -> list[Piece]:
    """What is left of a text in its order; slices that touch are one.

    Args:
        kept: units that stay, with all that they stand under.
        key: under which the original is kept, for the marks.
    """
    found: list[Piece] = []
    at = 0
    for gap in cut.gaps(kept, key):
        if gap.start > at:
            found.append(Piece(text[at : gap.start], at, gap.start))
        found.append(Piece(gap.kind.mark(text, gap), gap.start, gap.end, mark=True))
        at = gap.end
    if at < len(text):
        found.append(Piece(text[at:], at, len(text)))
    return found


def written(found: list[Piece]) -> str:
    return "".join(piece.text for piece in found)


def broken(text: str, cut: Cut, found: list[Piece]) -> Iterator[int]:
    """Parts of a text that parsed before and no longer do; each is an index into `cut.parts`."""
    for i, (kind, (start, end)) in enumerate(zip(cut.kinds, cut.parts, strict=True)):
        inside = [p for p in found if p.start < end and p.end > start]
        if not any(p.mark for p in inside):
            continue
        left = "".join(p.text if p.mark else text[max(p.start, start) : min(p.end, end)] for p in inside)
        if not kind.valid(left) and kind.valid(text[start:end]):
            yield i
