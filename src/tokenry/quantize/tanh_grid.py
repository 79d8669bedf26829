"""TanhGrid: a hyperbolic tangent bounds a number, which is rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.quantize.grid import Grid

MARGIN = 1e-3
"""Share by which the bound is wider than the outermost levels."""


@dataclass(frozen=True, kw_only=True)
class TanhGrid(Grid):
    """Bound by tanh, with half a level of shift where the levels are even in number.

    What it does
        y = h tanh(z + s) - o with h = (L - 1)(1 + 1e-3) / 2, o = 1/2 for even L and 0 for odd, s = artanh(o / h), so
        that zero stays zero; then q = round(y) / floor(L / 2).
    Where it acts
        As `grid` of `fsq`, number by number.
    Shapes
        numbers (T, D), levels (D) -> positions (T, D), values (T, D).
    Guarantees
        Zero is a level. dq/dz = h (1 - tanh^2(z + s)) / floor(L / 2) when rounding passes the gradient. For L = 3 it
        is the sign of z, or 0 between -0.55 and 0.55.
    Raises
        InvalidValue: two levels, for which the shift has no meaning.
    Relations
        For even L there is one level more below zero than above; `symmetric_grid` has as many on either side.
    """

    part = Card(
        title="Finite Scalar Quantization: VQ-VAE Made Simple",
        year=2023,
        url="https://arxiv.org/abs/2309.15505",
        summary="a hyperbolic tangent bounds a number, which is rounded",
    )

    least: ClassVar[int] = 3
    spread: ClassVar[float] = 0.907

    def position(self, numbers: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        half = (levels - 1) * (1 + MARGIN) / 2
        offset = 0.5 * (levels % 2 == 0)
        # The paper's listing has tan, which its first author calls a mistake, and takes the margin away; added, the
        # outermost levels can be met exactly.
        shift = torch.atanh(offset / half)
        return half * torch.tanh(numbers + shift) - offset + levels // 2

    def value(self, position: Float[Tensor, "T D"], levels: Int[Tensor, "D"]) -> Float[Tensor, "T D"]:
        return (position - levels // 2) / (levels // 2)
