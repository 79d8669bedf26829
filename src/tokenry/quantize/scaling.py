"""How much smaller what is left over becomes from level to level."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from tokenry.core.method import Part
from tokenry.quantize.base import Quantizer


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
