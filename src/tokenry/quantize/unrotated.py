"""Unrotated: blocks are cut from vectors as they are."""

from __future__ import annotations

from dataclasses import dataclass

from tokenry.core.card import Card
from tokenry.quantize.rotation import Rotation


@dataclass(frozen=True, kw_only=True)
class Unrotated(Rotation):
    """Cut vectors as they are.

    What it does
        R = I, without a product.
    Where it acts
        As `rotation` of `pq`.
    Shapes
        width E -> nothing.
    Guarantees
        Nothing is changed.
    Raises
        Nothing.
    Relations
        The order of the numbers matters: neighbours share a block. `opq` learns which belong together.
    """

    part = Card(
        title="Product Quantization for Nearest Neighbor Search",
        year=2011,
        url="https://doi.org/10.1109/TPAMI.2010.57",
        summary="blocks are cut from vectors as they are",
    )

    def begin(self, width: int) -> None:
        return None
