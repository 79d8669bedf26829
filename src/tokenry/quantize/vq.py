"""VQ: each vector becomes the nearest row of a learned table."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import part, positive
from tokenry.quantize.base import Quantized, Quantizer
from tokenry.quantize.codebook import Codebook
from tokenry.quantize.ema import Ema
from tokenry.quantize.euclidean import Euclidean
from tokenry.quantize.kmeans import KMeans
from tokenry.quantize.means import drawn, gathered, lloyd
from tokenry.quantize.nearest import nearest_code
from tokenry.quantize.parts import Gradient, Metric, Revival, Start, Update
from tokenry.quantize.restart import Restart
from tokenry.quantize.straight_through import StraightThrough


@dataclass(eq=False, repr=False, kw_only=True)
class VQ(Quantizer):
    """Replace each vector by the nearest row of a learned table; the row's number is the token.

    What it does
        i = argmin |z - c_k|^2 and q = c_i. Five parts say how the table starts, what moves it, what becomes of codes
        that nobody uses, where vectors are compared, and how the gradient passes the choice.
    Where it acts
        On vectors, usually between an encoder and a decoder.
    Shapes
        x (B, N, E) -> values (B, N, E), codes (B, N, 1).
    Guarantees
        Values are rows of the table, bit for bit, and `dequantize` gives the same ones. Codes are those of a search
        through all distances. A table that holds all vectors gives them back exactly.
    Raises
        InvalidValue: vectors of another width or that are not finite, a mask of another shape, codes that there are
        not, a part that is none.
        Unbuilt: there is no table yet.
    Deviations
        See the card.
    Relations
        `rvq` quantizes what is left over again, `pq` cuts vectors into blocks; `fsq` needs no table.
    """

    card = Card(
        title="Discrete Tokenization for Multimodal LLMs: A Comprehensive Survey (VQ)",
        year=2025,
        url="https://arxiv.org/abs/2507.22920",
        summary="each vector becomes the nearest row of a learned table",
        trial={"codes": 16},
        deviations=(
            "losses are means over all numbers of the batch, not sums over a vector",
            "a table that starts from data is filled when the first batch of training arrives",
        ),
        training=True,
    )

    codes: int = positive(512, doc="rows of the table")
    start: Start = part(KMeans(), doc="what the table holds first: kmeans, sampled or uniform")
    update: Update = part(Ema(), doc="what moves the table: ema or by_loss")
    revive: Revival = part(Restart(), doc="what becomes of codes that nobody uses: restart or never")
    metric: Metric = part(Euclidean(), doc="where vectors are compared: euclidean or cosine")
    gradient: Gradient = part(StraightThrough(), doc="how the gradient passes: straight_through or rotation_trick")

    def make(self, *, width: int) -> None:
        super().make(width=width)
        self.book: Codebook = self.update.book(self.name(), self.codes, width)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.codes,)

    @property
    def table(self) -> Float[Tensor, "C E"]:
        """The vectors that codes stand for."""
        return self.metric.bring(self.book.vectors())

    def assign(self, rows: Float[Tensor, "T E"]) -> Quantized:
        rows = self.metric.bring(rows)
        moves = self.training and len(rows) > 0
        generator = self.draws() if moves else None
        if not self.book.started:
            if generator is None:
                raise self._unbuilt("table")
            self.start.begin(self.book, rows.detach(), generator)
        chosen, codes, values = self.gradient.choose(rows, self.table, generator)
        losses = self.update.losses(rows, values) if moves else {}
        if generator is not None:
            with torch.no_grad():
                self.update.step(self.book, rows.detach(), codes)
                self.revive.step(self.book, rows.detach(), generator)
        return Quantized(chosen, codes.unsqueeze(-1), losses)

    def look_up(self, codes: Int[Tensor, "T 1"]) -> Float[Tensor, "T E"]:
        return self.table[codes[:, 0]]

    def learn(self, rows: Float[Tensor, "T E"], iterations: int, generator: torch.Generator) -> None:
        rows = self.metric.bring(rows)
        table = lloyd(rows, drawn(rows, self.codes, generator), iterations)
        self.book.begin(table, gathered(rows, nearest_code(rows, table), self.codes)[0])
