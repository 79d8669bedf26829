"""Sampled: a table begins as vectors of the first batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.quantize.codebooks.codebook import Codebook
from tokenry.quantize.parts import Start
from tokenry.quantize.search.means import drawn


@dataclass(frozen=True, kw_only=True)
class Sampled(Start):
    """Begin with vectors of the first batch, drawn without repetition.

    What it does
        c_k = z_j for C different j, drawn from all alike; where there are too few, some are taken twice.
    Where it acts
        As `start` of `vq`, once, when the first vectors arrive in training.
    Shapes
        rows (T, E) -> table (C, E).
    Guarantees
        Every code is a vector of the batch.
    Raises
        Nothing.
    Relations
        `kmeans` goes on from here.
    """

    part = Card(
        title="Discrete Tokenization for Multimodal LLMs: A Comprehensive Survey",
        year=2025,
        url="https://arxiv.org/abs/2507.22920",
        summary="a table begins as vectors of the first batch",
    )

    def begin(self, book: Codebook, rows: Float[Tensor, "T E"], generator: torch.Generator) -> None:
        book.begin(drawn(rows, len(book), generator))
