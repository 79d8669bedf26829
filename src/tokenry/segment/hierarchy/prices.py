"""What it costs a model to cut its text too often or too rarely."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def ratio_price(
    at: Bool[Tensor, "B N"], p: Float[Tensor, "B N"], real: Bool[Tensor, "B N"], ratio: float
) -> Float[Tensor, ""]:
    """N / (N - 1) ((N - 1) F G + (1 - F)(1 - G)): 1 where the share F of ends and the mean G of p are both 1/N."""
    count = real.sum().clamp_min(1)
    f, g = (at & real).sum() / count, (p * real).sum() / count
    return ratio / (ratio - 1) * ((ratio - 1) * f * g + (1 - f) * (1 - g))


def binomial_price(ends: Float[Tensor, "B"], tokens: Float[Tensor, "B"], rate: float) -> Float[Tensor, ""]:
    """-log Binomial(ends; tokens, rate) / tokens, the mean of all rows that have tokens."""
    there = tokens > 0
    k, t = ends, tokens.clamp_min(1)
    ways = torch.lgamma(t + 1) - torch.lgamma(k + 1) - torch.lgamma((t - k).clamp_min(0) + 1)
    log = ways + k * math.log(rate) + (t - k) * math.log1p(-rate)
    return torch.where(there, -log / t, 0).sum() / there.sum().clamp_min(1)
