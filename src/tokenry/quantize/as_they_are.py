"""AsTheyAre: nothing is done to numbers before the grid."""

from __future__ import annotations

from dataclasses import dataclass

from tokenry.core.card import Card
from tokenry.quantize.grid import Balance


@dataclass(frozen=True, kw_only=True)
class AsTheyAre(Balance):
    """Leave numbers as they are.

    What it does
        Nothing.
    Where it acts
        As `balance` of `fsq`.
    Shapes
        numbers (T, D) -> numbers (T, D).
    Guarantees
        Nothing is changed, and nothing is added to the loss.
    Raises
        Nothing.
    Relations
        What `batch_moments` and `moment_loss` are measured against.
    """

    part = Card(
        title="Finite Scalar Quantization: VQ-VAE Made Simple",
        year=2023,
        url="https://arxiv.org/abs/2309.15505",
        summary="nothing is done to numbers before the grid",
    )
