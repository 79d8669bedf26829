"""Pixel codes: each patch becomes the nearest entries of tables over its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tokenry.core import fields
from tokenry.core.card import Card
from tokenry.core.sequence import TokenSequence
from tokenry.quantize.base import Quantizer
from tokenry.quantize.vq import VQ
from tokenry.signal.patch_codes import PatchCodes
from tokenry.signal.picture_content import Drawn, check_table
from tokenry.signal.pictures.patch_grid import GREY, cut, paste

MISSING = -1
"""The code of a patch that nothing is known of."""

MOST_PATCHES = 100_000
"""Patches that a quantizer learns from; of more, as many are drawn."""


@dataclass(eq=False, repr=False, kw_only=True)
class PixelCodes(PatchCodes):
    """Give each patch as the codes of its pixels.

    What it does
        A quantizer, learnt from patches of real pictures, names v = pixels / 255 - mean. A code is worth the same
        wherever its patch stands. An id is a code and the sizes of all codebooks before its own.
    Where it acts
        As `content` of `patches`, for pictures that look alike, such as digits or tiles of one game. A patch at an
        edge repeats the picture's last pixels.
    Shapes
        pixels (Y, X, 3) -> v (P, 3 size^2) -> ids (P R), the first codebook's first.
    Guarantees
        The same picture has the same ids. Decoding shows what the codes stand for, rounded to bytes. A patch that
        lacks a code is grey, but for codes that only refine, which may be missing.
    Raises
        InvalidValue: ids that there are not, boxes that are none of patches, a table that is too large.
        Unbuilt: nothing was learnt yet.
    Relations
        `codes` name what a trained encoder sees, `pixels` give every byte.
    """

    part = Card(
        title="Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        summary="each patch becomes codes of its pixels",
        trial={"quantizer": "rvq[of=vq[codes=8],levels=2]"},
        deviations=("pixels of a patch are quantized as they are, where the paper trains an encoder and a decoder",),
        claims=(
            "a linear classifier tells handwritten digits apart from four codes of 512 in more than 90 %, and from "
            "their pixels in less than 98 %",
        ),
        training=True,
    )

    quantizer: Quantizer = fields.part(VQ(codes=512), doc="what makes codes of pixels: a method of the room quantize")

    def make(self, *, size: int) -> None:
        self.size = size
        check_table(3 * size * size * self.vocab_size, self.name())
        self.quantizer.build(width=3 * size * size)
        self.register_buffer("mean", torch.zeros(3 * size * size))
        self.register_buffer("learnt", torch.tensor(False))

    def learn(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]], size: int, generator: torch.Generator) -> None:
        if not self.built:
            self.build(size=size, generator=generator)
        values = torch.cat([cut(pixels, size).flatten(1) for pixels in pictures])
        drawn = values[torch.randperm(len(values), generator=generator)[:MOST_PATCHES]].to(self.mean) / 255
        self.mean.copy_(drawn.mean(0))
        self.quantizer.fit(drawn - self.mean, seed=int(torch.randint(1 << 62, (), generator=generator)))
        self.learnt.fill_(True)

    @torch.no_grad()
    def encode(self, pixels: UInt8[Tensor, "Y X 3"], size: int) -> Drawn:
        values = cut(pixels, size).flatten(1).to(self.mean) / 255 - self.mean
        return self.drawn(self.ids(self.quantizer.quantize(values).codes), pixels, size)

    @torch.no_grad()
    def decode(self, tokens: TokenSequence, size: int) -> UInt8[Tensor, "Y X 3"]:
        places, book, found = self.placed(tokens, size)
        rows, columns = places.grid
        codes = torch.full((rows * columns, len(self.codebook_sizes)), MISSING)
        codes[places.patch, book] = found
        shown = self._pictures(codes, size)
        return paste(shown[places.patch], places)

    def _pictures(self, codes: Int[Tensor, "P R"], size: int) -> Float[Tensor, "P S S 3"]:
        """What codes stand for, grey where they say nothing."""
        there = codes != MISSING
        if self.quantizer.partial:
            # Without an earlier code the later ones say nothing.
            codes = codes.masked_fill(~there.cummin(1).values, MISSING)
            known = there[:, 0]
        else:
            known = there.all(1)
        shown = torch.full((len(codes), 3 * size * size), float(GREY))
        values = self.quantizer.dequantize(codes[known].to(self.mean.device)) + self.mean
        shown[known] = 255 * values.float().cpu()
        return shown.view(-1, size, size, 3)
