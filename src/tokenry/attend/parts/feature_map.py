"""What makes positive features of queries and keys, whose products stand for exp(q k)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from tokenry.core.card import Card
from tokenry.core.learned import LearnedPart
from tokenry.models.attention.site import wide

LEAST = 1e-12
"""Features are at least this large, so that a sum of them can be divided by."""


class FeatureMap(LearnedPart):
    """Two features for each number of a vector, one map for each head; learned from what attention says."""

    room: ClassVar[str] = "attend"

    @abstractmethod
    def make(self, *, heads: int, width: int) -> None:
        """Create the parameters of so many heads of this width."""

    @abstractmethod
    def mapped(self, x: Float[Tensor, "B H N D"]) -> Float[Tensor, "B H N D"]:
        """The vector whose softmax, and that of its opposite, are the features."""

    def forward(self, x: Float[Tensor, "B H N D"]) -> Float[Tensor, "B H N F"]:
        """Features of queries or keys, in 32-bit floats or more; F is 2 D."""
        y = self.mapped(wide(x))
        return torch.cat((y.softmax(-1), (-y).softmax(-1)), -1).clamp_min(LEAST)


@dataclass(eq=False, repr=False, kw_only=True)
class NormPreserving(FeatureMap):
    """Turn the direction of a vector and keep its length.

    What it does
        y = |x| normalize(W H x) with a reflection H = 1 - 2 u u' / |u|^2 and a square W, both learned.
    Guarantees
        y is as long as x, whatever was learned.
    Relations
        `hedgehog` is the same without a length that is kept.
    """

    part = Card(
        title="STILL: Selecting Tokens for Intra-Layer Hybrid Attention to Linearize LLMs",
        year=2026,
        url="https://arxiv.org/abs/2602.02180",
        summary="a learned turn that keeps the lengths of vectors",
    )

    def make(self, *, heads: int, width: int) -> None:
        self.mirror = nn.Parameter(torch.randn(heads, width))
        self.weight = nn.Parameter(torch.eye(width).repeat(heads, 1, 1))

    def mapped(self, x: Float[Tensor, "B H N D"]) -> Float[Tensor, "B H N D"]:
        u = normalize(self.mirror.to(x.dtype), dim=-1).unsqueeze(1)
        turned = x - 2 * (x * u).sum(-1, keepdim=True) * u
        return normalize(turned @ self.weight.to(x.dtype).mT, dim=-1) * x.norm(dim=-1, keepdim=True)


@dataclass(eq=False, repr=False, kw_only=True)
class Hedgehog(FeatureMap):
    """Map a vector by a learned square matrix, y = W x."""

    part = Card(
        title="The Hedgehog & the Porcupine: Expressive Linear Attentions with Softmax Mimicry",
        year=2024,
        url="https://arxiv.org/abs/2402.04347",
        summary="a learned matrix, which begins as the identity",
    )

    def make(self, *, heads: int, width: int) -> None:
        self.weight = nn.Parameter(torch.eye(width).repeat(heads, 1, 1))

    def mapped(self, x: Float[Tensor, "B H N D"]) -> Float[Tensor, "B H N D"]:
        return x @ self.weight.to(x.dtype).mT
