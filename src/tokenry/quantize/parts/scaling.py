"""How much smaller what is left over becomes from level to level."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.method import Part
from tokenry.quantize.base import Quantizer
from tokenry.quantize.fsq import FSQ


@dataclass(frozen=True, kw_only=True)
class Scaling(Part):
    """By what each level of `rvq` divides its vectors; what it gives is multiplied by the same."""

    room: ClassVar[str] = "quantize"

    def check(self, of: Quantizer, width: int) -> None:
        """Refuse quantizers that it does not fit."""
        return

    @abstractmethod
    def factor(self, of: Quantizer, level: int) -> float | Float[Tensor, "E"]:
        """The factor of a level, of which the first is 0."""


@dataclass(frozen=True, kw_only=True)
class Unscaled(Scaling):
    """Leave what is left over as it is, which suits tables; a fixed grid needs `grid_steps`."""

    part = Card(
        title="SoundStream: An End-to-End Neural Audio Codec",
        year=2021,
        url="https://arxiv.org/abs/2107.03312",
        summary="every level takes what is left over as it is",
    )

    def factor(self, of: Quantizer, level: int) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class GridSteps(Scaling):
    """Make the grid of every level as wide as one step of the level before: factors (L_j - 1)^-m for level m from 0.

    With `grid=clamped_grid` and vectors in [-1, 1] what M levels leave over is at most (L_j - 1)^-M. It is for `fsq`
    with as many levels as vectors are wide; `projected` around `rvq` brings wider ones to the numbers of the grid.
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
