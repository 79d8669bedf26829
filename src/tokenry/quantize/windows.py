"""Which neighbours of a row have a code together."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.core.method import Part
from tokenry.quantize.search.means import gathered


@dataclass(frozen=True, kw_only=True)
class Windows(Part):
    """How the vectors of a row are cut into windows."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def size(self, stride: int) -> int:
        """Vectors of a whole window."""

    @abstractmethod
    def of(self, place: Int[Tensor, "T"], stride: int) -> Int[Tensor, "T"]:
        """The window of each place in a row, both counted from 0; no window's number is larger than a place in it."""


def cut(real: Bool[Tensor, "*B"], windows: Windows, stride: int) -> Int[Tensor, "T"]:
    """The window of every real vector, numbered row after row; places are counted from the first real one of a row."""
    rows = real.reshape(real.shape[:-1].numel(), real.shape[-1]) if real.ndim else real.reshape(1, 1)
    row, place = torch.arange(len(rows), device=rows.device).unsqueeze(1).expand_as(rows), rows.cumsum(1) - 1
    found: Tensor = (row * rows.shape[1])[rows] + windows.of(place[rows], stride)
    return found.unique(return_inverse=True)[1]


def means(vectors: Float[Tensor, "T E"], window: Int[Tensor, "T"]) -> Float[Tensor, "M E"]:
    """The mean of each window, with its gradient."""
    counts, sums = gathered(vectors, window, _number(window))
    return sums / counts.unsqueeze(1)


def first_of(window: Int[Tensor, "T"]) -> Int[Tensor, "M"]:
    """The first vector of each window."""
    order = torch.arange(len(window), device=window.device)
    return order.new_full((_number(window),), len(window)).scatter_reduce(0, window, order, "amin")


def _number(window: Int[Tensor, "T"]) -> int:
    return int(window.max()) + 1 if len(window) else 0
