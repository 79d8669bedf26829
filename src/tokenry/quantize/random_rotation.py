"""RandomRotation: vectors are turned at random before they are cut, once and for all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.quantize.rotation import Rotation


@dataclass(frozen=True, kw_only=True)
class RandomRotation(Rotation):
    """Turn vectors by a random rotation that nothing moves.

    What it does
        R is the orthogonal factor of a matrix of normal numbers, with the signs that make all rotations equally likely.
    Where it acts
        As `rotation` of `pq`, on vectors before they are cut and back on their sum.
    Shapes
        width E -> R (E, E).
    Guarantees
        R R' = I. It is drawn when the quantizer is built and stays.
    Raises
        Nothing.
    Relations
        Shares out the variance over all blocks; `opq` learns where it belongs.
    """

    part = Card(
        title="Aggregating Local Descriptors into a Compact Image Representation",
        year=2010,
        url="https://doi.org/10.1109/CVPR.2010.5540039",
        summary="vectors are turned at random before they are cut, once and for all",
    )

    def begin(self, width: int) -> Float[Tensor, "E E"]:
        turn, triangle = torch.linalg.qr(torch.randn(width, width))
        return turn * triangle.diagonal().sign()
