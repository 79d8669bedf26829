"""Where a patch stands: a vector that is added to what it holds, or a turn of queries and keys."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import positive
from tokenry.core.learned import LearnedPart
from tokenry.core.method import Part
from tokenry.signal.parts.picture_content import check_table


class Position(Part):
    """One vector for every place of a grid of patches, added as `position` of `projection` and `conv_stem`."""

    room: ClassVar[str] = "signal"

    @abstractmethod
    def grid(self, rows: int, columns: int, width: int) -> Float[Tensor, "R C E"]:
        """The vectors of a grid.

        Raises:
            InvalidValue: a width that it cannot have.
        """


@dataclass(frozen=True, kw_only=True)
class NoPosition(Position):
    """Add nothing: equal patches are equal, and their boxes, or the model that reads them, say where they stand."""

    part = Card(
        title="RoFormer: Enhanced Transformer with Rotary Position Embedding",
        year=2021,
        url="https://arxiv.org/abs/2104.09864",
        summary="a patch does not say where it stands; the model does",
    )

    def grid(self, rows: int, columns: int, width: int) -> Float[Tensor, "R C E"]:
        return torch.zeros(rows, columns, width)


@dataclass(frozen=True, kw_only=True)
class SinCos(Position):
    """Add sin(r w), cos(r w), sin(c w), cos(c w) of row r and column c, where w_k = base^(-4 k / E), k < E / 4.

    A place has the same vector in every picture, however large it is.
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


@dataclass(eq=False, repr=False, kw_only=True)
class LearnedPosition(LearnedPart, Position):
    """Add a vector of a learned table, which is stretched to grids of other sizes by bicubic interpolation.

    A grid of the table's size gets it bit for bit, and gradients reach it.
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


@dataclass(frozen=True, kw_only=True)
class Rotary(Position):
    """Turn one half of every query and key by its row, the other half by its column, and add nothing to the vectors.

    What it does
        With w_k = base^(-4 k / D), k = 0 ... D/4 - 1: numbers k and k + D/4 of a head turn together by the angle r w_k
        of row r; numbers D/2 + k and 3 D/4 + k by c w_k of column c.
    Where it acts
        In the model that reads the tokens: it calls `rotate` on queries and keys in each attention, with the `places`
        of their boxes.
    Guarantees
        Dot products of turned queries and keys depend on how many rows and columns lie between them, and on nothing
        else of where they are. Norms stay. At row and column 0 nothing turns; within one row it is the rotation in
        one dimension of the second half alone.
    Relations
        `sin_cos` adds the same waves to the vectors, where later layers may forget them.
    """

    part = Card(
        title="Rotary Position Embedding for Vision Transformer",
        year=2024,
        url="https://arxiv.org/abs/2403.13298",
        summary="queries and keys are turned by their row and their column",
        deviations=("the axial form, whose speeds are given; the paper's mixed form learns them",),
    )

    base: int = positive(100, doc="the slowest turn takes 2 pi times nearly this many patches")

    def grid(self, rows: int, columns: int, width: int) -> Float[Tensor, "R C E"]:
        return torch.zeros(rows, columns, width)

    def places(self, boxes: Int[Tensor, "*B 6"], size: int) -> Int[Tensor, "*B 2"]:
        """Row and column of each box, in patches of `size` pixels."""
        return boxes[..., [2, 4]].div(size, rounding_mode="floor")

    def angles(self, places: Int[Tensor, "B N 2"], width: int) -> Float[Tensor, "B N A"]:
        """By how much the pairs of a head of `width` numbers turn: D/4 angles of the row, then D/4 of the column.

        Raises:
            InvalidValue: a width that is no multiple of 4.
        """
        if width < 4 or width % 4:
            raise InvalidValue(f"{self.name()}: heads must have a width that is a multiple of 4; got {width}.")
        speed = self.base ** (-4 * torch.arange(width // 4, dtype=torch.float64, device=places.device) / width)
        return (places.unsqueeze(-1) * speed).flatten(-2).float()

    def rotate(self, x: Float[Tensor, "B H N D"], places: Int[Tensor, "B N 2"]) -> Float[Tensor, "B H N D"]:
        """Queries or keys, turned; in the type of numbers that they have.

        Raises:
            InvalidValue: heads whose width is no multiple of 4.
        """
        angles = self.angles(places, x.shape[-1]).unsqueeze(1).unflatten(-1, (2, 1, -1))
        one, other = x.float().unflatten(-1, (2, 2, -1)).split(1, -2)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((one * cos - other * sin, other * cos + one * sin), -2).flatten(-3).to(x.dtype)
