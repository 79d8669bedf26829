"""Where vectors are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from tokenry.core.card import Card
from tokenry.core.method import Part


@dataclass(frozen=True, kw_only=True)
class Metric(Part):
    """Where vectors are compared, and what becomes of them there."""

    room: ClassVar[str] = "quantize"

    def bring(self, vectors: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        """Vectors and rows of the table as they are quantized."""
        return vectors

    def compared(self, vectors: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        """What was brought as it is compared: the nearest in Euclidean distance is chosen."""
        return vectors


@dataclass(frozen=True, kw_only=True)
class Euclidean(Metric):
    """Compare vectors where they are."""

    part = Card(
        title="Neural Discrete Representation Learning",
        year=2017,
        url="https://arxiv.org/abs/1711.00937",
        summary="vectors are compared as they are",
    )


@dataclass(frozen=True, kw_only=True)
class Cosine(Metric):
    """Compare directions, and give directions: vectors and rows of the table are brought to length one.

    A vector of zeros stays zero. Published with codes of 8 to 32 numbers, which `projected` brings vectors down to.
    """

    part = Card(
        title="Vector-quantized Image Modeling with Improved VQGAN",
        year=2021,
        url="https://arxiv.org/abs/2110.04627",
        summary="vectors are compared by their directions, and only these are left",
    )

    def bring(self, vectors: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        return normalize(vectors, dim=-1)


@dataclass(frozen=True, kw_only=True)
class Direction(Metric):
    """Compare directions, and give rows of the table as they are, of any length, as audio codecs do."""

    part = Card(
        title="High-Fidelity Audio Compression with Improved RVQGAN",
        year=2023,
        url="https://arxiv.org/abs/2306.06546",
        summary="vectors are compared by their directions, and rows of the table keep their lengths",
    )

    def compared(self, vectors: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        return normalize(vectors, dim=-1)
