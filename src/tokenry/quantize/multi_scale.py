"""MultiScale: what is left over is quantized again, first for many neighbours together and then for fewer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import counts, part, setting
from tokenry.quantize.base import NONE, Quantized, Quantizer, RowQuantizer
from tokenry.quantize.codebooks.copies import check_count, copies, learn_levels, reaching
from tokenry.quantize.codebooks.passes import Passes
from tokenry.quantize.parts.gradient import Gradient, StraightThrough
from tokenry.quantize.parts.windows import Runs, Windows, cut, first_of, means
from tokenry.quantize.vq import VQ


@dataclass(eq=False, repr=False, kw_only=True)
class MultiScale(RowQuantizer):
    """Quantize the mean of many neighbours, then what is left over for fewer and fewer of them.

    What it does
        r_0 = z; level m cuts a row into windows w of s_m vectors, quantizes the mean of r_{m-1} over each to v_m(w),
        and r_m(n) = r_{m-1}(n) - v_m(w(n)); q(n) = sum_m v_m(w(n)).
    Where it acts
        On rows of vectors in their order, usually between an encoder and a decoder.
    Shapes
        x (B, N, E) -> values (B, N, E), codes (B, N, R), R = levels times the codebooks of `of`. The code of a window
        is repeated at each of its vectors. `sent` has it once and -1 elsewhere, and `received` repeats it again.
    Guarantees
        With strides of 1 alone it is `rvq`, bit for bit. A vector has `tokens` = sum 1 / s_m codes of its own, not R,
        and `bits` = sum log2(C) / s_m: frames a second times these are the rates. The first codes of a vector are a
        coarser vector: the others may be -1. Windows are of real vectors, counted from the first one of a row. In
        evaluation values are those of the codes, bit for bit.
    Raises
        InvalidValue: strides that grow or do not end with 1, vectors of another width or that are not finite, a mask
        of another shape, codes that there are not, a part that is none.
        Unbuilt: there are no tables yet.
    Deviations
        See the card.
    Relations
        `rvq` has a code of every level for each vector, and a beam. Other quantizers cannot hold this one, since they
        take vectors one by one; it can hold them: over `projected[of=vq[codes=4096,metric=direction,update=by_loss]]`
        it is that of SNAC.
    """

    card = Card(
        title="SNAC: Multi-Scale Neural Audio Codec",
        year=2024,
        url="https://arxiv.org/abs/2410.14411",
        summary="what is left over is quantized again, first for many neighbours together and then for fewer",
        trial={"of": "vq[codes=16]", "strides": (2, 1)},
        claims=(
            "on speech that was not in the fit strides of 4, 2 and 1 are at least 0.2 dB better than rvq at as many "
            "bits, and lose more than 3 dB where frames stand in any order (benchmarks/quantize/speech.py)",
            "the rates of the published codec follow from its sizes: 82 tokens and 0.98 kbit a second",
        ),
        deviations=(
            "the last window of a row is the mean of the vectors that there are; the paper fills the row up",
            "levels have no maps around them unless they are `projected`, whose weights are not split into length and "
            "direction",
            "losses of vectors reach them through residuals from which earlier levels are subtracted as constants, and "
            "the gradient passes once over the sum, not at every level",
        ),
        exempt={
            "what_is_on_the_grid_stays": "the mean of values need not have the codes that it was made from, since "
            "levels are chosen one after another",
            "vectors_are_quantized_one_by_one": "neighbours have codes together",
        },
        training=True,
    )

    of: Quantizer = part(VQ(codes=4096), doc="the quantizer of every level")
    strides: tuple[int, ...] = counts(
        1, 1 << 16, default=(4, 2, 1), doc="how wide windows are at each level; none is wider than the one before"
    )
    windows: Windows = part(Runs(), doc="which vectors have a code together: runs or blocks")
    shared: bool = setting(False, doc="whether all levels are one quantizer")
    gradient: Gradient = part(
        StraightThrough(), doc="how the gradient passes the sum: straight_through or rotation_trick"
    )

    partial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.name(), len(self.strides) * len(self.of.codebook_sizes))
        if self.strides[-1] != 1 or any(after > before for before, after in pairwise(self.strides)):
            raise InvalidValue(
                f"{self.name()}: strides must not grow, and end with 1; got {self.strides}; order them and add 1."
            )

    def make(self, *, width: int) -> None:
        super().make(width=width)
        self.stack = copies(self.of, len(self.strides), width, shared=self.shared)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.of.codebook_sizes * len(self.strides)

    @property
    def repeats(self) -> tuple[int, ...]:
        return tuple(self.windows.size(stride) for stride in self.strides for _ in self.of.codebook_sizes)

    def assign_rows(self, vectors: Float[Tensor, "T E"], real: Bool[Tensor, "*B"]) -> Quantized:
        left, values, codes = vectors, torch.zeros_like(vectors), []
        losses: dict[str, Tensor] = {}
        for level, window in zip(self._levels(), self._windows(real), strict=True):
            given = means(left, window)
            seen = given.detach().requires_grad_(vectors.requires_grad)
            found = level.quantize(seen)
            values = values + found.values[window]
            left = left - found.values.detach()[window]
            codes.append(found.codes[window])
            for name, loss in found.losses.items():
                losses[name] = losses.get(name, 0) + reaching(given, loss, seen)
        return Quantized(self.gradient.through(vectors, values), torch.cat(codes, 1), losses)

    def look_up(self, codes: Int[Tensor, "T R"]) -> Float[Tensor, "T E"]:
        values = torch.zeros(len(codes), self.width, device=codes.device)
        for level, some in zip(self._levels(), self._cut(codes), strict=True):
            values = values + level.dequantize(some)
        return values

    def learn(self, rows: Float[Tensor, "T E"], passes: Passes, generator: torch.Generator) -> None:
        learn_levels(lambda: self._descend(rows), rows, passes, generator, shared=self.shared)

    def sent(self, codes: Int[Tensor, "*B R"]) -> Int[Tensor, "*B R"]:
        self.check_codes(codes)
        found, real = torch.full_like(codes, NONE), (codes != NONE).any(-1)
        kept = found[real]
        for mine, some, window in zip(self._cut(kept), self._cut(codes[real]), self._windows(real), strict=True):
            first = first_of(window)
            mine[first] = some[first]
        found[real] = kept
        return found

    def received(self, codes: Int[Tensor, "*B R"], mask: Bool[Tensor, "*B"] | None = None) -> Int[Tensor, "*B R"]:
        """Codes as they are quantized, of those that were `sent`: each stands at every vector of its window again.

        Args:
            mask: True for real vectors; without one those with a code of the last level, which has one for each.

        Raises:
            InvalidValue: another number of codebooks, a code that there is not, or a mask of another shape.
        """
        self.check_codes(codes)
        real = codes[..., -1] != NONE if mask is None else mask.bool()
        if real.shape != codes.shape[:-1]:
            raise InvalidValue(
                f"{self.name()}: mask must be of shape {tuple(codes.shape[:-1])}; got {tuple(real.shape)}; give one "
                "value for each vector."
            )
        found = torch.full_like(codes, NONE)
        found[real] = torch.cat([
            some[first_of(window)][window]
            for some, window in zip(self._cut(codes[real]), self._windows(real), strict=True)
        ], 1)  # fmt: skip
        return found

    def _descend(self, rows: Float[Tensor, "T E"]) -> Iterator[tuple[Quantizer, Float[Tensor, "M E"]]]:
        """Each level with what it sees of one row; it may learn before the next one comes."""
        left, real = rows, torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        for level, window in zip(self._levels(), self._windows(real), strict=True):
            seen = means(left, window)
            yield level, seen
            left = left - level.eval().quantize(seen).values[window]

    def _levels(self) -> Iterator[Quantizer]:
        for m in range(len(self.strides)):
            level = self.stack[m % len(self.stack)]
            assert isinstance(level, Quantizer)
            yield level

    def _windows(self, real: Bool[Tensor, "*B"]) -> Iterator[Int[Tensor, "T"]]:
        """The window of each real vector, level by level."""
        return (cut(real, self.windows, stride) for stride in self.strides)

    def _cut(self, codes: Int[Tensor, "T R"]) -> tuple[Int[Tensor, "T _"], ...]:
        """The codes of each level."""
        return codes.chunk(len(self.strides), 1)
