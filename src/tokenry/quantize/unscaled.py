"""Unscaled: every level takes what is left over as it is."""

from __future__ import annotations

from dataclasses import dataclass

from tokenry.core.card import Card
from tokenry.quantize.base import Quantizer
from tokenry.quantize.scaling import Scaling


@dataclass(frozen=True, kw_only=True)
class Unscaled(Scaling):
    """Leave what is left over as it is.

    What it does
        Factor 1 at every level.
    Where it acts
        As `scaling` of `rvq`.
    Shapes
        -> one number.
    Guarantees
        Nothing is changed.
    Raises
        Nothing.
    Relations
        Right for quantizers that learn tables; a fixed grid needs `grid_steps`.
    """

    part = Card(
        title="SoundStream: An End-to-End Neural Audio Codec",
        year=2021,
        url="https://arxiv.org/abs/2107.03312",
        summary="every level takes what is left over as it is",
    )

    def factor(self, of: Quantizer, level: int) -> float:
        return 1.0
