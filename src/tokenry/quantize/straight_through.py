"""StraightThrough: the gradient passes as if nothing had been quantised."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.quantize.parts import Gradient


@dataclass(frozen=True, kw_only=True)
class StraightThrough(Gradient):
    """Copy the gradient of the output to the input.

    What it does
        out = c + (z - sg[z]).
    Where it acts
        As `gradient` of `vq`.
    Shapes
        rows (T, E), values (T, E) -> (T, E).
    Guarantees
        The output is the code's vector, bit for bit; the Jacobian is the identity.
    Raises
        Nothing.
    Relations
        `rotation_trick` turns and stretches the gradient.
    """

    part = Card(
        title="Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        summary="the gradient passes as if nothing had been quantised",
    )

    def through(self, rows: Float[Tensor, "T E"], values: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        return values + (rows - rows.detach()) if rows.requires_grad else values
