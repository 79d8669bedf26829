"""The few next tokens that are left when a distribution is cut, and mixtures of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Cut:
    """How one row's distribution is sharpened and cut.

    Args:
        temperature: divides the logits; 0 leaves the most likely token alone.
        top_k: most tokens that stay.
        top_p: the largest tokens stay that are needed to reach this probability.
        min_p: tokens below this share of the largest go.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float


@dataclass(frozen=True, slots=True)
class Candidates:
    """Tokens by falling weight; weights of a row sum to 1, and those that were cut have 0.

    Args:
        entropy: of the whole distribution before it was cut, in nats.
    """

    ids: Int[Tensor, "B K"]
    weights: Float[Tensor, "B K"]
    entropy: Float[Tensor, "B"]

    @classmethod
    def of(cls, scores: Float[Tensor, "B V"], cuts: list[Cut]) -> Candidates:
        """Cut each row in its own way: top-k, then top-p, then min-p, made to sum to 1 after each."""

        def column(name: str) -> Tensor:
            return torch.tensor([getattr(c, name) for c in cuts], dtype=torch.float32, device=scores.device)[:, None]

        temperature, cold = column("temperature"), column("temperature") == 0
        logs = (scores / torch.where(cold, 1.0, temperature)).log_softmax(-1)
        probs = logs.exp()
        entropy = torch.where(cold[:, 0], 0.0, torch.special.entr(probs).sum(-1))
        count = min(max(c.top_k for c in cuts), scores.shape[-1])
        ids = largest(scores, count)
        rank = torch.arange(count, device=scores.device)
        weights = _scaled(probs.gather(-1, ids), rank < torch.where(cold, 1, column("top_k")))
        reached = weights.cumsum(-1) - weights >= column("top_p")
        weights = _scaled(weights, ~reached | (rank == 0) | (column("top_p") == 1))
        weights = _scaled(weights, weights >= column("min_p") * weights[:, :1])
        return cls(ids, weights, entropy)

    def top(self, count: int) -> Candidates:
        """The `count` largest."""
        weights = self.weights[:, :count]
        return Candidates(self.ids[:, :count], weights / weights.sum(-1, keepdim=True), self.entropy)

    def draw(self, uniform: Float[Tensor, "B"]) -> Int[Tensor, "B"]:
        """One id of each row: the first whose cumulative weight exceeds the row's number from [0, 1)."""
        total = self.weights.cumsum(-1)
        place = (total <= uniform[:, None] * total[:, -1:]).sum(-1, keepdim=True)
        return self.ids.gather(-1, place.clamp_max(self.ids.shape[1] - 1))[:, 0]

    def embeds(self, lookup: Callable[[Tensor], Tensor]) -> Float[Tensor, "B E"]:
        """The weighted sum of their embeddings, added in 32-bit floats."""
        parts = lookup(self.ids)
        return (self.weights[..., None] * parts.float()).sum(1).to(parts.dtype)


def largest(scores: Float[Tensor, "B V"], count: int) -> Int[Tensor, "B K"]:
    """The ids of the largest scores, the first being that of `argmax` also where several are equal."""
    # The first one is lifted, not taken away: where others are minus infinity, it would come again among them.
    return scores.scatter(-1, scores.argmax(-1, keepdim=True), torch.inf).topk(count).indices


def _scaled(weights: Float[Tensor, "B K"], stays: Tensor) -> Float[Tensor, "B K"]:
    weights = torch.where(stays, weights, 0.0)
    return weights / weights.sum(-1, keepdim=True)
