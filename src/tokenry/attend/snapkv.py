"""SnapKV: keep the prompt tokens that its last queries attend to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool1d

from tokenry.attend.base import Evictor
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.fields import positive, size
from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState


@dataclass
class LastQueries(LayerState):
    """The queries of the observation window and whether each is a real token."""

    q: Float[Tensor, "B H W D"] | None = None
    real: Bool[Tensor, "B W"] | None = None


@dataclass(frozen=True, kw_only=True)
class SnapKV(Evictor):
    """Keep what the end of the prompt looks at.

    What it does
        s_j = sum over the last `window` queries i and the query heads of a KV head of softmax(q_i k / sqrt(D))_j,
        then a max-pool of width `kernel` over positions, so that neighbours of an important token stay with it.
        The window itself always stays.
    Where it acts
        Once, when the prompt has been read; generated tokens are added to the budget.
    Shapes
        site.q (B, H, Q, D), site.k (B, G, K, D) -> score (B, G, K).
    Guarantees
        Equals dense attention when the budget covers the prompt; a prompt read in chunks gives the same choice.
    Raises
        InvalidValue: a budget smaller than `window`, which it includes.
    Deviations
        Heads that share keys share one choice (their probabilities are summed); the original repeats keys for
        every query head first, which multiplies memory by the size of the group.
    Relations
        Static: nothing forgotten can return. `token_select` chooses anew at every step.
    """

    card = Card(
        title="SnapKV: LLM Knows What You are Looking for Before Generation",
        year=2024,
        url="https://arxiv.org/abs/2404.14469",
        summary="evict prompt tokens that the last queries of the prompt do not attend to",
        identity_at={"budget": 1000000},
        trial={"budget": 12, "window": 4, "kernel": 3},
        deviations=(
            "one choice per KV head, probabilities summed over its query heads",
            "neighbours that the pool makes equal are ranked by their own votes",
        ),
    )

    budget: Budget = size(Budget(tokens=1024, per="head"), doc="prompt tokens held, the window included")
    window: int = positive(32, doc="last queries of the prompt that vote and always stay")
    kernel: int = positive(7, doc="width of the max-pool over positions; odd")
    State = LastQueries

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget.tokens is not None and self.budget.tokens < self.window:
            raise InvalidValue(
                f"SnapKV: budget must hold the window of {self.window} queries, which it includes; "
                f"got {self.budget.tokens}; raise the budget or lower window."
            )

    def observe(self, site: Site, state: LastQueries) -> None:
        real = torch.ones(site.q.shape[0], site.q.shape[2], dtype=torch.bool, device=site.q.device)
        if site.facts is not None and site.facts.padding is not None:
            real = site.facts.padding[:, site.query_columns()].expand_as(real)
        q = site.q if state.q is None else torch.cat((state.q, site.q), 2)
        real = real if state.real is None else torch.cat((state.real, real), 1)
        state.q, state.real = q[:, :, -self.window :].clone(), real[:, -self.window :].clone()

    def score(self, site: Site, state: LastQueries) -> Float[Tensor, "B G K"]:
        if state.q is None or state.real is None:
            raise Incompatible(
                "snapkv: must see the prompt being read, whose last queries vote; got a cache that was filled before; "
                "read the prompt inside the block."
            )
        seen = site.buffer.seen - (1 if site.decoding else 0) if site.buffer else 0
        w = state.q.shape[2]
        facts = site.facts and replace(site.facts, first_query=seen - w, queries=w)
        probs = replace(site, q=state.q, facts=facts).probs()
        b, h, _, k = probs.shape
        g = site.k.shape[1]
        votes = (probs * state.real[:, None, :, None]).sum(2).view(b, g, h // g, k).sum(2)
        # A pool makes neighbours equal; a trace of the own votes decides between them.
        votes = max_pool1d(votes, self.kernel, stride=1, padding=self.kernel // 2)[..., :k] + 1e-4 * votes
        columns = site.key_columns()
        return votes.masked_fill((columns >= seen - w) & (columns < seen), float("inf"))
