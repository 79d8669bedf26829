"""How much attention every key has received: sums over queries, found by the column of their key."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState

_NOWHERE = torch.iinfo(torch.long).max
"""The column of an empty slot: behind all others, so that columns ascend."""


@dataclass
class Received(LayerState):
    """The probability that every held key has received from all queries so far.

    Sums are found by the column of their key, so they follow evictions wherever these move a row.
    """

    mass: Float[Tensor, "B G M"] | None = None
    columns: Int[Tensor, "B G M"] | None = None

    def forget(self) -> None:
        """An eviction leaves the sums right; a crop or a reset shows when `begin` is told where a pass begins."""

    def begin(self, column: int) -> None:
        """A pass brings the tokens from `column` on: what is known of these columns is of tokens cropped since."""
        if column == 0:
            self.mass = self.columns = None
        if self.columns is not None:
            self.columns = self.columns.masked_fill(self.columns >= column, _NOWHERE)

    def of(self, site: Site) -> Float[Tensor, "B G K"]:
        """The sums of the keys of a site; 0 for a key that no query has seen."""
        columns = site.key_columns().contiguous()
        if self.mass is None or self.columns is None:
            return torch.zeros(columns.shape, device=columns.device)
        at = torch.searchsorted(self.columns, columns).clamp_max(self.columns.shape[-1] - 1)
        return self.mass.gather(-1, at) * (self.columns.gather(-1, at) == columns)

    def read(self, site: Site) -> Float[Tensor, "B H Q Dv"]:
        """Attend densely, and enter what the queries of a site give to its keys."""
        out, given = site.dense_and_received()
        self.mass = self.of(site) + given
        columns = site.key_columns()
        self.columns = columns.masked_fill(columns < 0, _NOWHERE)
        return out
