"""Rank: a value becomes the share of the others that are below it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.learn.scale import Scale


@dataclass(frozen=True, kw_only=True)
class Rank(Scale):
    """Put the values of a sample at equal distances over [0, 1].

    What it does
        The number of values that are smaller, divided by the number of others.
    Where it acts
        As `scale` and `attention_scale` of `ss_token`.
    Shapes
        values (T) -> values (T).
    Guarantees
        Only the order matters: an extreme value moves no other. All are 0 where none differ by more than `floor`.
    Raises
        InvalidValue: a floor outside [0, 1].
    Relations
        `min_max` keeps distances.
    """

    part = Card(
        title="Ranks instead of values",
        year=2025,
        url="https://arxiv.org/abs/2510.18250",
        summary="a value becomes the share of the others that are below it",
        trial={},
    )

    floor: float = between(0.0, 1.0, default=1e-3, doc="range up to which values count as equal; nats where of losses")

    def scale(self, values: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        if not len(values) or values.max() - values.min() <= self.floor:
            return torch.zeros_like(values)
        below = torch.searchsorted(values.sort().values, values)
        return below.to(values.dtype) / (len(values) - 1)
