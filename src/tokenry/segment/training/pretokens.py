"""Text in pieces that merges never cross, counted: words, and chunks that begin and end anywhere."""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tokenry.core.errors import Notice
from tokenry.segment.training.trained import LONGEST, SPLIT

MOST = 1 << 21
"""Different pieces that are counted at once."""

Pretokens = Callable[[str], Iterable[str]]
"""The pieces of a text."""


class Forgotten(Notice):
    """A corpus has so many different pieces that the rarest were not counted to the end."""


def counted(texts: Iterable[str], split: Pretokens, most: int = MOST, longest: int = LONGEST) -> dict[str, int]:
    """How often each piece occurs; beyond `most` of them those that occurred least so far are forgotten.

    A piece of more than `longest` characters is counted as its parts of so many.

    Warns:
        Forgotten: that happened.
    """
    counts: Counter[str] = Counter()
    floor = 0
    for text in texts:
        counts.update(split(text))
        while len(counts) > most:
            floor += 1
            counts = Counter({piece: n for piece, n in counts.items() if n > floor})
    counts.pop("", None)
    if floor:
        warnings.warn(
            f"corpus: has more than {most} different pieces; those that occurred at most {floor} times were forgotten "
            "on the way; give less text, or shorter pieces.",
            Forgotten,
            stacklevel=3,
        )
    # Each different piece is looked at once, and not wherever it stands.
    for piece in [piece for piece in counts if len(piece) > longest]:
        often = counts.pop(piece)
        for at in range(0, len(piece), longest):
            counts[piece[at : at + longest]] += often
    return dict(counts)


def words(text: str) -> list[str]:
    """Words with the space before them, as the byte vocabularies of this room split text."""
    found: list[str] = splitting(SPLIT).findall(text)
    return found


def joined(pieces: Sequence[str], lengths: Callable[[int], np.ndarray]) -> list[str]:
    """Neighbours put together, so many at a time as are drawn."""
    found: list[str] = []
    at = 0
    for size in lengths(len(pieces)).tolist():
        if at >= len(pieces):
            break
        found.append("".join(pieces[at : at + size]))
        at += size
    return found


def chunks(text: str, lengths: Callable[[int], np.ndarray], run: int = 0) -> list[str]:
    """Stretches of so many characters as are drawn; equal characters from `run` on are a stretch of their own."""
    if not run:
        return joined(text, lengths)
    found: list[str] = []
    same = rf"(.)\1{{{run - 1},}}"
    for stretch in splitting(rf"(?s){same}|(?:(?!(.)\2{{{run - 1}}}).)+").finditer(text):
        found += [stretch[0]] if stretch[1] else joined(stretch[0], lengths)
    return found


def nfc(text: str) -> str:
    """A text in the composed form."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@lru_cache(maxsize=8)
def splitting(pattern: str) -> Any:
    """A pattern with classes of Unicode, ready to use."""
    import regex

    return regex.compile(pattern)
