"""From an answer that repeats the compressed text back to what the original says there."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from tokenry.compress.kept.text import read
from tokenry.compress.units.sentences import ALONE
from tokenry.core.tokens import TokenBatch

_WORD = re.compile(rf"[{ALONE}]|[^\W_{ALONE}]+(?:[.,:'’/-][^\W_{ALONE}]+)*")
_LETTERS = 4
"""A single word counts as copied when it has at least as many letters and stands only once in the text."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A stretch of an answer that stands in the compressed text, and its place in the original.

    Args:
        answer: its characters in the answer.
        source: the original, as an index into the batch's sources.
        span: bytes of the original from its first token to its last.
        text: what the original says there, with everything that was dropped between.
    """

    answer: tuple[int, int]
    source: int
    span: tuple[int, int]
    text: str


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of a text in lower case, and where each stands."""

    texts: list[str]
    spans: list[tuple[int, int]]

    @classmethod
    def of(cls, text: str) -> _Words:
        found = list(_WORD.finditer(text))
        return cls([m.group().casefold() for m in found], [m.span() for m in found])


def recover(batch: TokenBatch, answer: str, row: int = 0) -> list[Recovered]:
    """The passages of the original texts that an answer repeats from the tokens left in `batch`.

    From the first word of the answer on, the longest run of its words that stands in the compressed text is taken,
    then the longest after that, and so on. A run is at least two words, or one that has four letters and stands only
    once in the text; it never goes from one source into the next.
    """
    sources = batch.origin.sources
    spans = batch.spans()[row][batch.mask[row]].cpu()
    spans = spans[[s >= 0 and sources[s].kind == "text" for s in spans[:, 0].tolist()]]
    reading = read(sources, spans)
    said, left = _Words.of(answer), _Words.of(reading.text)
    stretch = _stretches(left, reading.ends, reading.stretch)
    found = []
    for start, at, n in _runs(said.texts, left.texts, stretch):
        first = int(np.searchsorted(reading.ends, left.spans[at][0], side="right"))
        last = int(np.searchsorted(reading.starts, left.spans[at + n - 1][1], side="left")) - 1
        source, low = int(spans[first, 0]), int(spans[first, 2])
        data = sources[source].data.encode("utf-8", "surrogatepass")
        high = int(spans[first : last + 1, 3].max())
        low += len(data[low:high]) - len(data[low:high].lstrip())
        high = low + len(data[low:high].rstrip())
        text = data[low:high].decode("utf-8", "replace")
        found.append(Recovered((said.spans[start][0], said.spans[start + n - 1][1]), source, (low, high), text))
    return found


def _stretches(left: _Words, ends: np.ndarray, stretch: np.ndarray) -> list[int]:
    """The stretch of one source that each word stands in."""
    first = np.searchsorted(ends, [start for start, _ in left.spans], side="right")
    return stretch[first].tolist()


def _runs(said: list[str], left: list[str], stretch: list[int]) -> list[tuple[int, int, int]]:
    """First word of each run in the answer, its place in the text, and its number of words."""
    places: dict[str, list[int]] = defaultdict(list)
    for at, word in enumerate(left):
        places[word].append(at)
    runs, start = [], 0
    while start < len(said):
        best, at = max(((_common(said, left, stretch, start, p), -p) for p in places[said[start]]), default=(0, 0))
        alone = best == 1 and sum(map(str.isalpha, said[start])) >= _LETTERS and len(places[said[start]]) == 1
        if best >= 2 or alone:
            runs.append((start, -at, best))
        start += best if best >= 2 or alone else 1
    return runs


def _common(said: list[str], left: list[str], stretch: list[int], start: int, at: int) -> int:
    """How many words are the same from both places on."""
    n = 0
    while start + n < len(said) and at + n < len(left) and said[start + n] == left[at + n]:
        if stretch[at + n] != stretch[at]:
            break
        n += 1
    return n
