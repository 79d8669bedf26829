"""MomentLoss: channels are asked for the mean and the variance of the grid's distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.quantize.grid import Balance


@dataclass(frozen=True, kw_only=True)
class MomentLoss(Balance):
    """Ask channels for mean zero and a given variance by a loss.

    What it does
        L = a mean_d(m_d^2) + b mean_d((v_d - v)^2) with the mean m_d and the variance v_d of each channel in the batch.
    Where it acts
        As `balance` of `fsq`, through the optimiser; numbers are not changed.
    Shapes
        numbers (T, D) -> one scalar.
    Guarantees
        Zero where every channel has mean zero and variance v. Batches of one vector have no loss.
    Raises
        InvalidValue: a weight or a variance outside its limits.
    Relations
        The default variance, pi^2 / 12, is that of `logistic_grid`; for `normal_grid` it is 1.
    """

    part = Card(
        title="VP-VAE: Rethinking Vector Quantization via Adaptive Vector Perturbation",
        year=2026,
        url="https://arxiv.org/abs/2602.17133",
        summary="channels are asked for the mean and the variance of the grid's distribution",
    )

    variance: float = between(0.0, 1e3, default=0.8225, doc="variance that is asked for")
    mean_weight: float = between(0.0, 100.0, default=0.1, doc="weight of the means")
    variance_weight: float = between(0.0, 100.0, default=0.07, doc="weight of the variances")

    def losses(self, numbers: Float[Tensor, "T D"]) -> Mapping[str, Float[Tensor, ""]]:
        if len(numbers) < 2:
            return {}
        variance, mean = torch.var_mean(numbers, 0)
        off = self.mean_weight * mean.square() + self.variance_weight * (variance - self.variance).square()
        return {"moments": off.mean()}
