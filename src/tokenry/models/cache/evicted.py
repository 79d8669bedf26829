"""Rows that were evicted in the last steps, held until it is sure that no crop asks for them back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.models.cache.packed import gathered


@dataclass(frozen=True, slots=True, eq=False)
class Evicted:
    """What one eviction left out.

    Args:
        decided: tokens that were seen when it was decided.
        columns: of the rows; -1 where a sequence or head lost fewer.
    """

    decided: int
    keys: Float[Tensor, "B G E D"]
    values: Float[Tensor, "B G E Dv"]
    columns: Int[Tensor, "B G E"]

    @classmethod
    def without(
        cls, decided: int, keys: Float[Tensor, "B G K D"], values: Float[Tensor, "B G K Dv"],
        columns: Int[Tensor, "B G K"], stays: Int[Tensor, "B G M"],
    ) -> Evicted:  # fmt: skip
        """All rows but those that stay."""
        b, g, k = columns.shape
        stay = torch.zeros(b, g, k + 1, dtype=torch.bool, device=columns.device)
        stay.scatter_(-1, torch.where(stays >= 0, stays, k), True)
        return cls(decided, *ordered(keys, values, columns.masked_fill(stay[..., :k], -1)))

    def select(self, sequences: Int[Tensor, "B2"]) -> Evicted:
        """Other sequences of the batch, in another order or repeated."""
        parts = (t.index_select(0, sequences) for t in (self.keys, self.values, self.columns))
        return Evicted(self.decided, *parts)


def ordered(
    keys: Float[Tensor, "B G K D"], values: Float[Tensor, "B G K Dv"], columns: Int[Tensor, "B G K"]
) -> tuple[Float[Tensor, "B G M D"], Float[Tensor, "B G M Dv"], Int[Tensor, "B G M"]]:
    """The rows that have a column, in the order of these, -1 behind the last."""
    none = torch.iinfo(columns.dtype).max
    order = torch.where(columns >= 0, columns, none).argsort(dim=-1, stable=True)
    at = order[..., : int((columns >= 0).sum(-1).max())]
    return gathered(keys, at), gathered(values, at), columns.gather(2, at)
