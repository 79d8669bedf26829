"""From an answer that repeats the compressed text back to the passages of the original."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from torch import Tensor

from tokenry.compress.kept.text import Reading, read
from tokenry.compress.scores.languages import FUNCTION_WORDS, language_of
from tokenry.compress.units.sentences import ALONE, CLOSERS, MARKS, OPENERS
from tokenry.core.origin import Source
from tokenry.core.tokens import TokenBatch

_WORD = re.compile(rf"[{ALONE}]|[^\W_{ALONE}]+(?:[.,:'’/-][^\W_{ALONE}]+)*")
_ALONE = re.compile(f"[{ALONE}]")

# A search needs these words, and a passage of nothing else says nothing.
_IDLE = frozenset(
    """already although always among another anything around away became become could either else enough even ever every
    everything first however instead least less like made make many may maybe might much must near never nothing often
    one per perhaps quite rather really said say says simply since something sometimes soon still therefore though thus
    today together toward towards two upon use used using usually various well whatever whether within without would
    yet""".split()
)

SHORTEST = 6
"""Letters and digits that the telling words of a run have together, at the least."""
SHORTEST_NAME = 4
"""Letters of a name that counts alone."""
CERTAIN = 5
"""Telling words of a run that counts though it stands in several places."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A stretch of an answer that stands in the compressed text, and its place in the original.

    Args:
        answer: its characters in the answer.
        source: the original, as an index into the batch's sources.
        span: bytes of the original from its first token to its last.
        text: what the original says there.
    """

    answer: tuple[int, int]
    source: int
    span: tuple[int, int]
    text: str


def recover(batch: TokenBatch, answer: str, row: int = 0) -> list[Recovered]:
    """The passages of the original texts that an answer repeats from the tokens left in `batch`.

    From the first word of the answer on, the longest run of its words that stands in the compressed text is taken,
    then the longest after that, and so on. A run never goes on over what was dropped, nor from one source into the
    next.

    A run counts if it tells something. Function words of the text's language tell nothing; of all others there must be
    two, with `SHORTEST` letters, or one that is a number or a name. And it must stand in one place only, unless
    `CERTAIN` of its words tell something.
    """
    sources = batch.origin.sources
    spans = batch.spans()[row][batch.mask[row]].cpu()
    spans = spans[[s >= 0 and sources[s].kind == "text" for s in spans[:, 0].tolist()]]
    reading = read(sources, spans)
    said, left = _Words.of(answer, whole=False), _Words.of(reading.text, whole=True)
    goes_on = _goes_on(left, reading, _pieces(sources, spans, reading))
    idle, found = FUNCTION_WORDS.get(language_of(reading.text), frozenset()) | _IDLE, []
    for start, at, n in _runs(said, left, goes_on, idle):
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


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of a text in lower case, where each stands, and whether it is a number or written as a name."""

    texts: list[str]
    spans: list[tuple[int, int]]
    numbers: list[bool]
    names: list[bool]

    @classmethod
    def of(cls, text: str, *, whole: bool) -> _Words:
        """The words of `text`; a capital at the beginning of a sentence makes a name only where that is not `whole`."""
        found = list(_WORD.finditer(text))
        return cls(
            [m.group().casefold().replace("’", "'") for m in found],
            [m.span() for m in found],
            [any(map(str.isdecimal, m.group())) for m in found],
            [m.group()[0].isupper() and not (whole and _begins(text, m.start())) for m in found],
        )


def _begins(text: str, at: int) -> bool:
    """Whether a sentence or a line begins there."""
    tail = text[max(0, at - 8) : at].rstrip(" \t" + OPENERS + CLOSERS)
    return not tail or tail[-1] in MARKS + "\n"


def _pieces(sources: Sequence[Source], spans: Int[Tensor, "T 8"], reading: Reading) -> Int[np.ndarray, "T"]:
    """The number of the piece that each token belongs to: pieces are what stands together in the original."""
    places = spans[:, [0, 2, 3]].tolist()
    data = {source: sources[source].data.encode("utf-8", "surrogatepass") for source, _, _ in places}
    cut = np.zeros(len(places), dtype=bool)
    for i in range(1, len(places)):
        (_, _, end), (source, start, _) = places[i - 1 : i + 1]
        cut[i] = reading.stretch[i] != reading.stretch[i - 1] or bool(data[source][end:start].strip())
    return np.cumsum(cut)


def _goes_on(left: _Words, reading: Reading, pieces: Int[np.ndarray, "T"]) -> list[bool]:
    """Whether nothing was dropped between each word and the next."""
    if not left.spans:
        return []
    starts, stops = np.array(left.spans).T
    first = np.searchsorted(reading.ends, starts, side="right")
    last = np.searchsorted(reading.starts, stops, side="left") - 1
    return [*(pieces[last[:-1]] == pieces[first[1:]]).tolist(), False]


def _runs(said: _Words, left: _Words, goes_on: list[bool], idle: Collection[str]) -> list[tuple[int, int, int]]:
    """First word of each run in the answer, its place in the text, and its number of words."""
    places: dict[str, list[int]] = defaultdict(list)
    for at, word in enumerate(left.texts):
        places[word].append(at)
    runs, start = [], 0
    while start < len(said.texts):
        lengths = [_common(said.texts, left.texts, goes_on, start, at) for at in places[said.texts[start]]]
        n = max(lengths, default=0)
        at = places[said.texts[start]][lengths.index(n)] if n else 0
        if n and _tells(said, start, left, at, n, lengths.count(n), idle):
            runs.append((start, at, n))
            start += n
        else:
            start += 1
    return runs


def _common(said: list[str], left: list[str], goes_on: list[bool], start: int, at: int) -> int:
    """How many words are the same from both places on."""
    n = 1
    while goes_on[at + n - 1] and start + n < len(said) and said[start + n] == left[at + n]:
        n += 1
    return n


def _tells(said: _Words, start: int, left: _Words, at: int, n: int, places: int, idle: Collection[str]) -> bool:
    """Whether a run of `n` words, which stands in so many places, is worth a look."""
    telling = [k for k in range(n) if _telling(left.texts[at + k], idle)]
    if not telling or (places > 1 and len(telling) < CERTAIN):
        return False
    if len(telling) == 1:
        k = telling[0]
        name = said.names[start + k] and left.names[at + k] and len(left.texts[at + k]) >= SHORTEST_NAME
        return left.numbers[at + k] or name
    words = (left.texts[at + k] for k in telling)
    return sum(2 if _ALONE.match(word) else len(word) for word in words) >= SHORTEST


def _telling(word: str, idle: Collection[str]) -> bool:
    return word not in idle and (len(word) > 2 or word.isdecimal() or _ALONE.match(word) is not None)
