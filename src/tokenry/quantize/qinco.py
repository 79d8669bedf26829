"""QINCo: residual quantization whose codebooks are made anew from what was chosen before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from tokenry.core.card import Card
from tokenry.core.fields import between, part, positive
from tokenry.quantize.base import NONE, Quantized, Quantizer
from tokenry.quantize.codebooks.copies import check_count
from tokenry.quantize.codebooks.implicit_codebook import FirstCodebook, ImplicitCodebook
from tokenry.quantize.codebooks.passes import Passes
from tokenry.quantize.parts.gradient import Gradient, StraightThrough
from tokenry.quantize.parts.start import KMeans, Start
from tokenry.quantize.search.means import drawn, gathered, lloyd
from tokenry.quantize.search.nearest import nearest_code


@dataclass(eq=False, repr=False, kw_only=True)
class QINCo(Quantizer):
    """Quantize what is left over with a codebook that a small network makes from the sum of the levels before.

    What it does
        s_0 = 0; at level m, k_m = argmin_k |z - s_{m-1} - f_m(b_k, s_{m-1})|^2 and s_m = s_{m-1} + f_m(b_{k_m},
        s_{m-1}); q = s_M. f_1 is the table b itself. Tables and networks learn sum_m |z - s_m|^2 by gradient.
    Where it acts
        On vectors: of a data set, with `fit`, or between an encoder and a decoder.
    Shapes
        x (B, N, E) -> values (B, N, E), codes (B, N, R), R = levels.
    Guarantees
        Before the networks have learned it is `rvq` over plain tables. The first codes of a vector are a coarser
        vector: the others may be -1. Candidates of all vectors are never held at once.
    Raises
        InvalidValue: vectors of another width or that are not finite, a mask of another shape, codes that there are
        not, a part that is none.
        Unbuilt: there are no tables yet.
    Deviations
        See the card.
    Relations
        `rvq` has the same table behind every sum, and a beam; it is many times faster. `pq` over `qinco` quantizes
        blocks of numbers.
    """

    card = Card(
        title="Residual Quantization with Implicit Neural Codebooks",
        year=2024,
        url="https://arxiv.org/abs/2401.14732",
        summary="what is left over is quantized with codebooks that a small network makes from what was chosen before",
        trial={"codes": 16, "levels": 3, "hidden": 16, "depth": 1},
        claims=(
            "on speech that was not in the fit 8 codebooks of 256 with small networks are 0.4 dB better than `rvq` at "
            "as many bits, and worse than `rvq` with a beam of 8 (benchmarks/quantize/speech.py)",
        ),
        deviations=(
            "networks begin as nothing, as in the second version of the method, not with random weights",
            "fit divides vectors by their standard deviation, not by their largest number",
            "the rate falls as a cosine over the passes of fit, 25 unless told; the published program makes up to "
            "1,000 and lowers it where held-out vectors no longer gain",
            "inside a network vectors are also drawn to their sums, as `vq` does; losses are means over all numbers",
            "without a low rank for wide vectors, and without the search index around it",
        ),
        exempt={
            "what_is_on_the_grid_stays": "the first code of a sum need not be the first code that the sum was "
            "made from, since levels are chosen one after another"
        },
        training=True,
    )

    codes: int = positive(256, doc="vectors of each level")
    levels: int = positive(8, doc="how often")
    hidden: int = positive(256, doc="width of the networks' blocks")
    depth: int = between(0, 64, default=4, doc="blocks of each network")
    start: Start = part(KMeans(), doc="what tables hold first in a network: kmeans, sampled or uniform")
    gradient: Gradient = part(
        StraightThrough(), doc="how the gradient passes the sum: straight_through or rotation_trick"
    )
    commitment: float = between(0.0, 100.0, default=0.25, doc="weight of the distance from vectors to their sums")
    rate: float = between(0.0, 1.0, default=1e-3, doc="learning rate of fit, where it is highest")
    batch: int = positive(1024, doc="vectors of a step of fit")

    partial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.name(), self.levels)

    def make(self, *, width: int) -> None:
        super().make(width=width)
        self.register_buffer("scale", torch.ones(()))
        later = (
            ImplicitCodebook(self.name(), self.codes, width, self.hidden, self.depth) for _ in range(1, self.levels)
        )
        self.stack = nn.ModuleList([FirstCodebook(self.name(), self.codes, width), *later])

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.codes,) * self.levels

    def assign(self, rows: Float[Tensor, "T E"]) -> Quantized:
        if self.training and not len(rows):
            return Quantized(rows, torch.empty(0, self.levels, dtype=torch.long, device=rows.device))
        generator = self.draws() if self.training else None
        codes = self._search(rows.detach() / self.scale, generator)
        sums = [found * self.scale for found in self._sums(codes)]
        losses = {}
        if generator is not None:
            losses = {
                "codebook": _total(mse_loss(found, rows.detach()) for found in sums),
                "commitment": self.commitment * _total(mse_loss(rows, found.detach()) for found in sums),
            }
        return Quantized(self.gradient.through(rows, sums[-1].detach()), codes, losses)

    def look_up(self, codes: Int[Tensor, "T R"]) -> Float[Tensor, "T E"]:
        if len(codes) and not all(level.book.started for level in self._each()):
            raise self._unbuilt("table")
        return list(self._sums(codes))[-1] * self.scale

    def learn(self, rows: Float[Tensor, "T E"], passes: Passes, generator: torch.Generator) -> None:
        # Parameters of 16 bits would not move, or too far.
        kind = next(self.parameters()).dtype
        self.float()
        wide = rows.std(correction=0)
        self.scale.copy_(wide.where(wide > 0, wide + 1))
        rows = rows / self.scale
        left = rows
        for level in self._each():
            table = lloyd(left, drawn(left, self.codes, generator), passes("k-means"))
            codes = nearest_code(left, table)
            level.begin(table, gathered(left, codes, self.codes)[0], generator)
            left = left - table[codes]
        self._descend(rows, passes, generator)
        self.to(kind)

    @torch.enable_grad()
    def _descend(self, rows: Float[Tensor, "T E"], passes: Passes, generator: torch.Generator) -> None:
        """Move tables and networks along the gradient."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.rate)
        steps = passes.count * -(-len(rows) // self.batch)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for some in passes.shown("networks", self._batches(rows, passes.count, generator), steps):
            loss = _total(mse_loss(found, some) for found in self._sums(self._search(some)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            falling.step()

    def _batches(
        self, rows: Float[Tensor, "T E"], passes: int, generator: torch.Generator
    ) -> Iterator[Float[Tensor, "_ E"]]:
        for _ in range(passes):
            order = torch.randperm(len(rows), generator=generator).to(rows.device)
            yield from rows[order].split(self.batch)

    @torch.no_grad()
    def _search(self, rows: Float[Tensor, "T E"], generator: torch.Generator | None = None) -> Int[Tensor, "T R"]:
        """Codes level by level; with a generator, tables that hold nothing begin with what is left over."""
        sums, codes = torch.zeros_like(rows), []
        for level in self._each():
            left = rows - sums
            if not level.book.started:
                if generator is None:
                    raise self._unbuilt("table")
                self.start.begin(level.book, left, generator)
            codes.append(level.nearest(left, sums))
            sums = sums + level.vectors(codes[-1], sums)
        return torch.stack(codes, 1)

    def _sums(self, codes: Int[Tensor, "T R"]) -> Iterator[Float[Tensor, "T E"]]:
        """The sum behind each level."""
        found = torch.zeros(len(codes), self.width, device=codes.device)
        for level, code in zip(self._each(), codes.unbind(1), strict=True):
            found = found + level.vectors(code.clamp_min(0), found) * (code != NONE).unsqueeze(1)
            yield found

    def _each(self) -> Iterator[FirstCodebook]:
        for level in self.stack:
            assert isinstance(level, FirstCodebook)
            yield level


def _total(losses: Iterable[Float[Tensor, ""]]) -> Float[Tensor, ""]:
    return torch.stack(list(losses)).sum()
