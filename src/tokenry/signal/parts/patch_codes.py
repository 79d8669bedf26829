"""Contents of pictures that are codes: entries of tables over what an encoder sees, or over the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tokenry.core import fields
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import setting
from tokenry.core.learned import LearnedPart
from tokenry.core.sequence import TokenSequence
from tokenry.models.signals.encoders import VisionEncoder, load_vision
from tokenry.quantize.base import Quantizer
from tokenry.quantize.vq import VQ
from tokenry.signal.parts.picture_content import Drawn, PictureContent, check_ids, check_table
from tokenry.signal.pictures.patch_grid import (
    GREY,
    Places,
    check_once,
    cut,
    paste,
    patch_boxes,
    places_of,
    whole_patches,
)

MISSING = -1
"""The code of a patch that nothing is known of."""
SWEEPS = 10
"""Of least squares, one codebook after the other; a single codebook needs one."""
MOST_PATCHES = 100_000
"""Patches that a quantizer learns from; of more, as many are drawn."""


@dataclass(eq=False, repr=False, kw_only=True)
class PatchCodes(LearnedPart, PictureContent):
    """A content whose quantizer, learnt from pictures, gives each patch R codes; every codebook has ids of its own."""

    quantizer: Quantizer

    @property
    def vocab_size(self) -> int:
        return sum(self.quantizer.codebook_sizes)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.quantizer.codebook_sizes

    @property
    def ready(self) -> bool:
        return self.built and bool(self.get_buffer("learnt"))

    def boxes(self, height: int, width: int, size: int) -> Int[Tensor, "N 6"]:
        return patch_boxes(height, width, size).repeat_interleave(len(self.codebook_sizes), 0)

    def ids(self, codes: Int[Tensor, "P R"]) -> Int[Tensor, "P R"]:
        """Ids of codes; -1 where a codebook had no part."""
        return torch.where(codes >= 0, codes + self._first().to(codes.device), -1)

    def drawn(self, ids: Int[Tensor, "P R"], pixels: UInt8[Tensor, "Y X 3"], size: int) -> Drawn:
        """The tokens of a picture whose patches have these ids."""
        found = ids.cpu().flatten()
        return Drawn(found[found >= 0], self.boxes(pixels.shape[0], pixels.shape[1], size)[found >= 0])

    def placed(self, tokens: TokenSequence, size: int) -> tuple[Places, Int[Tensor, "N"], Int[Tensor, "N"]]:
        """Where tokens stand, of which codebook each is, and its code there.

        Raises:
            InvalidValue: ids that there are not, boxes that are none of patches, or a place that is said twice.
        """
        places = places_of(tokens, size, self.name())
        ids, first = tokens.ids.cpu(), self._first()
        check_ids(ids, self.vocab_size, self.name())
        book = torch.bucketize(ids, first[1:], right=True)
        check_once(places.patch * len(first) + book, self.name())
        return places, book, ids - first[book]

    def _first(self) -> Int[Tensor, "R"]:
        """The first id of each codebook."""
        sizes = torch.tensor(self.codebook_sizes)
        return sizes.cumsum(0) - sizes


@dataclass(eq=False, repr=False, kw_only=True)
class Codes(PatchCodes):
    """Give each patch as the codes of what a trained encoder sees in it.

    What it does
        A quantizer, learnt from features of real pictures, names the feature of every patch. For decoding every code
        keeps the mean pixels of the patches that had it; of several codebooks the pictures add up, fitted by least
        squares.
    Where it acts
        As `content` of `patches`, whose `size` is then the encoder's. A patch at an edge repeats the picture's last
        pixels. The encoder sees the whole picture at once; large ones are cut into `tiles` first.
    Shapes
        pixels (Y, X, 3) -> features (P, E) -> ids (P R), the first codebook's first.
    Guarantees
        Decoding needs no encoder, and what was learnt is saved without it.
    Relations
        `vq`, the default, is plain k-means here; every method of the room quantize can take its place. Codes say what
        a patch shows, and decoding paints it as it looked in the pictures of `fit`: of quite other pictures the colours
        are wrong. Who wants the pixels quantizes these, by `pixel_codes`.
    """

    part = Card(
        title="DINOv2: Learning Robust Visual Features without Supervision",
        year=2023,
        url="https://arxiv.org/abs/2304.07193",
        summary="each patch becomes codes of what a trained encoder sees in it",
        deviations=(
            "the paper has no codes: tables are ours, learnt from whatever pictures `fit` is given",
            "decoding shows mean pixels, no picture that a network made; of photographs that were no part of the fit "
            "they are not nearer than those of random codes",
        ),
        claims=(
            "learnt from the left halves of photographs, 64 codes show the right halves at least 2 dB nearer than "
            "random codes",
            "when these are darkened to 60 %, at least 30 points more of the codes stay than of codes of the pixels",
        ),
        training=True,
    )

    quantizer: Quantizer = fields.part(VQ(codes=512), doc="what makes codes of features: a method of the room quantize")
    encoder: str = setting("dinov2", doc="what sees: an alias, a folder or a hub id of a vision transformer")

    def make(self, *, size: int) -> None:
        self.size = size
        check_table(3 * size * size * self.vocab_size, self.name())
        self.register_buffer("shows", torch.zeros(self.vocab_size, size, size, 3))
        self.register_buffer("learnt", torch.tensor(False))

    def learn(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]], size: int, generator: torch.Generator) -> None:
        features = torch.cat([self._features(pixels, size) for pixels in pictures])
        self.quantizer.fit(features, seed=int(torch.randint(1 << 62, (), generator=generator)))
        if not self.built:
            self.build(size=size, generator=generator)
        patches = torch.cat([cut(pixels, size) for pixels in pictures])
        self.shows.copy_(_mean_pictures(patches, self._ids(features), self.vocab_size))
        self.learnt.fill_(True)

    def encode(self, pixels: UInt8[Tensor, "Y X 3"], size: int) -> Drawn:
        return self.drawn(self._ids(self._features(pixels, size)), pixels, size)

    def decode(self, tokens: TokenSequence, size: int) -> UInt8[Tensor, "Y X 3"]:
        places, _, _ = self.placed(tokens, size)
        rows, columns = places.grid
        picture = torch.full((rows * columns, size, size, 3), float(GREY))
        picture.index_add_(0, places.patch, self.shows.float().cpu()[tokens.ids.cpu()])
        return paste(picture[places.patch], places)

    def _features(self, pixels: UInt8[Tensor, "Y X 3"], size: int) -> Float[Tensor, "P E"]:
        features, _ = self._eyes(size).features(whole_patches(pixels, size).unsqueeze(0))
        return features[0].float().to(self.shows.device if self.built else "cpu")

    def _eyes(self, size: int) -> VisionEncoder:
        eyes = load_vision(self.encoder)
        if eyes.patch != size:
            raise InvalidValue(
                f"patches: size must be {eyes.patch}, as the encoder {self.encoder} has it; got {size}; "
                f"set size={eyes.patch}."
            )
        return eyes

    def _ids(self, features: Float[Tensor, "P E"]) -> Int[Tensor, "P R"]:
        return self.ids(self.quantizer.quantize(features).codes)


@dataclass(eq=False, repr=False, kw_only=True)
class PixelCodes(PatchCodes):
    """Give each patch as the codes of its pixels.

    What it does
        A quantizer, learnt from patches of real pictures, names v = pixels / 255 - mean. A code is worth the same
        wherever its patch stands.
    Where it acts
        As `content` of `patches`, for pictures that look alike, such as digits or tiles of one game. A patch at an
        edge repeats the picture's last pixels.
    Shapes
        pixels (Y, X, 3) -> v (P, 3 size^2) -> ids (P R), the first codebook's first.
    Guarantees
        Decoding shows what the codes stand for, rounded to bytes. A patch that lacks a code is grey, but for codes that
        only refine, which may be missing.
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


def _mean_pictures(patches: UInt8[Tensor, "P S S 3"], ids: Int[Tensor, "P R"], size: int) -> Float[Tensor, "C S S 3"]:
    """What every code adds to grey, by least squares over the patches; nothing for a code that none has."""
    left = patches.to(ids.device).float() - GREY
    shows = left.new_zeros(size, *left.shape[1:])
    for _ in range(SWEEPS if ids.shape[1] > 1 else 1):
        for codes in ids.T:
            there = codes >= 0
            counts = torch.bincount(codes[there], minlength=size).clamp_min(1).view(-1, 1, 1, 1)
            more = torch.zeros_like(shows).index_add_(0, codes[there], left[there]) / counts
            shows += more
            left[there] -= more[codes[there]]
    return shows
