"""MinMax: the smallest value of a sample becomes 0, the largest 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.learn.scale import Scale


@dataclass(frozen=True, kw_only=True)
class MinMax(Scale):
    """Stretch the values of a sample over [0, 1].

    What it does
        (x - min) / (max - min); 0 for all where max - min is not above `floor`.
    Where it acts
        As `scale` and `attention_scale` of `ss_token`.
    Shapes
        values (T) -> values (T).
    Guarantees
        Values that differ by no more than `floor` count as equal: a loss that has not moved yet is rounding noise,
        which would otherwise fill the whole scale.
    Raises
        InvalidValue: a floor outside [0, 1].
    Relations
        One extreme value presses all others together; `rank` is not moved by it.
    """

    part = Card(
        title="ssToken: Self-modulated and Semantic-aware Token Selection for LLM Fine-tuning",
        year=2025,
        url="https://arxiv.org/abs/2510.18250",
        summary="the smallest value of a sample becomes 0, the largest 1",
        trial={},
    )

    floor: float = between(0.0, 1.0, default=1e-3, doc="range up to which values count as equal; nats where of losses")

    def scale(self, values: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        if not len(values):
            return values
        low, high = values.aminmax()
        return (values - low) / (high - low) if high - low > self.floor else torch.zeros_like(values)
