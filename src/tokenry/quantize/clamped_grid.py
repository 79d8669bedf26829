"""ClampedGrid: the nearest of L evenly spaced numbers from -1 to 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.quantize.grid import Grid


@dataclass(frozen=True, kw_only=True)
class ClampedGrid(Grid):
    """Cut off at -1 and 1 and round to L levels with both ends; nothing is bent.

    What it does
        q = 2 / (L - 1) floor((L - 1)(clamp(z, -1, 1) + 1) / 2 + 1/2) - 1.
    Where it acts
        As `grid` of `fsq` on numbers that are bounded already, above all in the levels of `rvq`.
    Shapes
        numbers (T, D), levels (D) -> positions (T, D), values (T, D).
    Guarantees
        The nearest level of all; what is on the grid stays. Between -1 and 1 the error is at most 1 / (L - 1). A number
        beyond has no gradient.
    Raises
        Nothing.
    Relations
        With `scaling=grid_steps` of `rvq` every further level fills one step of the level before.
    """

    part = Card(
        title="Scaling Transformers for Low-Bitrate High-Quality Speech Coding",
        year=2024,
        url="https://arxiv.org/abs/2411.19842",
        summary="the nearest of evenly spaced numbers from -1 to 1",
    )

    spread: ClassVar[float] = 0.5

    def position(self, numbers: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return (levels - 1) * (numbers.clamp(-1, 1) + 1) / 2

    def value(self, position: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return 2 * position / (levels - 1) - 1
