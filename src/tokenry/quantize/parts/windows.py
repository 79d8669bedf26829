"""Which neighbours of a row have a code together."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import positive
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


@dataclass(frozen=True, kw_only=True)
class Runs(Windows):
    """Cut rows, which are frames of sound or anything else in a line, into runs: place n is in window n // s."""

    part = Card(
        title="SNAC: Multi-Scale Neural Audio Codec",
        year=2024,
        url="https://arxiv.org/abs/2410.14411",
        summary="neighbours that follow each other have a code together",
    )

    def size(self, stride: int) -> int:
        return stride

    def of(self, place: Int[Tensor, "T"], stride: int) -> Int[Tensor, "T"]:
        return place // stride


@dataclass(frozen=True, kw_only=True)
class Blocks(Windows):
    """Cut rows, which are pictures line after line, into squares as wide as the stride says.

    Place n is at y, x = divmod(n, columns), in window (y // s) ceil(columns / s) + x // s. Squares at the right and
    lower edge may be smaller.
    """

    part = Card(
        title="Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction",
        year=2024,
        url="https://arxiv.org/abs/2404.02905",
        summary="squares of a picture have a code together",
        deviations=(
            "scales divide the picture into squares, whose mean is taken and whose code is repeated; the paper has any "
            "sizes, interpolates, and has a convolution after it",
        ),
    )

    columns: int = positive(8, doc="vectors in a line of the picture")

    def size(self, stride: int) -> int:
        return min(stride, self.columns) * stride

    def of(self, place: Int[Tensor, "T"], stride: int) -> Int[Tensor, "T"]:
        across = -(-self.columns // stride)
        return place // self.columns // stride * across + place % self.columns // stride


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
