"""How far vectors are from what became of them, over any number of batches."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


class Distortion:
    """Sums in 64-bit floats: the squared error, and the spread of the vectors around their mean.

    Attributes:
        vectors: how many there were.
        error: sum of |x - q|^2.
        spread: sum of |x - mean|^2.
    """

    def __init__(self) -> None:
        self.vectors = 0
        self.error = self.spread = 0.0
        self.mean: Float[Tensor, "E"] = torch.zeros(0, dtype=torch.float64)

    def add(self, rows: Float[Tensor, "T E"], values: Float[Tensor, "T E"]) -> None:
        """Measure some more."""
        if len(rows):
            rows = rows.double()
            batch = Distortion()
            batch.vectors, batch.mean = len(rows), rows.mean(0).cpu()
            batch.spread = float((rows - rows.mean(0)).square().sum())
            batch.error = float((rows - values.double()).square().sum())
            self.merge(batch)

    def merge(self, other: Distortion) -> None:
        """Take in what was measured elsewhere."""
        if not other.vectors:
            return
        if not self.vectors:
            self.mean = torch.zeros_like(other.mean)
        both = self.vectors + other.vectors
        apart = other.mean - self.mean
        self.spread += other.spread + float(apart.square().sum()) * self.vectors * other.vectors / both
        self.mean = self.mean + apart * other.vectors / both
        self.error += other.error
        self.vectors = both

    @property
    def mse(self) -> float:
        """Mean squared error over all numbers."""
        return self.error / self._numbers

    @property
    def variance(self) -> float:
        """Mean square of all numbers, without their mean vector."""
        return self.spread / self._numbers

    @property
    def sqnr(self) -> float:
        """10 log10(variance / mse) in dB; NaN without any vector or any spread, infinite without an error."""
        if not self.error:
            return math.inf if self.spread else math.nan
        return 10 * math.log10(self.spread / self.error) if self.spread else math.nan

    @property
    def _numbers(self) -> float:
        return self.vectors * len(self.mean) or math.nan
