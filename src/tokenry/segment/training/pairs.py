"""Pairs of neighbours in counted sequences, kept up to date while one pair after the other becomes a new id.

Memory is 24 bytes a symbol and 32 a pair, in arrays that compiled loops read. Each symbol stands in the list of its
pair with the next one, so that a merge looks at nothing but the places it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from tokenry.core.errors import InvalidValue
from tokenry.core.needs import need

MOST = (1 << 31) - 2
"""Symbols that 32 bits number."""


class Pairs:
    """Sequences of ids, each with how often it occurs.

    Args:
        ids: all sequences, one behind the other.
        lengths: of each sequence.
        counts: how often each occurs.
        longest: the largest size of what a merge makes; 0 for any.
        sizes: of the ids there are, in the unit of `longest`.
        inside: whether an id begins inside a unit, which then is counted once with the id before it.

    Raises:
        InvalidValue: more symbols than 32 bits number.
    """

    def __init__(
        self,
        ids: Int[np.ndarray, "T"],
        lengths: Int[np.ndarray, "W"],
        counts: Int[np.ndarray, "W"],
        *,
        longest: int = 0,
        sizes: Sequence[int] = (),
        inside: Sequence[bool] = (),
    ) -> None:
        if len(ids) > MOST:
            raise InvalidValue(f"corpus: must have at most {MOST} symbols in different words; got {len(ids)}.")
        self._loops = loops()
        self._ids = ids.astype(np.int32)
        self._word = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        self._counts = counts.astype(np.int64)
        self._after, self._before = _neighbours(lengths)
        # Places of the same pair, in the order of the text.
        self._next, self._last = np.full((2, len(ids)), -1, np.int32)
        self._numbers = np.zeros(3, np.int64)
        self._table = _empty(1 << 16)
        self._heap = np.zeros((2, 1 << 16), np.int64)
        self._sizes = np.zeros((2, 1 << 12), np.int32)
        self._longest = longest
        for id, (size, within) in enumerate(zip(sizes, inside or [False] * len(sizes), strict=True)):
            self._note(id, size, within)
        while self._loops.count(*self._symbols, self._table, self._heap, self._numbers) >= 0:
            self._room(int(self._numbers[0]))

    def best(self, how_many: int = 1, fewest: int = 1) -> list[tuple[int, int, int]]:
        """The most frequent pairs that are not too long, each with its count; of equals the one with lower ids first.

        Args:
            fewest: pairs that occur less often are left out.
        """
        found = np.zeros((how_many, 2), np.int64)
        size = self._loops.best(self._table, self._heap, self._numbers, self._sizes, self._longest, fewest, found)
        return [(int(key) >> 32, int(key) & 0xFFFFFFFF, int(count)) for key, count in found[:size]]

    def merge(self, left: int, right: int, made: int) -> None:
        """Let a pair become one id wherever it stands, in each sequence from the left."""
        size = self._sizes[0, left] + self._sizes[0, right] - self._sizes[1, right]
        self._note(made, int(size), bool(self._sizes[1, left]))
        self._room(2 * self._loops.places(self._table, left << 32 | right))
        self._loops.merge(*self._symbols, self._table, self._heap, self._numbers, left, right, made)

    def sequences(self) -> list[list[int]]:
        """What the sequences are by now."""
        kept = self._ids >= 0
        edges = np.cumsum(np.bincount(self._word[kept], minlength=len(self._counts)))[:-1]
        return [part.tolist() for part in np.split(self._ids[kept], edges)]

    @property
    def _symbols(self) -> tuple[Any, ...]:
        return (self._ids, self._word, self._counts, self._after, self._before, self._next, self._last)

    def _note(self, id: int, size: int, inside: bool) -> None:
        if id >= self._sizes.shape[1]:
            self._sizes = np.concatenate((self._sizes, np.zeros((2, id + 1), np.int32)), 1)
        self._sizes[:, id] = size, inside

    def _room(self, more: int) -> None:
        """Let so many more pairs fit; those that are gone make room first."""
        used, heap, _ = self._numbers.tolist()
        if (used + more) * 5 > 3 * len(self._table[0]):
            alive = int((self._table[1] > 0).sum())
            larger = _empty(1 << max(16, ((alive + more) * 2).bit_length()))
            self._numbers[0] = self._loops.rehash(self._table, larger)
            self._table = larger
        if max(heap + more, len(self._table[0])) > self._heap.shape[1]:
            self._heap = np.concatenate((self._heap, np.zeros((2, max(heap + more, used)), np.int64)), 1)


def of_words(words: Iterable[tuple[Sequence[int], int]], **how: Any) -> Pairs:
    """The pairs of some sequences of ids with their counts, such as the texts of one batch."""
    kept = [(ids, count) for ids, count in words if len(ids)]
    ids = np.fromiter((i for w, _ in kept for i in w), np.int32)
    lengths = np.fromiter((len(w) for w, _ in kept), np.int64, len(kept))
    return Pairs(ids, lengths, np.fromiter((c for _, c in kept), np.int64, len(kept)), **how)


def loops() -> Any:
    """The compiled loops; they are kept on disk once they were compiled.

    Raises:
        InvalidValue: numba is not installed.
    """
    need("numba", "training by merges of one's own")
    from tokenry.segment.training import merging

    return merging


def _neighbours(lengths: Int[np.ndarray, "W"]) -> tuple[Int[np.ndarray, "T"], Int[np.ndarray, "T"]]:
    """The place after each and the place before each, -1 at the ends of sequences."""
    total, ends = int(lengths.sum()), np.cumsum(lengths)
    after, before = np.arange(1, total + 1, dtype=np.int32), np.arange(-1, total - 1, dtype=np.int32)
    after[ends - 1] = before[ends - lengths] = -1
    return after, before


def _empty(size: int) -> tuple[Int[np.ndarray, "S"], Int[np.ndarray, "S"], Int[np.ndarray, "4 S"]]:
    """A table of pairs: key, count; first and last place, how many places, and the merge that touched it last."""
    return np.full(size, -1, np.int64), np.zeros(size, np.int64), np.full((4, size), -1, np.int32)
