"""Small pictures of shapes at random places, sizes and shades, in noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.errors import InvalidValue

SHAPES = ("disc", "ring", "square", "frame", "cross", "stripes", "triangle", "saltire")


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures with the number of what each shows."""

    pixels: Float[Tensor, "B 1 Y X"]
    labels: Int[Tensor, "B"]


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """A source of pictures; the same generator gives the same ones.

    Args:
        side: pixels of a side.
        noise: standard deviation of the noise, where shapes differ from their ground by 0.5 to 1.
    """

    side: int = 32
    noise: float = 0.3

    def __post_init__(self) -> None:
        if self.side < 12:
            raise InvalidValue(f"Shapes: side must be at least 12 pixels; got {self.side}.")

    def sample(self, rows: int, generator: torch.Generator) -> Pictures:
        labels = torch.randint(len(SHAPES), (rows,), generator=generator)
        u = torch.rand(rows, 5, generator=generator)
        size = self.side * (0.16 + 0.14 * u[:, 0]).view(-1, 1, 1)
        centre = [(size + (self.side - 2 * size) * u[:, i].view(-1, 1, 1)) for i in (1, 2)]
        at = torch.arange(self.side, dtype=torch.float32)
        y, x = ((grid - c) / size for grid, c in zip((at.view(1, -1, 1), at.view(1, 1, -1)), centre, strict=True))
        far, most = (x.square() + y.square()).sqrt(), torch.maximum(x.abs(), y.abs())
        inside = (most < 1).float()
        drawn = torch.stack([
            (far < 1).float(),
            ((far < 1) & (far > 0.6)).float(),
            inside,
            inside * (most > 0.6),
            inside * (torch.minimum(x.abs(), y.abs()) < 0.33),
            inside * ((1.5 * (y + 1)).floor() % 2 == 0),
            inside * (x.abs() < (y + 1) / 2),
            inside * ((x.abs() - y.abs()).abs() < 0.35),
        ], 1)  # fmt: skip
        shape = drawn[torch.arange(rows), labels]
        shade = (0.5 + 0.5 * u[:, 3]) * torch.where(u[:, 4] < 0.5, -1.0, 1.0)
        noise = self.noise * torch.randn(rows, self.side, self.side, generator=generator)
        return Pictures((shape * shade.view(-1, 1, 1) + noise).unsqueeze(1), labels)
