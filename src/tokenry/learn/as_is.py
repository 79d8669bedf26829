"""AsIs: a signal that is a share already, such as attention, keeps its values."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.learn.scale import Scale


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
