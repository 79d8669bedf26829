"""LogisticGrid: bins that hold equal shares of a logistic distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.quantize.bins import Bins


@dataclass(frozen=True, kw_only=True)
class LogisticGrid(Bins):
    """Take a number's share of a logistic distribution, and cut shares into L even bins.

    What it does
        p = (tanh z + 1) / 2 is the distribution function of a logistic variable of variance pi^2 / 12; the level is
        floor(p L), and q = sqrt(12) ((level + 1/2) / L - 1/2), which has variance one for even shares and many levels.
    Where it acts
        As `grid` of `fsq`, number by number.
    Shapes
        numbers (T, D), levels (D) -> positions (T, D), values (T, D).
    Guarantees
        Numbers of that distribution use all levels alike. Any L of at least 2 works.
    Raises
        Nothing.
    Relations
        The paper trains it with noise and no rounding, `noise=1`, and with `moment_loss`, which asks for the variance.
        `normal_grid` is the same for a normal distribution.
    """

    part = Card(
        title="VP-VAE: Rethinking Vector Quantization via Adaptive Vector Perturbation",
        year=2026,
        url="https://arxiv.org/abs/2602.17133",
        summary="bins that hold equal shares of a logistic distribution",
    )

    spread: ClassVar[float] = 0.907

    def share(self, numbers: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        return (torch.tanh(numbers) + 1) / 2
