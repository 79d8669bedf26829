"""What a quantizer without a table is made of: a grid for one number, and what is done to numbers before it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenry.core.method import Part


@dataclass(frozen=True, kw_only=True)
class Grid(Part):
    """Levels of one number: any number stands at a position, whose nearest whole number in [0, L) is its level."""

    room: ClassVar[str] = "quantize"
    least: ClassVar[int] = 2
    """Fewest levels for which it is defined."""
    spread: ClassVar[float] = 1.0
    """Standard deviation of numbers that suit it."""

    @abstractmethod
    def position(self, numbers: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        """Where numbers stand, in steps from the lowest level; with its gradient."""

    @abstractmethod
    def value(self, position: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        """What positions stand for: a number that grows evenly from level to level."""


@dataclass(frozen=True, kw_only=True)
class Balance(Part):
    """What brings numbers to where a grid has its levels."""

    room: ClassVar[str] = "quantize"

    def layer(self, channels: int) -> nn.Module:
        """What numbers go through, with its buffers."""
        return nn.Identity()

    def learn(self, layer: nn.Module, numbers: Float[Tensor, "T D"]) -> None:
        """Learn the layer from numbers alone."""
        return

    def losses(self, numbers: Float[Tensor, "T D"]) -> Mapping[str, Float[Tensor, ""]]:
        """What training adds to the loss, by name."""
        return {}
