"""ByLoss: the optimiser moves codes towards the vectors that choose them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import mse_loss

from tokenry.core.card import Card
from tokenry.core.fields import between
from tokenry.quantize.codebooks.codebook import Codebook
from tokenry.quantize.parts import Update


@dataclass(frozen=True, kw_only=True)
class ByLoss(Update):
    """Make the table a parameter, and its distance to the vectors a loss.

    What it does
        L = |sg[z] - c|^2 + b |z - sg[c]|^2, each the mean over all numbers.
    Where it acts
        As `update` of `vq`, through the optimiser of the network.
    Shapes
        rows (T, E), values (T, E) -> two scalars.
    Guarantees
        Only codes that were chosen get a gradient. Counts are averaged with `decay`, for `restart`; they move nothing.
    Raises
        InvalidValue: a weight outside its limits.
    Relations
        `ema` needs no optimiser and adapts faster.
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
