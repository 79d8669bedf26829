"""Which units of a text stay: the best whole ones, with what they stand under, within a number of tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenry.compress.units.cut import Cut

_AT_ONCE = 1000
"""Units of a ranking that are looked at before it is asked again which ones may still fit."""


@dataclass(slots=True, eq=False)
class Choice:
    """Units that stay, and about how many tokens they take with the marks of what is missing.

    Units are taken down the ranking, each with the units that it cannot stand without, as long as they fit; one that
    does not fit is passed over for smaller ones. Between two units that stay, a unit that takes no more than the mark
    of its absence stays as well.

    Args:
        cut: the units.
        sizes: tokens of each unit without those under it.
        mark: tokens of a mark.
        total: tokens so far: those of the frame at first, and a mark where there is any unit.
        flags: which units stay, a byte each.
        lists: by unit its parent, the units before and after it, and what it takes more than the mark of its absence.
    """

    cut: Cut
    sizes: Int[np.ndarray, "U"]
    mark: int
    total: int
    flags: bytearray
    lists: tuple[list[int], ...]

    @classmethod
    def begin(cls, cut: Cut, sizes: Int[np.ndarray, "U"], mark: int, frame: int) -> Choice:
        families = len(np.unique(cut.scopes[cut.parent < 0]))
        # Where a unit is looked at by itself, lists are several times as fast as arrays.
        per_unit = (cut.parent, *cut.neighbours.T, sizes + mark * (cut.has_children - 1))
        return cls(cut, sizes, mark, frame + mark * families, bytearray(len(cut)), tuple(a.tolist() for a in per_unit))

    @property
    def kept(self) -> Bool[np.ndarray, "U"]:
        """Units that stay; the same memory as `flags`."""
        return np.frombuffer(self.flags, dtype=bool)

    def take(self, order: Int[np.ndarray, "X"], count: int) -> list[int]:
        """Keep units in this order while they fit into `count` tokens; which were added, in the order of adding."""
        added = []
        for some in np.array_split(order, max(1, len(order) // _AT_ONCE)):
            small = some[self.sizes[some] <= count - self.total + self.mark]
            for u in small[~self.kept[small]].tolist():
                if self.flags[u]:
                    continue
                path, cost = self._path(u)
                if self.total + cost <= count:
                    for v in path:
                        self.flags[v] = True
                    self.total += cost
                    added.append(u)
        return added

    def drop(self, units: list[int], tokens: int, loose: Bool[np.ndarray, "U"]) -> None:
        """Give up units from the end of a list, of about so many tokens, with what is hollow without them."""
        kept, parent = self.kept, self.lists[0]
        under = np.bincount(self.cut.parent[kept & (self.cut.parent >= 0)], minlength=len(self.cut)).tolist()
        while tokens > 0 and units:
            u = units.pop()
            while u >= 0 and self.flags[u] and loose[u] and not under[u]:
                self.flags[u] = False
                tokens -= max(1, int(self.sizes[u]) - self.mark)
                u = parent[u]
                if u >= 0:
                    under[u] -= 1
                    u = u if self.cut.hollow[u] else -1

    def bridge(self) -> None:
        """Keep what takes no more tokens than the mark that would stand for it."""
        before, after = self.cut.neighbours.T
        for u in np.flatnonzero(~self.kept & (self.sizes <= self.mark) & ~self.cut.has_children).tolist():
            parent = self.cut.parent[u]
            left, right = (n < 0 or self.kept[n] for n in (before[u], after[u]))
            if left and right and (parent < 0 or self.kept[parent]):
                self.kept[u] = True
                self.total += int(self.sizes[u]) - self.mark

    def _path(self, unit: int) -> tuple[list[int], int]:
        """A unit with all that it needs and that is missing, and the tokens that keeping them adds."""
        parent, before, after, costs = self.lists
        flags, needs, path, cost = self.flags, self.cut.needs, [], 0
        waiting = [unit]
        while waiting:
            u = waiting.pop()
            if u < 0 or flags[u] or u in path:
                continue
            path.append(u)
            left, right = before[u], after[u]
            gaps = (left >= 0 and not flags[left]) + (right >= 0 and not flags[right])
            # The gap that it stood in is split, shortened or gone, and what stands under it is a gap at first.
            cost += costs[u] + self.mark * gaps
            waiting.append(parent[u])
            waiting += needs.get(u, ())
        return path, cost


def ranked(cut: Cut, scores: Float[np.ndarray, "U"], allowed: Bool[np.ndarray, "U"]) -> Int[np.ndarray, "X"]:
    """Units that may stay, the best first, repeats last; equal scores keep the order of the text."""
    order = np.lexsort((-scores, cut.again))
    return order[(allowed & ~cut.hollow)[order]]
