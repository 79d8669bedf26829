"""Evenly spaced bins of a distribution function, each of which stands for its middle."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from tokenry.quantize.grid import Grid


@dataclass(frozen=True, kw_only=True)
class Bins(Grid):
    """A grid of bins that hold equal shares of one distribution."""

    @abstractmethod
    def share(self, numbers: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        """The share of the distribution below each number."""

    def position(self, numbers: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return self.share(numbers) * levels - 0.5

    def value(self, position: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        # Even shares have a standard deviation of 1 / sqrt(12), which is brought to one.
        return ((position + 0.5) / levels - 0.5) * math.sqrt(12)
