"""What vectors are turned by before they are cut into blocks."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.method import Part


@dataclass(frozen=True, kw_only=True)
class Rotation(Part):
    """An orthogonal matrix R: blocks are cut from z R, and their sum goes back by its transpose."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def begin(self, width: int) -> Float[Tensor, "E E"] | None:
        """The matrix before anything is learnt; None is no rotation at all."""

    def learn(
        self, rows: Float[Tensor, "T E"], turn: Float[Tensor, "E E"], blocks: int, codes: int, seed: torch.Generator
    ) -> Float[Tensor, "E E"]:
        """The matrix for these vectors."""
        return turn
