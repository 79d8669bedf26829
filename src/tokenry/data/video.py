"""Moving pictures: frames of one size, in the order of time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from tokenry.core.errors import InvalidValue


@dataclass(frozen=True, eq=False)
class Video:
    """Frames that follow each other.

    Args:
        frames: red, green and blue from 0 to 255; at least one frame of at least one pixel.
        rate: frames a second.
        name: what to call it.

    Raises:
        InvalidValue: frames of another shape or type, or a rate that is not positive.
    """

    frames: UInt8[Tensor, "T Y X 3"]
    rate: float = 25.0
    name: str = ""

    def __post_init__(self) -> None:
        shape = tuple(self.frames.shape)
        if len(shape) != 4 or shape[3] != 3 or 0 in shape or self.frames.dtype != torch.uint8:
            raise InvalidValue(f"frames: must be uint8 of shape (T, Y, X, 3); got {self.frames.dtype} {shape}.")
        if not 0 < self.rate < float("inf"):
            raise InvalidValue(f"rate: must be a positive number of frames a second; got {self.rate}.")
