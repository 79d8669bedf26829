"""Codes: each patch becomes the nearest entry of a table over what a trained encoder sees in it."""

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
from tokenry.core.sequence import TokenSequence
from tokenry.models.signals.encoders import VisionEncoder, load_vision
from tokenry.quantize.base import Quantizer
from tokenry.quantize.vq import VQ
from tokenry.signal.patch_codes import PatchCodes
from tokenry.signal.picture_content import Drawn, check_table
from tokenry.signal.pictures.patch_grid import GREY, cut, paste, whole_patches

SWEEPS = 10
"""Of least squares, one codebook after the other; a single codebook needs one."""


@dataclass(eq=False, repr=False, kw_only=True)
class Codes(PatchCodes):
    """Give each patch as the codes of its features.

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
        The same picture has the same ids. Decoding needs no encoder. What was learnt is saved without the encoder.
    Raises
        InvalidValue: another patch size than the encoder's, ids that there are not, a table that is too large.
        Unbuilt: nothing was learnt yet.
        UnknownModel: the encoder cannot be found.
    Deviations
        See the card.
    Relations
        `vq`, the default, is plain k-means here; every method of the room quantize can take its place. Codes say what
        a patch shows, and decoding paints it as it looked in the pictures of `fit`: of quite other pictures the colours
        are wrong. Who wants the pixels quantizes these.
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
