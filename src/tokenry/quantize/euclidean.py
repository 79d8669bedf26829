"""Euclidean: vectors are compared as they are."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.quantize.parts import Metric


@dataclass(frozen=True, kw_only=True)
class Euclidean(Metric):
    """Compare vectors where they are.

    What it does
        argmin |z - c|^2.
    Where it acts
        As `metric` of `vq`.
    Shapes
        vectors (T, E) -> vectors (T, E).
    Guarantees
        Nothing is changed.
    Raises
        Nothing.
    Relations
        `cosine` compares directions.
    """

    part = Card(
        title="Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        summary="vectors are compared as they are",
    )

    def bring(self, vectors: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        return vectors
