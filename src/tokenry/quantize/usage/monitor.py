"""How well codebooks are used, and what quantizing costs, counted over a whole corpus."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.models.attention.rest import evaluating
from tokenry.quantize.base import NONE, RowQuantizer
from tokenry.quantize.usage.distortion import Distortion
from tokenry.quantize.usage.tally import Tally

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = "tokenry.codebooks/0"


class CodebookMonitor:
    """Count codes, batch by batch, without changing the quantizer.

    Usage and perplexity are of all codes together: those of single batches are lower, and say nothing about the
    codebook. Both grow with the number of tokens, so look at that too.

        monitor = CodebookMonitor(quantizer)
        for x, mask in batches:
            monitor.add(x, mask)
        monitor.report()["codebooks"][0]["perplexity"]

    At most two numbers are held for each code that came, and one for each axis of the vectors.

    Args:
        quantizer: whose codes they are.
    """

    def __init__(self, quantizer: RowQuantizer) -> None:
        self.quantizer = quantizer
        self.tallies = [Tally(size) for size in quantizer.codebook_sizes]
        self.distortion = Distortion()
        self.vectors = 0
        self._stayed, self._asked = (torch.zeros(len(self.tallies), dtype=torch.long) for _ in range(2))

    @torch.no_grad()
    def add(
        self,
        x: Float[Tensor, "*B E"],
        mask: Bool[Tensor, "*B"] | None = None,
        again: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Quantize vectors in evaluation mode; count their codes, their distance, and the codes that stay.

        Args:
            mask: True for real vectors; nothing else is counted.
            again: what becomes of the values before they are quantized a second time, such as decoding and encoding
                them; without it they are quantized as they are.

        Raises:
            InvalidValue: what the quantizer refuses, or `again` gives vectors of another shape.
            Unbuilt: a quantizer that has learned nothing yet.
        """
        with evaluating(self.quantizer):
            first = self.quantizer.quantize(x, mask)
            back = first.values if again is None else again(first.values)
            if back.shape != x.shape:
                raise InvalidValue(
                    f"CodebookMonitor: again must give vectors of shape {tuple(x.shape)}; got {tuple(back.shape)}."
                )
            second = self.quantizer.quantize(back, mask)
        real = torch.ones_like(first.codes[..., 0], dtype=torch.bool) if mask is None else mask.bool()
        self.add_codes(first.codes)
        self.distortion.add(x[real], first.values[real])
        here, there = self.quantizer.sent(first.codes)[real], second.codes[real]
        self._asked += (here != NONE).sum(0).cpu()
        self._stayed += ((here == there) & (here != NONE)).sum(0).cpu()

    def add_codes(self, codes: Int[Tensor, "*B R"]) -> None:
        """Count codes that are there already; -1 is padding, or a codebook without a part in a vector. A code that
        several vectors have together counts once.

        Raises:
            InvalidValue: another number of codebooks, or a code that there is not.
        """
        self.quantizer.check_codes(codes)
        rows = codes.reshape(-1, len(self.tallies))
        self.vectors += int((rows != NONE).any(-1).sum())
        for tally, column in zip(self.tallies, self.quantizer.sent(codes).reshape(rows.shape).unbind(-1), strict=True):
            tally.add(column[column != NONE])

    def merge(self, other: CodebookMonitor) -> None:
        """Take in what another monitor has counted, in another process for instance.

        Raises:
            InvalidValue: its quantizer has other codebooks.
        """
        mine, theirs = ([tally.size for tally in monitor.tallies] for monitor in (self, other))
        if mine != theirs:
            raise InvalidValue(f"CodebookMonitor: other must have codebooks of {mine} codes; got {theirs}.")
        for tally, more in zip(self.tallies, other.tallies, strict=True):
            tally.merge(more)
        self.distortion.merge(other.distortion)
        self.vectors += other.vectors
        self._stayed += other._stayed
        self._asked += other._asked

    @property
    def entropy_coded_bits(self) -> float:
        """Bits of one vector's codes where each codebook is coded by how often its codes came."""
        each = (tally.tokens * tally.entropy for tally in self.tallies if tally.tokens)
        return sum(each) / self.vectors if self.vectors else math.nan

    def dead(self, codebook: int = 0) -> Int[Tensor, "M"]:
        """Codes that never came.

        Raises:
            InvalidValue: a codebook too large to be listed.
        """
        return (self.tallies[codebook].dense() == 0).nonzero()[:, 0]

    def report(self) -> dict[str, Any]:
        """All numbers as plain values for JSON; None where nothing was counted that tells them.

        `mse`, `variance`, `sqnr_db` and `idempotence` are of vectors given to `add`. `sqnr_db` is 10 log10 of the
        variance of these vectors around their mean, over their mean squared error. `idempotence` is the share of codes
        that came again in the second round.
        """
        asked = int(self._asked.sum())
        return {
            "schema": SCHEMA,
            "quantizer": self.quantizer.to_dict(),
            "vectors": self.vectors,
            "tokens_per_vector": sum(t.tokens for t in self.tallies) / self.vectors if self.vectors else None,
            "bits_per_vector": self.quantizer.bits,
            "entropy_coded_bits_per_vector": _plain(self.entropy_coded_bits),
            "measured_vectors": self.distortion.vectors,
            "mse": _plain(self.distortion.mse),
            "variance": _plain(self.distortion.variance),
            "sqnr_db": _plain(self.distortion.sqnr),
            "idempotence": int(self._stayed.sum()) / asked if asked else None,
            "codebooks": [self._codebook(i) for i in range(len(self.tallies))],
        }

    def table(self) -> Table:
        """One row for each codebook, for the terminal; what is of all of them stands below."""
        from rich.table import Table

        found = self.report()
        heads = ("codebook", "tokens", "codes", "dead", "usage", "perplexity", "entropy, bits", "stays")
        whole = [
            f"{found['vectors']:,} vectors, {found['bits_per_vector']:.2f} bits each",
            _said(found["entropy_coded_bits_per_vector"], "{:.2f} when entropy-coded"),
            _said(found["mse"], "MSE {:.4g}"),
            _said(found["sqnr_db"], "SQNR {:.2f} dB"),
        ]
        table = Table(caption="; ".join(part for part in whole if part), caption_justify="left")
        for head in heads:
            table.add_column(head, justify="right")
        for i, c in enumerate(found["codebooks"]):
            table.add_row(
                str(i), f"{c['tokens']:,}", f"{c['size']:,}", f"{c['dead']:,}", f"{c['usage']:.3f}",
                _said(c["perplexity"], "{:.1f}"), _said(c["entropy_bits"], "{:.2f}"),
                _said(c["idempotence"], "{:.1%}"),
            )  # fmt: skip
        return table

    def plot(self, file: str | Path) -> None:
        """Draw the share of every code, the most frequent first, to a .png or .svg file.

        Raises:
            InvalidValue: another ending.
        """
        from tokenry.quantize.usage.picture import draw

        draw(self.tallies, Path(file))

    def _codebook(self, i: int) -> dict[str, Any]:
        tally, asked = self.tallies[i], int(self._asked[i])
        return {
            "size": tally.size,
            "tokens": tally.tokens,
            "used": tally.used,
            "dead": tally.size - tally.used,
            "usage": tally.used / tally.size,
            "perplexity": _plain(tally.perplexity),
            "entropy_bits": _plain(tally.entropy),
            "idempotence": int(self._stayed[i]) / asked if asked else None,
        }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _said(value: float | None, words: str) -> str:
    return "" if value is None else words.format(value)
