"""Tiles: a large picture in parts, and small as a whole, so that an encoder of one size sees both.

Tokens of a tile or of the thumbnail are put back where they come from with `Piece.place`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn.functional import interpolate

from tokenry.core.errors import InvalidValue
from tokenry.core.origin import Source
from tokenry.core.sequence import TokenSequence
from tokenry.data.image import Image


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A picture that shows a part of another one, or all of it at another size.

    Args:
        image: what it shows.
        whole: the picture that it was taken from, as the source of placed tokens.
        box: (y0, y1, x0, x1) in pixels of the whole, half open.
    """

    image: Image
    whole: Source
    box: tuple[int, int, int, int]

    def place(self, tokens: TokenSequence) -> TokenSequence:
        """Tokens of this piece as tokens of the whole picture, with boxes in its pixels.

        A box of a shrunken piece covers every pixel that it shows something of.

        Raises:
            InvalidValue: tokens that reach beyond the piece.
        """
        y0, y1, x0, x1 = self.box
        height, width, _ = self.image.pixels.shape
        spans = tokens.spans.clone()
        if len(spans) and (int(spans[:, 3].max()) > height or int(spans[:, 5].max()) > width):
            raise InvalidValue(f"place: tokens must be of this piece of {width}x{height}; got boxes beyond it.")
        for start, end, first, last, size in ((2, 3, y0, y1, height), (4, 5, x0, x1, width)):
            spans[:, start] = first + spans[:, start] * (last - first) // size
            spans[:, end] = first - (-spans[:, end] * (last - first) // size)
        return replace(tokens, spans=spans, sources=(self.whole,), source=torch.zeros_like(tokens.source))


def tiles(image: Image, side: int) -> list[Piece]:
    """The picture in squares, row by row; the last row and column hold what is left.

    Where `side` is a multiple of the patch size, placed tokens of all tiles are those boxes that the whole picture has.

    Raises:
        InvalidValue: a side below 1.
    """
    _check_side("tiles", side)
    height, width, _ = image.pixels.shape
    whole = Source("image", image, image.name, (height, width))
    return [
        Piece(Image(image.pixels[y : y + side, x : x + side].clone(), image.name), whole, box)
        for y in range(0, height, side)
        for x in range(0, width, side)
        for box in [(y, min(y + side, height), x, min(x + side, width))]
    ]


def thumbnail(image: Image, side: int) -> Piece:
    """The whole picture, shrunk until no side is longer than `side`; pixels become means of those that they cover.

    Raises:
        InvalidValue: a side below 1.
    """
    _check_side("thumbnail", side)
    height, width, _ = image.pixels.shape
    size = shrunk(height, width, side)
    # One colour after the other, since floats take four times the memory of bytes.
    colours = [interpolate(colour.float()[None, None], size, mode="area")[0, 0] for colour in image.pixels.unbind(2)]
    small = Image(torch.stack(colours, 2).round().to(torch.uint8), image.name)
    return Piece(small, Source("image", image, image.name, (height, width)), (0, height, 0, width))


def shrunk(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of a picture of the same shape, none of which is longer than `side`."""
    longest = max(height, width, side)
    return max(1, round(height * side / longest)), max(1, round(width * side / longest))


def _check_side(who: str, side: int) -> None:
    if side < 1:
        raise InvalidValue(f"{who}: side must be at least 1; got {side}.")
