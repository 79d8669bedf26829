"""What the tokens of a picture's patches hold: here the pixels themselves.

Contents that are long have files of their own beside this one: `patch_vectors` and `patch_codes`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.method import Part
from tokenry.core.sequence import TokenSequence
from tokenry.signal.pictures.patch_grid import GREY, MOST, patch_grid, places_of

COLOURS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Tokens of one picture.

    Args:
        ids: -1 where tokens are vectors.
        boxes: the pixels that each shows.
        embeds: the vectors.
    """

    ids: Int[Tensor, "N"]
    boxes: Int[Tensor, "N 6"]
    embeds: Float[Tensor, "N E"] | None = None


class PictureContent(Part):
    """What tokens say about patches of `size` x `size` pixels."""

    room: ClassVar[str] = "signal"

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Ids are below this; 0 where tokens are vectors."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """How many ids each codebook has, one after the other in every patch."""
        return (self.vocab_size,)

    @property
    def ready(self) -> bool:
        """Whether nothing must be learnt any more."""
        return True

    def learn(self, pictures: Sequence[UInt8[Tensor, "_ _ 3"]], size: int, generator: torch.Generator) -> None:
        """Build and learn from pictures what there is to learn, which may be nothing."""

    def count(self, height: int, width: int, size: int) -> int:
        """How many tokens a picture has."""
        rows, columns = patch_grid(height, width, size)
        return rows * columns * len(self.codebook_sizes)

    @abstractmethod
    def boxes(self, height: int, width: int, size: int) -> Int[Tensor, "N 6"]:
        """What each token of a picture of this size shows, in the order of `encode`."""

    @abstractmethod
    def encode(self, pixels: UInt8[Tensor, "Y X 3"], size: int) -> Drawn:
        """The tokens of a picture, patch after patch, row by row."""

    @abstractmethod
    def decode(self, tokens: TokenSequence, size: int) -> UInt8[Tensor, "Y X 3"]:
        """The picture that tokens describe, in any order of boxes; grey where there are none.

        Raises:
            InvalidValue: ids or vectors that there are not, or boxes that are none of patches.
        """


@dataclass(frozen=True, kw_only=True)
class Pixels(PictureContent):
    """Give every byte of a picture as a token: its id is the value, 0 to 255.

    Patches follow each other row by row; within a patch so do its pixels; a pixel is red, green, blue. Decoding gives
    the picture back, byte for byte, in whatever order pixels come. One that lacks one of its three tokens is grey.
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
        places = places_of(tokens, 1, self.name())
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


def check_ids(ids: Int[Tensor, "N"], size: int, who: str) -> None:
    """Refuse ids that are none of a vocabulary.

    Raises:
        InvalidValue: an id below 0 or not below `size`.
    """
    if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= size):
        raise InvalidValue(f"{who}: ids must be in [0, {size}); got {int(ids.min())} to {int(ids.max())}.")


def check_table(numbers: int, who: str) -> None:
    """Refuse a table that is too large, perhaps by a damaged file.

    Raises:
        InvalidValue: more than `MOST` numbers.
    """
    if numbers > MOST:
        raise InvalidValue(f"{who}: must have at most {MOST} numbers; got {numbers}; make size or width smaller.")


def _by_patch(height: int, width: int, size: int) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    """Rows and columns of all pixels, patch after patch."""
    y = torch.arange(height).repeat_interleave(width)
    x = torch.arange(width).repeat(height)
    patch = y // size * patch_grid(height, width, size)[1] + x // size
    order = patch.argsort(stable=True)
    return y[order], x[order]
