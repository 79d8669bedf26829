"""Ada-KV: the heads of a layer share one budget, and those whose attention is spread get more of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.attend.base import Attention, Evictor
from tokenry.attend.rows.choose import open_rows
from tokenry.attend.snapkv import SnapKV
from tokenry.attend.wrapping.wrapper import EvictingWrapper
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.fields import between, part
from tokenry.models.attention.site import Site
from tokenry.models.cache.packed import packed


@dataclass(frozen=True, kw_only=True)
class AdaptiveHeads(EvictingWrapper):
    """Let the KV heads of a layer share their budgets.

    What it does
        Every head keeps the `floor` share of its budget by its own scores. The rest of all budgets of the layer goes to
        the keys with the highest scores of any head; scores of a head are shares of its sum.
    Where it acts
        Where the method inside evicts.
    Shapes
        scores (B, G, K) -> rows that stay (B, G, M), -1 behind heads that keep fewer.
    Guarantees
        A layer holds exactly as many rows as with the method alone, and frees the memory of the others. With `floor=1`
        it is the method inside. Sinks and recent tokens of the budget stay in every head.
    Raises
        InvalidValue: a method that does not evict. UnsupportedModel: a model that caches latents, of which all heads
        share the rows.
    Deviations
        Scores are made shares of their sum, since methods do not all score by probabilities; infinite scores, of what a
        method always keeps, stay with their head.
    Relations
        `pyramid` shares out between layers. A method with `per=layer` has one choice for all heads, which is left so.
    """

    card = Card(
        title="Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference",
        year=2024,
        url="https://arxiv.org/abs/2407.11550",
        summary="the heads of a layer share their budgets, so that spread attention keeps more",
        action="evict",
        granularity="head",
        evidence="observed attention",
        identity_at={"inside": "snapkv[budget=1000000]"},
        trial={"inside": "snapkv[budget=12,window=4,kernel=3]", "floor": 0.2},
        deviations=("scores of each head are shares of their sum",),
    )

    inside: Attention = part(SnapKV(), doc="what scores and evicts")
    floor: float = between(0.0, 1.0, default=0.2, doc="share of its budget that every head keeps")
    shares_rows = False

    def stays(
        self, method: Evictor, site: Site, scores: Float[Tensor, "B #G K"], real: Bool[Tensor, "B #G K"] | None,
        seen: int | Int[Tensor, "B 1 1"],
    ) -> Int[Tensor, "B #G M"]:  # fmt: skip
        budget = method.budget
        if budget.per == "layer" or self.floor == 1 or scores.shape[1] == 1:
            return super().stays(method, site, scores, real, seen)
        b, g, k = scores.shape
        real = torch.ones_like(scores, dtype=torch.bool) if real is None else real.expand_as(scores)
        n = real.sum(-1, keepdim=True)
        wanted = _counts(budget, torch.as_tensor(seen, device=n.device).expand_as(n)).minimum(n)
        fixed = real & (~open_rows(budget, real) | scores.isinf())
        share = scores.float().masked_fill(~real | fixed, 0.0)
        share = share - share.amin(-1, keepdim=True).clamp_max(0.0)
        share = share / share.sum(-1, keepdim=True).clamp_min(1e-30)
        share = share.masked_fill(fixed, float("inf")).masked_fill(~real, -1.0)
        rank = share.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        own = (rank < (self.floor * wanted).long()) | fixed
        left = wanted.sum(1, keepdim=True) - own.sum((1, 2), keepdim=True)
        rest = share.masked_fill(own, -1.0).flatten(1)
        order = rest.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1).view(b, g, k)
        stays = (own | (order < left)) & real
        return packed(torch.where(stays, torch.arange(k, device=stays.device), -1), least=1)


def _counts(budget: Budget, seen: Int[Tensor, "B G 1"]) -> Int[Tensor, "B G 1"]:
    counts = [budget.count(max(1, int(n))) for n in seen.flatten().tolist()]
    return torch.tensor(counts, device=seen.device).view_as(seen)
