"""What a table holds first, when the first batch of training arrives."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import positive
from tokenry.core.method import Part
from tokenry.quantize.codebooks.codebook import Codebook
from tokenry.quantize.search.means import drawn, gathered, lloyd
from tokenry.quantize.search.nearest import nearest_code


@dataclass(frozen=True, kw_only=True)
class Start(Part):
    """What a table holds first, when the first batch of training arrives."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def begin(self, book: Codebook, rows: Float[Tensor, "T E"], generator: torch.Generator) -> None:
        """Fill a table for these vectors, of which there is at least one."""


@dataclass(frozen=True, kw_only=True)
class KMeans(Start):
    """Begin with k-means over the first batch, from vectors that are drawn as `sampled` draws them.

    A code without vectors keeps its place, so that a batch of no more vectors than codes is taken over exactly.
    Without `restart` codes die again within a few hundred steps.
    """

    part = Card(
        title="SoundStream: An End-to-End Neural Audio Codec",
        year=2021,
        url="https://arxiv.org/abs/2107.03312",
        summary="a table begins as the means of the first batch",
    )

    iterations: int = positive(10, doc="passes over the first batch")

    def begin(self, book: Codebook, rows: Float[Tensor, "T E"], generator: torch.Generator) -> None:
        table = lloyd(rows, drawn(rows, len(book), generator), range(self.iterations))
        counts, _ = gathered(rows, nearest_code(rows, table), len(book))
        book.begin(table, counts)


@dataclass(frozen=True, kw_only=True)
class Sampled(Start):
    """Begin with vectors of the first batch, drawn without repetition; where there are too few, some come again."""

    part = Card(
        title="Discrete Tokenization for Multimodal LLMs: A Comprehensive Survey",
        year=2025,
        url="https://arxiv.org/abs/2507.22920",
        summary="a table begins as vectors of the first batch",
    )

    def begin(self, book: Codebook, rows: Float[Tensor, "T E"], generator: torch.Generator) -> None:
        book.begin(drawn(rows, len(book), generator))


@dataclass(frozen=True, kw_only=True)
class Uniform(Start):
    """Begin with numbers uniform in [-1/C, 1/C], as the first vector-quantised autoencoder did.

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
