"""Pixels: one byte for each colour of each pixel, so that nothing is lost."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.sequence import TokenSequence
from tokenry.signal.picture_content import Drawn, PictureContent, check_ids
from tokenry.signal.pictures.patch_grid import GREY, patch_grid, places_of

COLOURS = 3


@dataclass(frozen=True, kw_only=True)
class Pixels(PictureContent):
    """Give every byte of a picture as a token.

    What it does
        The id is the value, 0 to 255. Patches follow each other row by row; within a patch so do its pixels; a pixel is
        red, green, blue.
    Where it acts
        As `content` of `patches`. A patch at an edge has only the pixels that the picture has.
    Shapes
        pixels (Y, X, 3) -> ids (3 Y X), boxes of one pixel each.
    Guarantees
        Decoding gives the picture back, byte for byte, in whatever order the pixels come; the three tokens of a pixel
        keep theirs. A pixel that lacks one of its three is grey.
    Raises
        InvalidValue: ids from 256, more than three tokens for a pixel, boxes that are no pixels.
    Relations
        `projection` and `codes` have one token for each patch, or a few.
    """

    part = Card(
        title="MEGABYTE: Predicting Million-byte Sequences with Multiscale Transformers",
        year=2023,
        url="https://arxiv.org/abs/2305.07185",
        summary="one byte for each colour of each pixel, patch after patch",
    )

    @property
    def vocab_size(self) -> int:
        return 256

    def count(self, height: int, width: int, size: int) -> int:
        return height * width * COLOURS

    def boxes(self, height: int, width: int, size: int) -> Int[Tensor, "N 6"]:
        y, x = _by_patch(height, width, size)
        zero = torch.zeros_like(y)
        return torch.stack((zero, zero + 1, y, y + 1, x, x + 1), 1).repeat_interleave(COLOURS, 0)

    def encode(self, pixels: UInt8[Tensor, "Y X 3"], size: int) -> Drawn:
        boxes = self.boxes(pixels.shape[0], pixels.shape[1], size)
        y, x = boxes[::COLOURS, 2], boxes[::COLOURS, 4]
        return Drawn(pixels.cpu()[y, x].long().flatten(), boxes)

    def decode(self, tokens: TokenSequence, size: int) -> UInt8[Tensor, "Y X 3"]:
        places = places_of(tokens.spans, 1, self.name())
        check_ids(tokens.ids, self.vocab_size, self.name())
        counts = torch.bincount(places.patch, minlength=places.height * places.width)
        if int(counts.max()) > COLOURS:
            raise InvalidValue(
                f"{self.name()}: every pixel must have three tokens; got one with {int(counts.max())}; decode one "
                "picture at a time."
            )
        whole = counts == COLOURS
        order = places.patch.argsort(stable=True)
        there = order[whole[places.patch[order]]]
        picture = torch.full((len(counts), COLOURS), GREY, dtype=torch.uint8)
        picture[whole] = tokens.ids.cpu()[there].view(-1, COLOURS).to(torch.uint8)
        return picture.view(places.height, places.width, COLOURS)


def _by_patch(height: int, width: int, size: int) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    """Rows and columns of all pixels, patch after patch."""
    y = torch.arange(height).repeat_interleave(width)
    x = torch.arange(width).repeat(height)
    patch = y // size * patch_grid(height, width, size)[1] + x // size
    order = patch.argsort(stable=True)
    return y[order], x[order]
