"""How sure a number is: intervals that hold it with 95 % confidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

DRAWS = 10_000

Pool = Callable[[Float[np.ndarray, "S"]], dict[str, float]]


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


def of_pooled(
    pooled: Pool, values: Mapping[str, float], samples: int, draws: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Numbers that a whole corpus has, by drawing its documents again and again.

    A corpus drawn with repetition holds some documents twice, and what repeats is more predictable: entropies of
    drawn corpora lie below the measured one. Only their spread is used, laid around the measured number.

    Args:
        pooled: the numbers when document i counts weights[i] times.
        values: the numbers as measured.
        samples: documents.
        draws: corpora to draw.
    """
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(draws):
        weights = generator.multinomial(samples, np.full(samples, 1 / samples)).astype(float)
        for name, value in pooled(weights).items():
            drawn[name].append(value)
    found = {}
    for name, value in values.items():
        spread = np.array(drawn[name], dtype=float)
        spread = spread[np.isfinite(spread)]
        if len(spread) and np.isfinite(value):
            low, high = np.quantile(spread, [0.025, 0.975]) - spread.mean() + value
            found[name] = (float(low), float(high))
    return found


def _draws(n: int) -> Tensor:
    return torch.randint(n, (DRAWS, n), generator=torch.Generator().manual_seed(0))


def _ends(values: Tensor) -> tuple[float, float]:
    low, high = values.quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high
