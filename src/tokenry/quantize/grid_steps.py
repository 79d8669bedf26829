"""GridSteps: the grid of every level is as wide as one step of the level before."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.quantize.base import Quantizer
from tokenry.quantize.fsq import FSQ
from tokenry.quantize.scaling import Scaling


@dataclass(frozen=True, kw_only=True)
class GridSteps(Scaling):
    """Make the grid of every level as wide as one step of the level before.

    What it does
        Level m works on the residual times (L_j - 1)^m in channel j, counted from 0.
    Where it acts
        As `scaling` of `rvq` over `fsq`.
    Shapes
        levels (E) -> factors (E).
    Guarantees
        With `grid=clamped_grid` and vectors in [-1, 1] what M levels leave over is at most (L_j - 1)^-M.
    Raises
        InvalidValue: another quantizer than `fsq`, or vectors of another width than it has numbers.
    Relations
        `projected` around `rvq` brings wider vectors to the numbers of the grid.
    """

    part = Card(
        title="Scaling Transformers for Low-Bitrate High-Quality Speech Coding",
        year=2024,
        url="https://arxiv.org/abs/2411.19842",
        summary="the grid of every level is as wide as one step of the level before",
    )

    def check(self, of: Quantizer, width: int) -> None:
        if not isinstance(of, FSQ) or len(of.levels) != width:
            raise InvalidValue(
                f"{self.name()}: needs fsq with as many levels as vectors are wide; got {of} and width {width}; "
                "use scaling=unscaled, or projected around rvq."
            )

    def factor(self, of: Quantizer, level: int) -> Float[Tensor, "E"]:
        assert isinstance(of, FSQ)
        return (of.sizes - 1).float() ** -level
