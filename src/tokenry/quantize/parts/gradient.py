"""How a gradient passes the choice of a code, which has none."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from tokenry.core.card import Card
from tokenry.core.method import Part


@dataclass(frozen=True, kw_only=True)
class Gradient(Part):
    """How a gradient passes the choice of a code, which has none."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def through(self, rows: Float[Tensor, "T E"], values: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        """`values` exactly, with a gradient for `rows`."""


@dataclass(frozen=True, kw_only=True)
class StraightThrough(Gradient):
    """Copy the gradient of the output to the input: out = c + (z - sg[z])."""

    part = Card(
        title="Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        summary="the gradient passes as if nothing had been quantised",
    )

    def through(self, rows: Float[Tensor, "T E"], values: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        return values + (rows - rows.detach()) if rows.requires_grad else values


@dataclass(frozen=True, kw_only=True)
class RotationTrick(Gradient):
    """Pass the gradient through the rotation that takes a vector to its code.

    What it does
        out = sg[(|c| / |z|) R] z with R = I - 2 r r' + 2 c^ z^', r = (z^ + c^) / |z^ + c^| and hats for length one;
        R is never made, since two products for each vector do.
    Guarantees
        The gradient is longer by |c| / |z|, and its angle to z is the angle that it had to c. Where the vector points
        away from its code R is a reflection; for a vector of zeros the gradient is copied.
    """

    part = Card(
        title="Restructuring Vector Quantization with the Rotation Trick",
        year=2024,
        url="https://arxiv.org/abs/2410.06424",
        summary="the gradient is turned and stretched as the vector is on its way to its code",
    )

    def through(self, rows: Float[Tensor, "T E"], values: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        if not rows.requires_grad:
            return values
        z, c = rows.detach(), values.detach()
        length = z.norm(dim=-1, keepdim=True)
        there = length > 0
        stretch = (c.norm(dim=-1, keepdim=True) / length.where(there, length + 1)).where(there, length + 1)
        z, c = normalize(z, dim=-1), normalize(c, dim=-1) * there
        r = normalize(z + c, dim=-1) * there
        turned = stretch * (rows - 2 * r * (r * rows).sum(-1, True) + 2 * c * (z * rows).sum(-1, True))
        return values + (turned - turned.detach())
