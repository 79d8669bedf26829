"""VQ: each vector becomes the nearest row of a learned table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import part, positive
from tokenry.quantize.base import Quantized, Quantizer
from tokenry.quantize.codebooks.codebook import Codebook
from tokenry.quantize.codebooks.passes import Passes
from tokenry.quantize.parts.choice import Choice, Closest
from tokenry.quantize.parts.gradient import Gradient, StraightThrough
from tokenry.quantize.parts.metric import Euclidean, Metric
from tokenry.quantize.parts.revival import Restart, Revival
from tokenry.quantize.parts.start import KMeans, Start
from tokenry.quantize.parts.update import Ema, Update
from tokenry.quantize.search.means import drawn, gathered, lloyd
from tokenry.quantize.search.nearest import nearest_code


@dataclass(eq=False, repr=False, kw_only=True)
class VQ(Quantizer):
    """Replace each vector by the nearest row of a learned table; the row's number is the token.

    What it does
        i = argmin |z - c_k|^2 and q = c_i. Six parts say how the table starts, what moves it, what becomes of codes
        that nobody uses, where vectors are compared, which code is chosen, and how the gradient passes the choice.
    Where it acts
        On vectors, usually between an encoder and a decoder.
    Shapes
        x (B, N, E) -> values (B, N, E), codes (B, N, 1).
    Guarantees
        Values are rows of the table, bit for bit, and `dequantize` gives the same ones. In evaluation, and in training
        with `choice=closest`, codes are those of a search through all distances. A table that holds all vectors gives
        them back exactly.
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
        claims=(
            "in the middle of an autoencoder of photographs at least 99 % of 512 codes live; at most 5 % do without "
            "restart or by the recipe of 2017 (benchmarks/quantize/images.py)",
            "there it is at least 0.5 dB better than without restart, 2 dB better than that recipe and 5 dB better "
            "than random codes (benchmarks/quantize/images.py)",
            "the nearest of 1,024 to 65,536 codes is found in at most 1.2 times the time of a plain product, with at "
            "most 64 MiB beside vectors and table (benchmarks/peers/against_quantizers.py)",
        ),
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
    metric: Metric = part(Euclidean(), doc="where vectors are compared: euclidean, cosine or direction")
    choice: Choice = part(Closest(), doc="which code a vector gets in training: closest or stochastic")
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
        if self.training and not len(rows):
            return Quantized(rows, torch.empty(0, 1, dtype=torch.long, device=rows.device))
        rows = self.metric.bring(rows)
        generator = self.draws() if self.training else None
        if not self.book.started:
            if generator is None:
                raise self._unbuilt("table")
            self.start.begin(self.book, rows.detach(), generator)
        table = self.table
        compared = self.metric.compared
        codes = self.choice.codes(compared(rows.detach()), compared(table.detach()), generator)
        values = table[codes]
        chosen = self.gradient.through(rows, values.detach())
        losses: Mapping[str, Tensor] = {}
        if generator is not None:
            losses = self.update.losses(rows, values)
            with torch.no_grad():
                self.update.step(self.book, rows.detach(), codes)
                self.revive.step(self.book, rows.detach(), generator)
        return Quantized(chosen, codes.unsqueeze(-1), losses)

    def look_up(self, codes: Int[Tensor, "T 1"]) -> Float[Tensor, "T E"]:
        if len(codes) and not self.book.started:
            raise self._unbuilt("table")
        return self.table[codes[:, 0]]

    def learn(self, rows: Float[Tensor, "T E"], passes: Passes, generator: torch.Generator) -> None:
        rows, compared = self.metric.bring(rows), self.metric.compared
        table = lloyd(rows, drawn(rows, self.codes, generator), passes("k-means"), compared)
        self.book.begin(table, gathered(rows, nearest_code(compared(rows), compared(table)), self.codes)[0])
