"""BatchMoments: every channel is brought to mean zero and variance one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.quantize.codebooks.workers import total
from tokenry.quantize.grid import Balance


@dataclass(frozen=True, kw_only=True)
class BatchMoments(Balance):
    """Bring every channel to mean zero and variance one, with the moments of the batch.

    What it does
        (z - m) / sqrt(v + 1e-5), in training with the mean and variance of the batch, through which the gradient
        passes; in evaluation with their moving averages. There is no scale and no shift to learn.
    Where it acts
        As `balance` of `fsq`, before the grid.
    Shapes
        numbers (T, D) -> numbers (T, D).
    Guarantees
        Scale and offset of the encoder have no influence in training. Batches of one vector are treated as in
        evaluation. With several workers the moments are those of all of them, without gradient across workers.
    Raises
        InvalidValue: a decay outside its limits.
    Relations
        `moment_loss` asks for the same by a loss.
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


class Moments(nn.Module):
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
        return (numbers - mean) * torch.rsqrt(variance + 1e-5)

    @torch.no_grad()
    def follow(self, mean: Float[Tensor, "D"], variance: Float[Tensor, "D"], decay: float) -> None:
        self.mean.lerp_(mean, 1 - decay)
        self.variance.lerp_(variance, 1 - decay)


def _count(numbers: Float[Tensor, "T D"]) -> float:
    """Vectors of all workers."""
    return float(total(torch.tensor(float(len(numbers)), device=numbers.device)))


def _moments(numbers: Float[Tensor, "T D"], count: float) -> tuple[Float[Tensor, "D"], Float[Tensor, "D"]]:
    mean = _sum(numbers) / count
    return mean, _sum((numbers - mean).square()) / count


def _sum(numbers: Float[Tensor, "T D"]) -> Float[Tensor, "D"]:
    mine = numbers.sum(0)
    return mine + (total(mine.detach()) - mine.detach())
