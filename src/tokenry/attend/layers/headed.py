"""Layers of several heads: queries, keys and values of one projection, and positions by rotation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenry.attend.layers.layer import CausalLayer
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import positive
from tokenry.models.attention.site import wide

SCORES = 1 << 24
"""Products of queries and keys that exist at once."""
BASE = 10000.0
"""Of the wave lengths of a rotation."""


@dataclass(eq=False, repr=False, kw_only=True)
class HeadedLayer(CausalLayer):
    """Heads of equal width, each with queries, keys and values of its own."""

    heads: int = positive(4, doc="heads, among which the width is divided")

    def make(self, *, width: int) -> None:
        if width % self.heads or (width // self.heads) % 2:
            raise InvalidValue(
                f"{self.name()}: width must be an even number of {self.heads} heads' widths; got {width}; choose a "
                f"multiple of {2 * self.heads}."
            )
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def split(self, x: Float[Tensor, "B N E"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, N, D)."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.project(x).chunk(3, -1))
        return q, k, v

    def joined(self, y: Float[Tensor, "B H N D"], like: Tensor) -> Float[Tensor, "B N E"]:
        """The output of all heads as one state."""
        return self.out(y.to(like.dtype).transpose(1, 2).flatten(2))


def rotated(x: Float[Tensor, "*B N D"], positions: Int[Tensor, "*A N"]) -> Float[Tensor, "*B N D"]:
    """Vectors turned by their positions: numbers i and i + D/2 are a pair of angle position / BASE^(2i/D)."""
    half = x.shape[-1] // 2
    a, b = wide(x).split(half, -1)
    speeds = BASE ** (-torch.arange(half, device=x.device, dtype=a.dtype) / half)
    angles = positions.unsqueeze(-1) * speeds
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def slices(queries: int, each: int) -> Iterator[slice]:
    """Queries in pieces, where one of them has so many products with keys."""
    size = max(1, SCORES // max(1, each))
    return (slice(low, min(low + size, queries)) for low in range(0, queries, size))
