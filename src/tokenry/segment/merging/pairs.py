"""Merge the most frequent pair of neighbours again and again; counts are kept up to date, never made anew."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Pair = tuple[int, int]
Rows = Sequence[Sequence[int]]

APART = -1
"""Stands in a row where nothing may be merged across."""


@dataclass(slots=True, eq=False)
class Merges:
    """All merges of a batch, in the order in which they were made.

    Args:
        rows: the symbols from which it began; `APART` where nothing is merged across.
        pieces: what each symbol spells; those that merges made come last.
        lengths: tokens of the batch after no merge, after one, after two …
        made: the symbol that each merge made.
        joins: the places of the two symbols of every join, counted over all rows, and the symbol that it made.
        ends: how many joins there were after no merge, after one …
    """

    rows: Rows
    pieces: list[bytes | None]
    lengths: list[int]
    made: list[int] = field(default_factory=list)
    joins: list[tuple[int, int, int]] = field(default_factory=list)
    ends: list[int] = field(default_factory=lambda: [0])

    def count_at(self, ratio: float) -> int:
        """The fewest merges that shorten the batch by this share of what all of them shorten it by."""
        target = self.lengths[0] - ratio * (self.lengths[0] - self.lengths[-1])
        return bisect_left(self.lengths, -target - 1e-9, key=lambda length: -length)

    def after(self, count: int) -> list[list[tuple[int, int]]]:
        """Each row after so many merges: the symbol and the first column of every token, `APART` among them."""
        symbols = [s for row in self.rows for s in row]
        gone = bytearray(len(symbols))
        for left, right, made in self.joins[: self.ends[count]]:
            symbols[left], gone[right] = made, 1
        found, start = [], 0
        for row in self.rows:
            found.append([(symbols[start + i], i) for i in range(len(row)) if not gone[start + i]])
            start += len(row)
        return found


def merge_all(
    rows: Rows,
    pieces: Sequence[bytes | None],
    known: Callable[[bytes], int | None],
    allowed: Callable[[bytes], bool],
    *,
    weights: Sequence[int] | None = None,
    most: int | None = None,
    told: Callable[[int], None] | None = None,
) -> Merges:
    """Merge the most frequent allowed pair everywhere, left to right, until none is left.

    Of equally frequent pairs the first by its bytes is merged. A merge that spells what a symbol spells already makes
    that symbol.

    Args:
        rows: symbols; `APART` and what spells nothing is never merged.
        pieces: what each symbol spells.
        known: the symbol that spells some bytes, where the vocabulary has one.
        allowed: whether a token may spell some bytes.
        weights: how often each row counts; once by default.
        most: merges after which it ends.
        told: called with the number of merges from time to time.
    """
    chain = _Chain(rows, list(pieces), weights or [1] * len(rows), known, allowed)
    merges = Merges(rows, chain.pieces, [sum(w * len(row) for w, row in zip(chain.weights, rows, strict=True))])
    while (most is None or len(merges.made) < most) and (pair := chain.best()) is not None:
        joined, weight = chain.merge(pair)
        merges.joins += joined
        merges.ends.append(len(merges.joins))
        merges.made.append(joined[0][2])
        merges.lengths.append(merges.lengths[-1] - weight)
        if told is not None and len(merges.made) % 10_000 == 0:
            told(len(merges.made))
    return merges


class _Chain:
    """Symbols linked to their neighbours, and where every pair of them stands."""

    def __init__(
        self,
        rows: Rows,
        pieces: list[bytes | None],
        weights: Sequence[int],
        known: Callable[[bytes], int | None],
        allowed: Callable[[bytes], bool],
    ) -> None:
        self.pieces, self.weights, self._known, self._allowed = pieces, weights, known, allowed
        self.symbols = [s for row in rows for s in row]
        self._weight = [w for w, row in zip(weights, rows, strict=True) for _ in row]
        self._before, self._behind = [-1] * len(self.symbols), [-1] * len(self.symbols)
        self._new: dict[bytes, int] = {}
        self._valid: dict[Pair, bool] = {}
        self.counts: dict[Pair, int] = {}
        self._places: dict[Pair, list[int]] = {}
        self._link(rows)
        self._heap = [self._entry(pair, count) for pair, count in self.counts.items()]
        heapq.heapify(self._heap)

    def best(self) -> Pair | None:
        """The pair to merge next."""
        while self._heap:
            noted, _, _, pair = heapq.heappop(self._heap)
            count = self.counts.get(pair, 0)
            if count == -noted:
                return pair
            # Counts that fell are noted anew; those that rose have been.
            if 0 < count < -noted:
                heapq.heappush(self._heap, self._entry(pair, count))
        return None

    def merge(self, pair: Pair) -> tuple[list[tuple[int, int, int]], int]:
        """Merge a pair everywhere: the joins, and by how much the batch got shorter."""
        left, right = pair
        made, symbols = self._symbol(pair), self.symbols
        joins, shorter, grown = [], 0, set()
        places = sorted(set(self._places.pop(pair)))
        for at in places:
            # An earlier join may have taken one of the two.
            then = self._behind[at]
            if symbols[at] != left or then < 0 or symbols[then] != right:
                continue
            before, behind, weight = self._before[at], self._behind[then], self._weight[at]
            self._fall((left, right), weight)
            if before >= 0:
                self._fall((symbols[before], left), weight)
            if behind >= 0:
                self._fall((right, symbols[behind]), weight)
                self._before[behind] = at
            symbols[at], symbols[then], self._behind[at] = made, APART, behind
            grown |= {
                found
                for a, b in ((before, at), (at, behind))
                if a >= 0 and b >= 0 and (found := self._rise(a, b, weight)) is not None
            }
            joins.append((at, then, made))
            shorter += weight
        for found in grown:
            if found in self.counts:
                heapq.heappush(self._heap, self._entry(found, self.counts[found]))
        return joins, shorter

    def _link(self, rows: Rows) -> None:
        start = 0
        for row in rows:
            for i in range(start, start + len(row) - 1):
                a, b = self.symbols[i], self.symbols[i + 1]
                if a >= 0 and b >= 0 and self.pieces[a] and self.pieces[b]:
                    self._behind[i], self._before[i + 1] = i + 1, i
                    self._rise(i, i + 1, self._weight[i])
            start += len(row)

    def _rise(self, at: int, then: int, weight: int) -> Pair | None:
        pair = self.symbols[at], self.symbols[then]
        valid = self._valid.get(pair)
        if valid is None:
            valid = self._valid[pair] = self._allowed(self._spelled(pair))
        if not valid:
            return None
        self.counts[pair] = self.counts.get(pair, 0) + weight
        self._places.setdefault(pair, []).append(at)
        return pair

    def _fall(self, pair: Pair, weight: int) -> None:
        count = self.counts.get(pair)
        if count is not None:
            if count > weight:
                self.counts[pair] = count - weight
            else:
                del self.counts[pair]

    def _symbol(self, pair: Pair) -> int:
        spelled = self._spelled(pair)
        found = self._new.get(spelled)
        if found is None:
            found = self._known(spelled)
            if found is None:
                found = len(self.pieces)
                self.pieces.append(spelled)
            self._new[spelled] = found
        return found

    def _spelled(self, pair: Pair) -> bytes:
        left, right = self.pieces[pair[0]], self.pieces[pair[1]]
        assert left is not None
        assert right is not None
        return left + right

    def _entry(self, pair: Pair, count: int) -> tuple[int, bytes | None, bytes | None, Pair]:
        return -count, self.pieces[pair[0]], self.pieces[pair[1]], pair
