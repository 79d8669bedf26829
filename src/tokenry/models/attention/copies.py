"""Heads that a model repeats by itself before it attends: each is cached once, so that methods choose from it once."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Copies = Literal["", "beside", "in turn"]
"""How: not at all, all copies of a head beside each other, or all heads once and then all of them again."""


def copies_of(held: Float[Tensor, "B G K D"], given: Float[Tensor, "B H K D"]) -> Copies:
    """How attention was given the heads that are held."""
    times, rest = divmod(given.shape[1], held.shape[1])
    if rest or held.shape[3] != given.shape[3]:
        return ""
    if torch.equal(given, held.repeat_interleave(times, 1)):
        return "beside"
    return "in turn" if torch.equal(given, held.repeat(1, times, 1, 1)) else ""


def once(copies: Copies, given: Float[Tensor, "B H K D"], heads: int) -> Float[Tensor, "B G K D"]:
    """Every head once."""
    return given[:, :heads] if copies == "in turn" else given[:, :: given.shape[1] // heads]


def side_by_side(copies: Copies, x: Tensor, heads: int, axis: int = 1) -> Tensor:
    """What belongs to query heads (H) of one cached head, one after the other."""
    return _swapped(x, (-1, heads), axis) if copies == "in turn" else x


def as_given(copies: Copies, x: Tensor, heads: int, axis: int = 1) -> Tensor:
    """Query heads (H) in the model's own order again."""
    return _swapped(x, (heads, -1), axis) if copies == "in turn" else x


def _swapped(x: Tensor, parts: tuple[int, int], axis: int) -> Tensor:
    return x if x.shape[axis] == 1 else x.unflatten(axis, parts).transpose(axis, axis + 1).flatten(axis, axis + 1)
