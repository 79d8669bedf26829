"""How a signal is brought to a scale on which it can be added to another, within one sample."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.core.method import Part


@dataclass(frozen=True, kw_only=True)
class Scale(Part):
    """A part of `ss_token` that maps the values of one sample into [0, 1] and keeps their order."""

    room: ClassVar[str] = "learn"

    @abstractmethod
    def scale(self, values: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        """The values of one sample, in the same order; equal ones stay equal."""


@dataclass(frozen=True, kw_only=True)
class AsIs(Scale):
    """Leave the values of a sample as they are.

    What it does
        x.
    Where it acts
        As `attention_scale` of `ss_token`: attention is a share between 0 and 1. As `scale` it would add nats.
    Shapes
        values (T) -> values (T).
    Guarantees
        Changes nothing.
    Raises
        Nothing.
    Relations
        `min_max` gives small differences in attention as much weight as large ones.
    """

    part = Card(
        title="ssToken: Self-modulated and Semantic-aware Token Selection for LLM Fine-tuning",
        year=2025,
        url="https://arxiv.org/abs/2510.18250",
        summary="values of a signal that is a share already",
        trial={},
    )

    def scale(self, values: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        return values


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
