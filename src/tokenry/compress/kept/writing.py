"""What is left of a text: slices of it, byte for byte, and marks where something is missing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from tokenry.compress.parts.kind import Kind
from tokenry.compress.units.cut import Cut


@dataclass(frozen=True, slots=True)
class Piece:
    """A slice of the source, or a mark.

    Args:
        text: what is written.
        start: first character in the source that it stands for, and `end` the one behind the last.
        mark: whether it stands for what is missing; one that takes no characters speaks for a hole further on.
    """

    text: str
    start: int
    end: int
    mark: bool = False


def pieces(
    text: str, cut: Cut, kept: Bool[np.ndarray, "U"], key: str | None = None, *, opens: bool = True
) -> list[Piece]:
    """What is left of a text in its order; slices that touch are one.

    Args:
        kept: units that stay, with all that they stand under.
        key: under which the original is kept, for the marks.
        opens: whether the first mark says more than the others.
    """
    holes: list[tuple[int, int, str]] = []
    parts: dict[int, str] = {}
    silent = opens
    for gap in cut.gaps(kept, key):
        i = int(cut.kind[gap.units[0]])
        low, high = cut.parts[i]
        if i not in parts:
            parts[i] = text[low:high]
        inside = (
            gap
            if not low and gap.opens == silent
            else replace(gap, start=gap.start - low, end=gap.end - low, above=gap.above - low, opens=silent)
        )
        said, place = gap.kind.mark(parts[i], inside), low + gap.kind.place(parts[i], inside)
        silent = silent and not said
        if place < gap.start:
            holes.append((place, place, said))
            said = ""
        holes.append((gap.start, gap.end, said))
    found: list[Piece] = []
    at = 0
    for start, end, said in sorted(holes, key=lambda hole: hole[:2]):
        if start > at:
            found.append(Piece(text[at:start], at, start))
        found.append(Piece(said, start, end, mark=True))
        at = end
    if at < len(text):
        found.append(Piece(text[at:], at, len(text)))
    return found


def written(found: list[Piece]) -> str:
    return "".join(piece.text for piece in found)


def broken(text: str, cut: Cut, found: list[Piece]) -> Iterator[int]:
    """Parts of a text that parsed before and no longer do; each is an index into `cut.parts`."""
    starts, ends = [p.start for p in found], [p.end for p in found]
    for i, (kind, (start, end)) in enumerate(zip(cut.kinds, cut.parts, strict=True)):
        if type(kind).valid is Kind.valid:
            continue
        inside = found[bisect_right(ends, start) : bisect_left(starts, end)]
        # Of what is whole, or missing as a whole, nothing is torn.
        if len({p.mark for p in inside}) < 2:
            continue
        left = "".join(p.text if p.mark else text[max(p.start, start) : min(p.end, end)] for p in inside)
        if not kind.valid(left) and kind.valid(text[start:end]):
            yield i
