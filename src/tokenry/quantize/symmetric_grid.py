"""SymmetricGrid: levels from -1 to 1, as many on either side of zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.quantize.grid import Grid


@dataclass(frozen=True, kw_only=True)
class SymmetricGrid(Grid):
    """Bound by tanh, and round to L levels from -1 to 1 with both ends.

    What it does
        q = 2 / (L - 1) floor((L - 1)(tanh z + 1) / 2 + 1/2) - 1.
    Where it acts
        As `grid` of `fsq`, number by number.
    Shapes
        numbers (T, D), levels (D) -> positions (T, D), values (T, D).
    Guarantees
        Any L of at least 2 works. The level of -z is that of z seen from the other end, ties aside.
    Raises
        Nothing.
    Relations
        Published together with noise in place of rounding: `noise=0.5` of `fsq`. `clamped_grid` is this without tanh.
    """

    part = Card(
        title="Scaling Transformers for Low-Bitrate High-Quality Speech Coding",
        year=2024,
        url="https://arxiv.org/abs/2411.19842",
        summary="levels from -1 to 1, as many on either side of zero",
    )

    spread: ClassVar[float] = 0.907

    def position(self, numbers: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return (levels - 1) * (torch.tanh(numbers) + 1) / 2

    def value(self, position: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return 2 * position / (levels - 1) - 1
