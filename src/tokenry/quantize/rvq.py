"""RVQ: what one quantizer leaves over is quantized again, level after level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, part, positive, setting
from tokenry.quantize.base import NONE, Quantized, Quantizer
from tokenry.quantize.codebooks.codebook import MOST
from tokenry.quantize.codebooks.copies import check_count, copies, learn_levels, reaching
from tokenry.quantize.codebooks.passes import Passes
from tokenry.quantize.parts.gradient import Gradient, StraightThrough
from tokenry.quantize.parts.scaling import Scaling, Unscaled
from tokenry.quantize.search.beam import alone, beam_search, follow
from tokenry.quantize.vq import VQ


@dataclass(eq=False, repr=False, kw_only=True)
class RVQ(Quantizer):
    """Quantize what is left over again, level after level; a vector is the sum of its levels.

    What it does
        r_0 = z; at level m the quantizer gives v_m for r_{m-1}, and r_m = r_{m-1} - v_m; q = sum_m v_m. With a `beam`
        of W the W best partial sums are followed from level to level, by |z - sum|^2 itself.
    Where it acts
        On vectors, usually between an encoder and a decoder.
    Shapes
        x (B, N, E) -> values (B, N, E), codes (B, N, R), R = levels times the codebooks of `of`.
    Guarantees
        The first codes of a vector are a coarser vector: the others may be -1. One level is `of` itself. The gradient
        passes once over the sum; what a level chose sends none to the vectors, only to the level's own maps. In
        evaluation values are those of the codes, bit for bit.
    Raises
        InvalidValue: vectors of another width or that are not finite, a mask of another shape, codes that there are
        not, a part that is none, a beam over a quantizer with several codebooks, a scaling that does not fit.
        Unbuilt: there are no tables yet.
    Deviations
        See the card.
    Relations
        `pq` over `rvq` is grouped residual quantization; `rvq` over `projected` has codes of few numbers at every
        level. `vq` is one level.
    """

    card = Card(
        title="SoundStream: An End-to-End Neural Audio Codec",
        year=2021,
        url="https://arxiv.org/abs/2107.03312",
        summary="what one quantizer leaves over is quantized again, level after level",
        trial={"of": "vq[codes=16]", "levels": 3},
        claims=(
            "in the middle of an autoencoder of photographs four levels are at least 0.5 dB better than one, and at "
            "most 0.53 dB worse than no quantizer (benchmarks/quantize/images.py)",
            "on speech that was not in the fit 8 codebooks of 256 are better than product codes of as many bits, and "
            "a beam of 8 is worth another decibel (benchmarks/quantize/speech.py)",
        ),
        deviations=(
            "dropout draws the number of levels once for a batch, not for each example; the first batch has all",
            "a table that all levels share takes one step of learning for every level",
            "the beam is used in evaluation, and in fit, where a table learns from what all partial sums leave over; "
            "training is greedy",
            "losses of vectors reach them through residuals from which earlier levels are subtracted as constants",
        ),
        exempt={
            "what_is_on_the_grid_stays": "the first code of a sum need not be the first code that the sum was "
            "made from, since levels are chosen one after another"
        },
        training=True,
    )

    of: Quantizer = part(VQ(codes=1024), doc="the quantizer of every level")
    levels: int = positive(8, doc="how often")
    shared: bool = setting(False, doc="whether all levels are one quantizer")
    scaling: Scaling = part(Unscaled(), doc="what levels divide by: unscaled or grid_steps")
    gradient: Gradient = part(
        StraightThrough(), doc="how the gradient passes the sum: straight_through or rotation_trick"
    )
    dropout: float = between(0.0, 1.0, default=0.0, doc="share of batches of training that use fewer levels")
    beam: int = positive(1, doc="partial sums that are followed when codes are searched; 1 is greedy")

    partial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.name(), self.levels * len(self.of.codebook_sizes))
        if self.beam > 1 and len(self.of.codebook_sizes) > 1:
            raise InvalidValue(
                f"{self.name()}: beam must be 1 over {self.of.name()}, which has {len(self.of.codebook_sizes)} "
                f"codebooks; got {self.beam}; search inside it."
            )

    def make(self, *, width: int) -> None:
        super().make(width=width)
        if self.beam > 1 and self.of.codebook_sizes[0] * width > MOST:
            raise InvalidValue(f"{self.name()}: a beam must have a table of at most {MOST} numbers; set beam=1.")
        self.scaling.check(self.of, width)
        self.stack = copies(self.of, self.levels, width, shared=self.shared)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.of.codebook_sizes * self.levels

    @property
    def spread(self) -> float | None:
        level = self.stack[0]
        assert isinstance(level, Quantizer)
        return level.spread

    def assign(self, rows: Float[Tensor, "T E"]) -> Quantized:
        if self.beam > 1 and not self.training:
            codes = beam_search(rows, [_table(*level) for level in self._each()], self.beam)
            return Quantized(self.gradient.through(rows, self.look_up(codes)), codes)
        left, values = rows, torch.zeros_like(rows)
        codes = torch.full((len(rows), len(self.codebook_sizes)), NONE, device=rows.device)
        losses: dict[str, Tensor] = {}
        for (level, factor), place in zip(self._each(self._depth()), codes.chunk(self.levels, 1), strict=False):
            given = left / factor
            seen = given.detach().requires_grad_(rows.requires_grad)
            found = level.quantize(seen)
            place.copy_(found.codes)
            values = values + found.values * factor
            left = left - found.values.detach() * factor
            for name, loss in found.losses.items():
                losses[name] = losses.get(name, 0) + reaching(given, loss, seen)
        return Quantized(self.gradient.through(rows, values), codes, losses)

    def look_up(self, codes: Int[Tensor, "T R"]) -> Float[Tensor, "T E"]:
        values = torch.zeros(len(codes), self.width, device=codes.device)
        for (level, factor), some in zip(self._each(), codes.chunk(self.levels, 1), strict=True):
            values = values + level.dequantize(some) * factor
        return values

    def learn(self, rows: Float[Tensor, "T E"], passes: Passes, generator: torch.Generator) -> None:
        learn_levels(lambda: self._descend(rows), rows, passes, generator, shared=self.shared)

    def _descend(self, rows: Float[Tensor, "T E"]) -> Iterator[tuple[Quantizer, Float[Tensor, "..."]]]:
        """Each level with what it sees, which is what all beams leave over; it may learn before the next one comes."""
        left, codes = alone(rows)
        for level, factor in self._each():
            seen = left / factor
            yield level, seen.flatten(0, 1)
            if self.beam > 1:
                left, codes = follow(left, codes, _table(level, factor), self.beam)
            else:
                left = left - level.eval().quantize(seen).values * factor

    def _each(self, count: int | None = None) -> Iterator[tuple[Quantizer, float | Tensor]]:
        """The first levels, or all, and what they divide by."""
        for m in range(self.levels if count is None else count):
            level = self.stack[m % len(self.stack)]
            assert isinstance(level, Quantizer)
            yield level, self.scaling.factor(level, m)

    def _depth(self) -> int:
        """How many levels this batch uses."""
        if not self.training or not self.dropout or not int(self.steps):
            return self.levels
        generator = self.draws()
        fewer = float(torch.rand((), generator=generator)) < self.dropout
        return int(torch.randint(1, self.levels + 1, (), generator=generator)) if fewer else self.levels


def _table(level: Quantizer, factor: float | Tensor) -> Float[Tensor, "C E"]:
    """What each code of a level stands for."""
    codes = torch.arange(level.codebook_sizes[0], device=level.steps.device)
    return level.dequantize(codes.unsqueeze(1)) * factor
