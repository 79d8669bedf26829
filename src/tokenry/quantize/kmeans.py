"""KMeans: a table begins as the means of the first batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import positive
from tokenry.quantize.codebooks.codebook import Codebook
from tokenry.quantize.parts import Start
from tokenry.quantize.search.means import drawn, gathered, lloyd
from tokenry.quantize.search.nearest import nearest_code


@dataclass(frozen=True, kw_only=True)
class KMeans(Start):
    """Begin with k-means over the first batch.

    What it does
        C vectors of the batch are drawn; then each becomes the mean of those it is nearest to, `iterations` times.
    Where it acts
        As `start` of `vq`, once, when the first vectors arrive in training.
    Shapes
        rows (T, E) -> table (C, E).
    Guarantees
        A code without vectors keeps its place. A batch of no more vectors than codes is taken over exactly.
    Raises
        InvalidValue: fewer than one iteration.
    Relations
        `sampled` is this without the iterations. Without `restart` its codes die again within a few hundred steps.
    """

    part = Card(
        title="SoundStream: An End-to-End Neural Audio Codec",
        year=2021,
        url="https://arxiv.org/abs/2107.03312",
        summary="a table begins as the means of the first batch",
    )

    iterations: int = positive(10, doc="passes over the first batch")

    def begin(self, book: Codebook, rows: Float[Tensor, "T E"], generator: torch.Generator) -> None:
        table = lloyd(rows, drawn(rows, len(book), generator), self.iterations)
        counts, _ = gathered(rows, nearest_code(rows, table), len(book))
        book.begin(table, counts)
