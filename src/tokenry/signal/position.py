"""Where a patch stands, as a vector that is added to what it holds."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from tokenry.core.method import Part


class Position(Part):
    """One vector for every place of a grid."""

    room: ClassVar[str] = "signal"

    @abstractmethod
    def grid(self, rows: int, columns: int, width: int) -> Float[Tensor, "R C E"]:
        """The vectors of a grid.

        Raises:
            InvalidValue: a width that it cannot have.
        """
