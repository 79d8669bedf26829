"""Uniform: a table begins as noise around zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.quantize.codebooks.codebook import Codebook
from tokenry.quantize.parts import Start


@dataclass(frozen=True, kw_only=True)
class Uniform(Start):
    """Begin with noise, as the first vector-quantised autoencoder did.

    What it does
        Every number of the table is uniform in [-1/C, 1/C].
    Where it acts
        As `start` of `vq`, once, when the first vectors arrive in training.
    Shapes
        rows (T, E), of which nothing is used -> table (C, E).
    Guarantees
        The vectors have no influence.
    Raises
        Nothing.
    Relations
        The usual way to a table of which few codes are used; `kmeans` and `restart` are the remedies.
    """

    part = Card(
        title="Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        summary="a table begins as noise around zero",
    )

    def begin(self, book: Codebook, rows: Float[Tensor, "T E"], generator: torch.Generator) -> None:
        noise = torch.rand(book.table.shape, generator=generator).to(rows.device)
        book.begin((2 * noise - 1) / len(book))
