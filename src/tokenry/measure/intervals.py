"""How sure a number is: intervals that hold it with 95 % confidence."""

from __future__ import annotations

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

DRAWS = 10_000


def of_mean(values: Float[Tensor, "S"]) -> tuple[float, float]:
    """The mean of independent values, by bootstrap."""
    low, high = _ends(values.float()[_draws(len(values))].mean(1))
    return low, high


def of_ratio(over: Float[Tensor, "S"], under: Float[Tensor, "S"]) -> tuple[float, float]:
    """The ratio of the means of values that belong together in pairs, by bootstrap over the pairs."""
    chosen = _draws(len(over))
    low, high = _ends(over.float()[chosen].mean(1) / under.float()[chosen].mean(1))
    return low, high


def of_share(hits: int, of: int) -> tuple[float, float]:
    """A share of right answers, after Wilson."""
    if not of:
        return 0.0, 1.0
    z, share = 1.96, hits / of
    middle, reach = share + z * z / (2 * of), z * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, (middle - reach) / (1 + z * z / of)), min(1.0, (middle + reach) / (1 + z * z / of))


def _draws(n: int) -> Tensor:
    return torch.randint(n, (DRAWS, n), generator=torch.Generator().manual_seed(0))


def _ends(values: Tensor) -> tuple[float, float]:
    low, high = values.quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high
