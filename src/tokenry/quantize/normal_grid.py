"""NormalGrid: bins that hold equal shares of a normal distribution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.quantize.bins import Bins


@dataclass(frozen=True, kw_only=True)
class NormalGrid(Bins):
    """Take a number's share of the standard normal distribution, and cut shares into L even bins.

    What it does
        p = (1 + erf(z / sqrt 2)) / 2; the level is floor(p L), and q = sqrt(12) ((level + 1/2) / L - 1/2).
    Where it acts
        As `grid` of `fsq`, number by number.
    Shapes
        numbers (T, D), levels (D) -> positions (T, D), values (T, D).
    Guarantees
        Normal numbers of variance one use all levels alike. Any L of at least 2 works.
    Raises
        Nothing.
    Relations
        Made for channels that `batch_moments` brings to mean zero and variance one.
    """

    part = Card(
        title="VP-VAE: Rethinking Vector Quantization via Adaptive Vector Perturbation",
        year=2026,
        url="https://arxiv.org/abs/2602.17133",
        summary="bins that hold equal shares of a normal distribution",
    )

    def share(self, numbers: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        return torch.special.ndtr(numbers)
