"""Which units of a text stay: the best whole ones, with what they stand under, within a number of tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

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
        paths: of a unit that was taken, all that came with it, itself first.
    """

    cut: Cut
    sizes: Int[np.ndarray, "U"]
    mark: int
    total: int
    flags: bytearray
    lists: tuple[list[int], ...]
    paths: dict[int, list[int]] = field(default_factory=dict)

    @classmethod
    def begin(cls, cut: Cut, sizes: Int[np.ndarray, "U"], mark: int, frame: int) -> Choice:
        """Nothing stays but the frame, of so many tokens with what the first mark takes more than others."""
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
        costly: set[int] = set()  # what others need, and what does not fit without them
        for some in np.array_split(order, max(1, len(order) // _AT_ONCE)):
            small = some[self.sizes[some] <= count - self.total + self.mark]
            for u in small[~self.kept[small]].tolist():
                needs = self.cut.needs.get(u, ())
                if self.flags[u] or not costly.isdisjoint(needs):
                    continue
                path, cost = self._path(u)
                if self.total + cost <= count:
                    for v in path:
                        self.flags[v] = True
                    self.total += cost
                    added.append(u)
                    if len(path) > 1:
                        self.paths[u] = path
                elif self.total + cost - self.lists[3][u] > count:
                    costly.update(n for n in needs if not self.flags[n])
        return added

    def drop(self, units: list[int], tokens: int, loose: Bool[np.ndarray, "U"]) -> None:
        """Give up units from the end of a list, of about so many tokens, with what came with them and nothing uses."""
        used = [0] * len(self.cut)
        for u in np.flatnonzero(self.kept).tolist():
            for other in self._uses(u):
                used[other] += 1
        while tokens > 0 and units:
            u = units.pop()
            going = [v for v in self.paths.pop(u, [u]) if self.flags[v]]
            for v in going:
                for other in self._uses(v):
                    used[other] -= 1
            while staying := {v for v in going if used[v] or not loose[v]}:
                going = [v for v in going if v not in staying]
                for v in staying:
                    for other in self._uses(v):
                        used[other] += 1
            for v in going:
                self.flags[v] = False
                tokens -= max(1, self._cost(v))

    def _uses(self, unit: int) -> tuple[int, ...]:
        """What a unit cannot stand or be read without."""
        above, needs = self.lists[0][unit], self.cut.needs.get(unit, ())
        return needs if above < 0 else (above, *needs)

    def bridge(self) -> None:
        """Keep what takes no more tokens than the mark that would stand for it."""
        before, after = self.cut.neighbours.T
        small = ~self.kept & (self.sizes <= self.mark) & ~self.cut.has_children & ~self.cut.hollow
        for u in np.flatnonzero(small).tolist():
            left, right = (n < 0 or self.flags[n] for n in (before[u], after[u]))
            if left and right and all(self.flags[other] for other in self._uses(u)):
                self.flags[u] = True
                self.total += int(self.sizes[u]) - self.mark

    def _path(self, unit: int) -> tuple[list[int], int]:
        """A unit with all that it needs and that is missing, and the tokens that keeping them adds."""
        parent, flags, needs, cost = self.lists[0], self.flags, self.cut.needs, 0
        path: dict[int, None] = {}
        waiting = [unit]
        while waiting:
            u = waiting.pop()
            if u < 0 or flags[u] or u in path:
                continue
            path[u] = None
            cost += self._cost(u)
            waiting += (parent[u], *needs.get(u, ()))
        return list(path), cost

    def _cost(self, unit: int) -> int:
        """Tokens that a missing unit adds where it stays: it splits, shortens or closes the gap that it stood in."""
        _, before, after, costs = self.lists
        left, right = before[unit], after[unit]
        gaps = (left >= 0 and not self.flags[left]) + (right >= 0 and not self.flags[right])
        # What stands under it is a gap at first.
        return costs[unit] + self.mark * gaps


def ranked(cut: Cut, scores: Float[np.ndarray, "U"], allowed: Bool[np.ndarray, "U"]) -> Int[np.ndarray, "X"]:
    """Units that may stay, the best first, repeats last; equal scores keep the order of the text."""
    order = np.lexsort((-scores, cut.again))
    return order[(allowed & ~cut.hollow)[order]]


def in_turn(
    cut: Cut, scores: Float[np.ndarray, "U"], strong: Bool[np.ndarray, "U"], worth: Bool[np.ndarray, "U"], count: int
) -> list[tuple[Int[np.ndarray, "X"], int]]:
    """Rankings to take units from one after the other, each up to a number of tokens.

    What alarms comes first, and what stands around it behind; where something else matches, both take no more than
    half of `count` before that had its turn. Where nothing matches or alarms, the text is all there is to show.
    """
    anything = worth.any() or strong.any()
    first = count // 2 if (worth & ~(strong & cut.alarms)).any() else count
    alarming = np.concatenate((ranked(cut, scores, strong & cut.alarms), ranked(cut, scores, strong & ~cut.alarms)))
    return [(alarming, first), (ranked(cut, scores, worth | strong | (not anything)), count)]
