"""How a signal is brought to a scale on which it can be added to another, within one sample."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from tokenry.core.method import Part


@dataclass(frozen=True, kw_only=True)
class Scale(Part):
    """A part of `ss_token` that maps the values of one sample into [0, 1] and keeps their order."""

    room: ClassVar[str] = "learn"

    @abstractmethod
    def scale(self, values: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        """The values of one sample, in the same order; equal ones stay equal."""
