"""Closest: a vector gets the nearest code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.quantize.parts import Choice
from tokenry.quantize.search.nearest import nearest_code


@dataclass(frozen=True, kw_only=True)
class Closest(Choice):
    """Choose the nearest code, in training too.

    What it does
        argmin |z - c_k|^2, the first of equal ones.
    Where it acts
        As `choice` of `vq`.
    Shapes
        rows (T, E), table (C, E) -> codes (T).
    Guarantees
        There is no nearer code. Nothing is drawn.
    Raises
        Nothing.
    Relations
        `stochastic` also takes others, the more often the nearer they are.
    """

    part = Card(
        title="Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        summary="a vector gets the nearest code",
    )

    def codes(
        self, rows: Float[Tensor, "T E"], table: Float[Tensor, "C E"], generator: torch.Generator | None
    ) -> Int[Tensor, "T"]:
        return nearest_code(rows, table)
