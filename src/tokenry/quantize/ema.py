"""Ema: codes are moving averages of the vectors that choose them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import mse_loss

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.quantize.codebooks.codebook import Codebook
from tokenry.quantize.parts import Update


@dataclass(frozen=True, kw_only=True)
class Ema(Update):
    """Move every code to the moving average of its vectors.

    What it does
        N <- g N + (1 - g) n and m <- g m + (1 - g) sum z over the n vectors of a code; then c = m / N', where
        N' = (N + e) / (sum N + C e) * sum N keeps rare codes from dividing by nothing. The loss is b |z - sg[c]|^2,
        the mean over all numbers.
    Where it acts
        As `update` of `vq`, after every batch of training; the table is no parameter of an optimiser.
    Shapes
        rows (T, E), codes (T) -> counts (C), sums (C, E), table (C, E).
    Guarantees
        With decay 0 and smoothing 0 a step is one iteration of k-means. A code that was never used stays.
    Raises
        InvalidValue: a decay or weight outside its limits.
    Relations
        `by_loss` leaves the table to the optimiser.
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
