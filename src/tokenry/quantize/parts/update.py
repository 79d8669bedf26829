"""What moves a table in training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import mse_loss

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.core.method import Part
from tokenry.quantize.codebooks.codebook import Codebook


@dataclass(frozen=True, kw_only=True)
class Update(Part):
    """What moves a table in training."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def book(self, who: str, codes: int, width: int) -> Codebook:
        """The table that this way of moving it needs."""

    @abstractmethod
    def losses(self, rows: Float[Tensor, "T E"], values: Float[Tensor, "T E"]) -> Mapping[str, Float[Tensor, ""]]:
        """Losses of vectors and the table's vectors nearest to them, by name, each a mean over all numbers."""

    @abstractmethod
    def step(self, book: Codebook, rows: Float[Tensor, "T E"], codes: Int[Tensor, "T"]) -> None:
        """Follow one batch; at least the counts."""


@dataclass(frozen=True, kw_only=True)
class Ema(Update):
    """Move every code to the moving average of its vectors.

    What it does
        N <- g N + (1 - g) n and m <- g m + (1 - g) sum z over the n vectors of a code; then c = m / N', where
        N' = (N + e) / (sum N + C e) * sum N keeps rare codes from dividing by nothing. The loss is b |z - sg[c]|^2,
        the mean over all numbers.
    Where it acts
        After every batch of training; the table is no parameter of an optimiser.
    Guarantees
        With decay 0 and smoothing 0 a step is one iteration of k-means. A code that was never used stays.
    """

    part = Card(
        title="Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        summary="codes are moving averages of the vectors that choose them",
    )

    decay: float = between(0.0, 1.0, default=0.99, doc="share of the average that stays at every step")
    smoothing: float = between(0.0, 1.0, default=1e-5, doc="added to the count of every code")
    commitment: float = between(0.0, 100.0, default=0.25, doc="weight of the distance from vectors to their codes")

    def book(self, who: str, codes: int, width: int) -> Codebook:
        return Codebook(who, codes, width, learnt=False)

    def losses(self, rows: Float[Tensor, "T E"], values: Float[Tensor, "T E"]) -> Mapping[str, Float[Tensor, ""]]:
        return {"commitment": self.commitment * mse_loss(rows, values.detach())}

    def step(self, book: Codebook, rows: Float[Tensor, "T E"], codes: Int[Tensor, "T"]) -> None:
        book.observe(rows, codes, self.decay)
        whole = book.counts.sum()
        counts = (book.counts + self.smoothing) / (whole + len(book) * self.smoothing) * whole
        used = (counts > 0).unsqueeze(1)
        book.table.copy_(torch.where(used, book.sums / counts.unsqueeze(1), book.table))


@dataclass(frozen=True, kw_only=True)
class ByLoss(Update):
    """Leave the table to the optimiser of the network: |sg[z] - c|^2 + b |z - sg[c]|^2, means over all numbers.

    Only codes that were chosen get a gradient. Counts are averaged for `restart` alone; they move nothing.
    """

    part = Card(
        title="Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        summary="the optimiser moves codes towards the vectors that choose them",
    )

    commitment: float = between(0.0, 100.0, default=0.25, doc="weight of the distance from vectors to their codes")
    decay: float = between(0.0, 1.0, default=0.99, doc="share of the counts that stays at every step")

    def book(self, who: str, codes: int, width: int) -> Codebook:
        return Codebook(who, codes, width, learnt=True)

    def losses(self, rows: Float[Tensor, "T E"], values: Float[Tensor, "T E"]) -> Mapping[str, Float[Tensor, ""]]:
        return {
            "codebook": mse_loss(values, rows.detach()),
            "commitment": self.commitment * mse_loss(rows, values.detach()),
        }

    def step(self, book: Codebook, rows: Float[Tensor, "T E"], codes: Int[Tensor, "T"]) -> None:
        book.observe(rows, codes, self.decay)
