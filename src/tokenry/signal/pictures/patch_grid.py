"""Squares of pixels, row by row: cut out of a picture, put back, and known by their boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int, Num, UInt8
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.core.sequence import TokenSequence

GREY = 128
"""What a picture shows where nothing is known."""

MOST = 1 << 28
"""Pixels of a picture that tokens may describe, and numbers of a table that a saved configuration may ask for."""


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where tokens stand on the grid of a picture.

    Args:
        rows: row of patches that each token is in.
        columns: column of patches.
        height: rows of pixels of the picture.
        width: columns of pixels.
        size: pixels on the side of a patch.
    """

    rows: Int[Tensor, "N"]
    columns: Int[Tensor, "N"]
    height: int
    width: int
    size: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return patch_grid(self.height, self.width, self.size)

    @property
    def patch(self) -> Int[Tensor, "N"]:
        """The number of each token's patch, row by row."""
        return self.rows * self.grid[1] + self.columns


def patch_grid(height: int, width: int, size: int) -> tuple[int, int]:
    """Rows and columns of patches, those that are not whole included."""
    return -(-height // size), -(-width // size)


def patch_boxes(height: int, width: int, size: int) -> Int[Tensor, "P 6"]:
    """The boxes of all patches, row by row; those at the lower and right edge end where the picture does."""
    rows, columns = patch_grid(height, width, size)
    y = torch.arange(rows).repeat_interleave(columns) * size
    x = torch.arange(columns).repeat(rows) * size
    zero = torch.zeros_like(y)
    return torch.stack(
        (zero, zero + 1, y, (y + size).clamp_max(height), x, (x + size).clamp_max(width)), 1
    )  # fmt: skip


def whole_patches(pixels: UInt8[Tensor, "Y X 3"], size: int) -> UInt8[Tensor, "Y2 X2 3"]:
    """The picture in whole patches: its last row and column are repeated as far as needed."""
    height, width, _ = pixels.shape
    rows, columns = patch_grid(height, width, size)
    y = torch.arange(rows * size, device=pixels.device).clamp_max(height - 1)
    x = torch.arange(columns * size, device=pixels.device).clamp_max(width - 1)
    return pixels[y][:, x]


def cut(pixels: UInt8[Tensor, "Y X 3"], size: int) -> UInt8[Tensor, "P S S 3"]:
    """All patches of a picture, row by row, whole ones."""
    whole = whole_patches(pixels, size)
    rows, columns = whole.shape[0] // size, whole.shape[1] // size
    return whole.view(rows, size, columns, size, 3).transpose(1, 2).reshape(rows * columns, size, size, 3)


def paste(patches: Num[Tensor, "N S S 3"], places: Places) -> UInt8[Tensor, "Y X 3"]:
    """The picture of some patches, whose values are rounded to bytes; the rest is grey."""
    rows, columns = places.grid
    size = places.size
    canvas = torch.full((rows * columns, size, size, 3), GREY, dtype=torch.uint8)
    canvas[places.patch] = patches.round().clamp(0, 255).to(torch.uint8).cpu()
    whole = canvas.view(rows, columns, size, size, 3).transpose(1, 2).reshape(rows * size, columns * size, 3)
    return whole[: places.height, : places.width].clone()


def places_of(tokens: TokenSequence, size: int, who: str) -> Places:
    """Where the boxes of tokens stand on the grid of their picture, which is as large as its source says.

    Raises:
        InvalidValue: no tokens, no size, a picture that is too large, or boxes of no such grid.
    """
    height, width = check_size(tokens.size(who), who)
    boxes = tokens.spans.cpu()
    t0, t1, y0, y1, x0, x1 = boxes.unbind(1)
    fits = (t0 == 0) & (t1 == 1)
    for start, end, last in ((y0, y1, height), (x0, x1, width)):
        fits &= (start >= 0) & (start % size == 0) & (start < end) & (end == (start + size).clamp_max(last))
    if not bool(fits.all()):
        wrong = boxes[~fits][0].tolist()
        raise InvalidValue(
            f"{who}: boxes must be those of squares of {size} pixels in a picture of {width}x{height}; got {wrong}; "
            "decode tokens of one picture with what encoded them."
        )
    return Places(y0 // size, x0 // size, height, width, size)


def check_size(size: tuple[int, ...], who: str) -> tuple[int, int]:
    """Height and width of a picture.

    Raises:
        InvalidValue: other numbers, or too many pixels.
    """
    if len(size) != 2 or min(size) < 1 or size[0] * size[1] > MOST:
        raise InvalidValue(f"{who}: size must be height and width, at most {MOST} pixels; got {size}.")
    return size[0], size[1]


def check_once(keys: Int[Tensor, "N"], who: str) -> None:
    """Refuse two tokens for one thing.

    Raises:
        InvalidValue: some key is there twice.
    """
    if len(keys.unique()) != len(keys):
        raise InvalidValue(f"{who}: every box must be there once; got some twice; decode one picture at a time.")
