"""What brings numbers to where a grid has its levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.core.method import Part
from tokenry.quantize.codebooks.whole_buffers import WholeBuffers
from tokenry.quantize.codebooks.workers import total


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


@dataclass(frozen=True, kw_only=True)
class AsTheyAre(Balance):
    """Leave numbers as they are."""

    part = Card(
        title="Finite Scalar Quantization: VQ-VAE Made Simple",
        year=2023,
        url="https://arxiv.org/abs/2309.15505",
        summary="nothing is done to numbers before the grid",
    )


@dataclass(frozen=True, kw_only=True)
class BatchMoments(Balance):
    """Bring every channel to mean zero and variance one: (z - m) / sqrt(v + 1e-5).

    In training m and v are of the batch, and the gradient passes through them; in evaluation, and for a batch of one
    vector, they are moving averages. There is no scale and no shift to learn, and those of the encoder have no
    influence. With several workers the moments are those of all of them, without gradient across workers.
    """

    part = Card(
        title="VP-VAE: Rethinking Vector Quantization via Adaptive Vector Perturbation",
        year=2026,
        url="https://arxiv.org/abs/2602.17133",
        summary="every channel is brought to mean zero and variance one",
    )

    decay: float = between(0.0, 1.0, default=0.9, doc="share of the average moments that stays at every step")

    def layer(self, channels: int) -> nn.Module:
        return Moments(channels, self.decay)

    def learn(self, layer: nn.Module, numbers: Float[Tensor, "T D"]) -> None:
        assert isinstance(layer, Moments)
        layer.follow(*_moments(numbers, _count(numbers)), decay=0.0)


class Moments(WholeBuffers):
    """Mean and variance of D channels, and their moving averages."""

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, numbers: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        mean, variance = self.mean, self.variance
        if self.training and (count := _count(numbers)) > 1:
            mean, variance = _moments(numbers, count)
            self.follow(mean, variance, self.decay)
        return (numbers - mean.float()) * torch.rsqrt(variance.float() + 1e-5)

    @torch.no_grad()
    def follow(self, mean: Float[Tensor, "D"], variance: Float[Tensor, "D"], decay: float) -> None:
        self.mean.lerp_(mean.to(self.mean), 1 - decay)
        self.variance.lerp_(variance.to(self.variance), 1 - decay)


def _count(numbers: Float[Tensor, "T D"]) -> float:
    """Vectors of all workers."""
    return float(total(torch.tensor(float(len(numbers)), device=numbers.device)))


def _moments(numbers: Float[Tensor, "T D"], count: float) -> tuple[Float[Tensor, "D"], Float[Tensor, "D"]]:
    mean = _sum(numbers) / count
    return mean, _sum((numbers - mean).square()) / count


def _sum(numbers: Float[Tensor, "T D"]) -> Float[Tensor, "D"]:
    mine = numbers.sum(0)
    return mine + (total(mine.detach()) - mine.detach())


@dataclass(frozen=True, kw_only=True)
class MomentLoss(Balance):
    """Ask channels for mean zero and a given variance by a loss: a mean_d(m_d^2) + b mean_d((v_d - v)^2).

    m_d and v_d are of each channel in the batch; a batch of one vector has no loss, and numbers are not changed. The
    default variance, pi^2 / 12, is that of `logistic_grid`; for `normal_grid` it is 1.
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
