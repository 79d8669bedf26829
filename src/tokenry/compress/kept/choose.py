"""Which units of a text stay: the best whole ones, with what they stand under, within a number of tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenry.compress.units.cut import Cut


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
    """

    cut: Cut
    sizes: Int[np.ndarray, "U"]
    mark: int
    total: int
    kept: Bool[np.ndarray, "U"]

    @classmethod
    def begin(cls, cut: Cut, sizes: Int[np.ndarray, "U"], mark: int, frame: int) -> Choice:
        families = {scope for scope, parent in zip(cut.scopes, cut.parent.tolist(), strict=True) if parent < 0}
        return cls(cut, sizes, mark, frame + mark * len(families), np.zeros(len(cut), dtype=bool))

    def take(self, order: Int[np.ndarray, "X"], count: int) -> list[int]:
        """Keep units in this order while they fit into `count` tokens; which were added, in the order of adding."""
        added = []
        for u in order.tolist():
            if self.kept[u]:
                continue
            path, cost = self._path(u)
            if self.total + cost <= count:
                self.kept[path] = True
                self.total += cost
                added.append(u)
        return added

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
        path, cost, at = [], 0, unit
        while at >= 0 and not self.kept[at]:
            path.append(at)
            at = int(self.cut.parent[at])
        for u in path:
            before, after = self.cut.neighbours[u].tolist()
            gaps = (before >= 0 and not self.kept[before]) + (after >= 0 and not self.kept[after])
            # The gap that it stood in is split, shortened or gone, and what stands under it is a gap at first.
            cost += int(self.sizes[u]) + self.mark * (gaps - 1 + bool(self.cut.has_children[u]))
        return path, cost


def ranked(cut: Cut, scores: Float[np.ndarray, "U"], allowed: Bool[np.ndarray, "U"]) -> Int[np.ndarray, "X"]:
    """Units that may stay, the best first, repeats last; equal scores keep the order of the text."""
    order = np.lexsort((-scores, cut.again))
    return order[allowed[order]]
