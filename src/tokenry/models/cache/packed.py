"""Ragged indices in one form: ascending, -1 at the end where there are fewer, no wider than the longest."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def packed(index: Int[Tensor, "*B M0"], *, least: int = 0) -> Int[Tensor, "*B M"]:
    """Indices in any order, of which -1 is none, in this form.

    Args:
        least: the smallest M; attention needs a row, if only an empty one.
    """
    none = torch.iinfo(index.dtype).max
    order = torch.where(index >= 0, index, none).sort(-1).values
    order = order[..., : max(least, int((index >= 0).sum(-1).max()))]
    return torch.where(order < none, order, -1)


def rows_where(stays: Bool[Tensor, "*B K"], *, least: int = 0) -> Int[Tensor, "*B M"]:
    """The rows at which `stays` is true, in this form."""
    return packed(torch.where(stays, torch.arange(stays.shape[-1], device=stays.device), -1), least=least)
