"""Projected: vectors are brought down to a few numbers before they are quantized, and up again after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import part, positive
from tokenry.quantize.base import Quantized, Quantizer
from tokenry.quantize.codebooks.maps import Map, directions
from tokenry.quantize.codebooks.passes import Passes
from tokenry.quantize.parts.metric import Cosine
from tokenry.quantize.vq import VQ


@dataclass(eq=False, repr=False, kw_only=True)
class Projected(Quantizer):
    """Quantize a linear image of few numbers, and map what is found back.

    What it does
        q = U of(D z + a) + b with learned linear maps D and U.
    Where it acts
        On vectors, around any quantizer.
    Shapes
        x (B, N, E) -> values (B, N, E), codes (B, N, R) of the quantizer within, which sees `channels` numbers.
    Guarantees
        After `fit` D U = I: what is on the grid stays. In evaluation values are those of the codes, bit for bit.
    Raises
        InvalidValue: more channels than numbers in a vector, vectors of another width or that are not finite, a mask
        of another shape, codes that there are not, a part that is none.
        Unbuilt: there are no maps yet.
    Deviations
        See the card.
    Relations
        Few numbers with `metric=cosine` of `vq` are factorised codes. `rvq` over `projected` has them at every level;
        audio codecs do so with `metric=direction`.
    """

    card = Card(
        title="Vector-quantized Image Modeling with Improved VQGAN (factorized codes)",
        year=2021,
        url="https://arxiv.org/abs/2110.04627",
        summary="vectors are brought down to a few numbers before they are quantized, and up again after",
        trial={"of": "vq[codes=16,metric=cosine]", "channels": 4},
        deviations=(
            "the maps have a constant each, as in later audio codecs, but no weight normalisation",
            "fit begins the maps with principal components, as wide as a grid within needs; the paper only trains",
        ),
        training=True,
    )

    of: Quantizer = part(VQ(codes=8192, metric=Cosine()), doc="the quantizer of the few numbers")
    channels: int = positive(8, doc="how many numbers")

    partial: ClassVar[bool] = True

    def make(self, *, width: int) -> None:
        super().make(width=width)
        if self.channels > width:
            raise InvalidValue(
                f"{self.name()}: channels must be at most the width of vectors, {width}; got {self.channels}."
            )
        self.down = Map(self.name(), width, self.channels)
        self.up = Map(self.name(), self.channels, width)
        self.of.build(width=self.channels)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.of.codebook_sizes

    def assign(self, rows: Float[Tensor, "T E"]) -> Quantized:
        found = self.of.quantize(self.down(rows))
        return Quantized(self.up(found.values), found.codes, found.losses)

    def look_up(self, codes: Int[Tensor, "T R"]) -> Float[Tensor, "T E"]:
        return self.up(self.of.dequantize(codes))

    def learn(self, rows: Float[Tensor, "T E"], passes: Passes, generator: torch.Generator) -> None:
        mean, found = directions(rows, self.channels)
        scale = self._scale((rows - mean) @ found.T)
        self.down.become(found / scale.unsqueeze(1), -found @ mean / scale)
        self.up.become(found.T * scale, mean)
        self.of.learn(self.down(rows), passes, generator)

    def _scale(self, numbers: Float[Tensor, "T D"]) -> Float[Tensor, "D"]:
        """What each number is divided by: nothing, or what makes it as wide as the grid within."""
        spread = self.of.spread
        wide = numbers.std(0, correction=0)
        return torch.ones_like(wide) if spread is None else (wide / spread).where(wide > 0, wide + 1)
