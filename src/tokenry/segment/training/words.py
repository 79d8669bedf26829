"""Words of a corpus and how often each occurs: all that pieces are learnt from, wherever they were counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tokenry.core.errors import InvalidValue
from tokenry.segment.training.progress import Progress

BETWEEN = "\0"
"""Sets words apart; no text that pieces are learnt from holds it."""
_CHUNK = 1 << 20


@dataclass(slots=True)
class Words:
    """Counted words.

    Args:
        counts: how often each occurs.
        first: characters of the corpus, where a method asks for them, and `later` those that stand inside words.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)

    def add(self, other: Words) -> None:
        """Count those of another text too."""
        self.counts.update(other.counts)
        self.first |= other.first
        self.later |= other.later


Count = Callable[[Callable[[str], Words], Iterable[str | Path], Progress], Words]
"""Counts the words of a corpus by what counts those of a text."""


def repeated(counts: Mapping[str, int]) -> Iterator[str]:
    """Every word as often as it was counted, set apart, for trainers that count again; this they do quickly.

    Raises:
        InvalidValue: there is no word.
    """
    if not counts:
        raise InvalidValue("corpus: must hold some text; got none.")
    for word in sorted(counts):
        most = max(1, _CHUNK // (len(word) + 1))
        left = counts[word]
        while left:
            yield (word + BETWEEN) * min(left, most)
            left -= min(left, most)
