"""Intervals of numbers that a whole corpus has, by drawing its documents again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

Pool = Callable[[Float[np.ndarray, "S"]], dict[str, float]]


def of_pooled(
    pooled: Pool, values: Mapping[str, float], samples: int, draws: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Ends that hold each number with 95 % confidence.

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
