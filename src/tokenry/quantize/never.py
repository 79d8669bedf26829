"""Never: dead codes stay dead."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.quantize.codebooks.codebook import Codebook
from tokenry.quantize.parts import Revival


@dataclass(frozen=True, kw_only=True)
class Never(Revival):
    """Leave all codes as they are.

    What it does
        Nothing.
    Where it acts
        As `revive` of `vq`.
    Shapes
        table (C, E) -> table (C, E).
    Guarantees
        The table is the same before and after.
    Raises
        Nothing.
    Relations
        What `restart` is measured against.
    """

    part = Card(
        title="Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        summary="dead codes stay dead",
    )

    def step(self, book: Codebook, rows: Float[Tensor, "T E"], generator: torch.Generator) -> None:
        pass
