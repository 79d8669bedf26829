"""Sin-cos: rows and columns as waves of many lengths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import positive
from tokenry.signal.position import Position


@dataclass(frozen=True, kw_only=True)
class SinCos(Position):
    """Add sines and cosines of the row and of the column.

    What it does
        With w_k = base^(-4 k / E), k = 0 ... E/4 - 1: sin(r w), cos(r w), sin(c w), cos(c w) of row r and column c, one
        quarter of the vector each.
    Where it acts
        As `position` of `projection`. Rows and columns are counted in patches from the upper left.
    Shapes
        A grid (R, C) -> (R, C, E).
    Guarantees
        A place has the same vector in every picture, however large it is. Nothing is learnt.
    Raises
        InvalidValue: a width that is no multiple of 4.
    Relations
        `learned_position` is learnt for one size of pictures and stretched to others.
    """

    part = Card(
        title="Masked Autoencoders Are Scalable Vision Learners",
        year=2021,
        url="https://arxiv.org/abs/2111.06377",
        summary="rows and columns as waves of many lengths",
    )

    base: int = positive(10_000, doc="the longest wave is 2 pi times nearly this many patches")

    def grid(self, rows: int, columns: int, width: int) -> Float[Tensor, "R C E"]:
        if width % 4:
            raise InvalidValue(f"{self.name()}: width must be a multiple of 4; got {width}; choose another position.")
        speed = self.base ** (-4 * torch.arange(width // 4, dtype=torch.float64) / width)
        waves = [torch.arange(count).unsqueeze(1) * speed for count in (rows, columns)]
        down, across = (torch.cat((w.sin(), w.cos()), 1).float() for w in waves)
        return torch.cat((down.unsqueeze(1).expand(-1, columns, -1), across.expand(rows, -1, -1)), 2)
