"""Rows with their real tokens first, and back."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def aligned(real: Bool[Tensor, "B N"]) -> tuple[Int[Tensor, "B N"], Bool[Tensor, "B N"]]:
    """The columns of each row, its real tokens first, and which of them then are real."""
    order = (~real).int().argsort(dim=1, stable=True)
    return order, real.gather(1, order)


def restored(
    x: Float[Tensor, "B N E"], order: Int[Tensor, "B N"], straight: Bool[Tensor, "B N"]
) -> Float[Tensor, "B N E"]:
    """Aligned states where their tokens were; zeros in padding, also where padding gave no numbers."""
    x = torch.where(straight.unsqueeze(-1), x, 0)
    return torch.zeros_like(x).scatter(1, order.unsqueeze(-1).expand_as(x), x)


def decays(log: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N N"]:
    """exp of the sum of logarithms after the key up to the query, for each pair; 0 where the key comes later."""
    total = log.cumsum(-1)
    later = torch.ones(log.shape[-1], log.shape[-1], dtype=torch.bool, device=log.device).triu(1)
    return (total.unsqueeze(-1) - total.unsqueeze(-2)).masked_fill(later, float("-inf")).exp()
