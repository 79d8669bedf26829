"""What becomes of codes that no vector uses."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.core.method import Part
from tokenry.quantize.codebooks.codebook import Codebook
from tokenry.quantize.codebooks.workers import same
from tokenry.quantize.search.means import drawn


@dataclass(frozen=True, kw_only=True)
class Revival(Part):
    """What becomes of codes that no vector uses."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def step(self, book: Codebook, rows: Float[Tensor, "T E"], generator: torch.Generator) -> None:
        """Look at the counts after a batch, and move dead codes; living ones stay as they are, bit for bit."""


@dataclass(frozen=True, kw_only=True)
class Never(Revival):
    """Leave all codes as they are."""

    part = Card(
        title="Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        summary="dead codes stay dead",
    )

    def step(self, book: Codebook, rows: Float[Tensor, "T E"], generator: torch.Generator) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Restart(Revival):
    """Put vectors of the batch in the place of dead codes.

    A code whose average count is below t becomes a vector of the batch, drawn without repetition; then N = t and
    m = t c, so that the next average keeps it where it was put. Where batches have few vectors for each code t is at
    most a quarter of the mean count: there a code that lives is missing from most batches. No vector is taken twice:
    where more codes are dead than the batch has vectors, those with the smallest counts are revived. It is the remedy
    that matters most when training is short.
    """

    part = Card(
        title="Jukebox: A Generative Model for Music",
        year=2020,
        url="https://arxiv.org/abs/2005.00341",
        summary="codes that hardly any vector uses become vectors of the batch",
        deviations=(
            "where a batch has fewer than four vectors for each code, at the default threshold, a code is dead below a "
            "quarter of the mean count; the threshold alone would move nearly all codes after every batch",
        ),
    )

    threshold: float = between(0.0, 1e6, default=1.0, doc="average vectors of a batch below which a code is dead")

    def step(self, book: Codebook, rows: Float[Tensor, "T E"], generator: torch.Generator) -> None:
        threshold = min(self.threshold, float(book.counts.mean()) / 4)
        dead = (book.counts < threshold).nonzero()[:, 0]
        # All workers must agree on how many, and take the vectors of the first.
        most = int(same(torch.tensor(len(rows), device=rows.device)))
        if len(dead) > most:
            dead = dead[book.counts[dead].argsort(stable=True)[:most]]
        if len(dead):
            book.replace(dead, same(drawn(rows, len(dead), generator)), threshold)
