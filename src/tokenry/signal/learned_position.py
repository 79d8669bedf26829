"""Learned position: a vector for each place of one grid, stretched to others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import positive
from tokenry.core.learned import LearnedPart
from tokenry.signal.picture_content import check_table
from tokenry.signal.position import Position


@dataclass(eq=False, repr=False, kw_only=True)
class LearnedPosition(LearnedPart, Position):
    """Add a learned vector for each row and column.

    What it does
        A table of `rows` x `columns` vectors. A grid of another size gets the table stretched or shrunk by bicubic
        interpolation.
    Where it acts
        As `position` of `projection`.
    Shapes
        table (rows, columns, E) -> (R, C, E).
    Guarantees
        A grid of the table's size gets the table, bit for bit. Gradients reach the table.
    Raises
        InvalidValue: another width than it was built for, or a table that is too large.
        Unbuilt: there is no table yet.
    Deviations
        See the card.
    Relations
        `sin_cos` needs no table and means the same in pictures of every size. With this one, a grid that has lost its
        last rows or columns is stretched differently, and decoding is then wrong.
    """

    part = Card(
        title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
        year=2020,
        url="https://arxiv.org/abs/2010.11929",
        summary="a vector for each place of one grid, stretched to others",
        deviations=("there is no place for a class token",),
        training=True,
    )

    rows: int = positive(14, doc="rows of the table")
    columns: int = positive(14, doc="columns of the table")

    def make(self, *, width: int) -> None:
        check_table(self.rows * self.columns * width, self.name())
        self.table = nn.Parameter(0.02 * torch.randn(self.rows, self.columns, width))

    def grid(self, rows: int, columns: int, width: int) -> Float[Tensor, "R C E"]:
        if self.table.shape[2] != width:
            raise InvalidValue(f"{self.name()}: width must be {self.table.shape[2]}, as it was built; got {width}.")
        if (rows, columns) == (self.rows, self.columns):
            return self.table
        image = self.table.float().permute(2, 0, 1).unsqueeze(0)
        return interpolate(image, (rows, columns), mode="bicubic", align_corners=False)[0].permute(1, 2, 0)
