"""How far one sequence is from another: hits, replaced, left out and put in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Edits(NamedTuple):
    """The fewest edits that turn one sequence into another, with as many hits as these allow."""

    hits: int
    replaced: int
    deleted: int
    inserted: int

    @property
    def total(self) -> int:
        """Replaced, left out and put in."""
        return self.replaced + self.deleted + self.inserted


def edits(gold: Sequence[object], found: Sequence[object]) -> Edits:
    """Edits from `gold` to `found`."""
    row = [Edits(0, 0, 0, j) for j in range(len(found) + 1)]
    for i, wanted in enumerate(gold, 1):
        above, row = row, [Edits(0, 0, i, 0)]
        for j, got in enumerate(found, 1):
            before, same = above[j - 1], wanted == got
            over = before._replace(hits=before.hits + 1) if same else before._replace(replaced=before.replaced + 1)
            out = above[j]._replace(deleted=above[j].deleted + 1)
            put = row[j - 1]._replace(inserted=row[j - 1].inserted + 1)
            row.append(min(over, out, put, key=lambda e: (e.total, -e.hits)))
    return row[-1]
