"""How far one sequence is from another: hits, replaced, left out and put in."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np


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


def edits(gold: Sequence[Hashable], found: Sequence[Hashable]) -> Edits:
    """Edits from `gold` to `found`, row by row of the table of both."""
    n, m = len(gold), len(found)
    # One number for both: an edit costs more than all hits are worth.
    edit = min(n, m) + 1
    numbers = {item: i for i, item in enumerate(dict.fromkeys((*gold, *found)))}
    wanted, got = (np.array([numbers[item] for item in items], np.int64) for items in (gold, found))
    put = edit * np.arange(m + 1)
    row = put
    for item in wanted:
        new = row + edit
        new[1:] = np.minimum(new[1:], row[:-1] + np.where(got == item, -1, edit))
        row = np.minimum.accumulate(new - put) + put
    total = -(-int(row[-1]) // edit)
    hits = total * edit - int(row[-1])
    replaced = n + m - 2 * hits - total
    return Edits(hits, replaced, n - hits - replaced, m - hits - replaced)
