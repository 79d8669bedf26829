"""SnapKV: keep the prompt tokens that its last queries attend to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.attend.base import Evictor
from tokenry.attend.rows.last_queries import LastQueries
from tokenry.attend.rows.pool import pooled
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import odd, positive, size
from tokenry.models.attention.site import Site


@dataclass(frozen=True, kw_only=True)
class SnapKV(Evictor):
    """Keep what the end of the prompt looks at.

    What it does
        s_j = sum over the last `window` queries i and the query heads of a KV head of softmax(q_i k / sqrt(D))_j,
        then a max-pool of width `kernel` over the tokens before the window, so that neighbours of an important one stay
        with it. The window itself always stays, and what it gives itself counts for nobody.
    Where it acts
        Once, when the prompt has been read; generated tokens are added to the budget.
    Shapes
        site.q (B, H, Q, D), site.k (B, G, K, D) -> score (B, G, K).
    Guarantees
        Equals dense attention when the budget covers the prompt; a prompt read in chunks gives the same choice.
    Raises
        InvalidValue: a budget smaller than its sinks and `window`, which it includes, or an even `kernel`.
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
        action="evict",
        granularity="token",
        evidence="observed attention",
        identity_at={"budget": 1000000},
        trial={"budget": 12, "window": 4, "kernel": 3},
        deviations=(
            "one choice per KV head, probabilities summed over its query heads",
            "neighbours that the pool makes equal are ranked by their own votes",
        ),
    )

    budget: Budget = size(Budget(tokens=1024, per="head"), doc="prompt tokens held, the window included")
    window: int = positive(32, doc="last queries of the prompt that vote and always stay")
    kernel: int = odd(7, doc="width of the max-pool over positions")
    State = LastQueries

    def __post_init__(self) -> None:
        super().__post_init__()
        least = self.window + self.budget.sink
        if self.budget.tokens is not None and self.budget.tokens < least:
            raise InvalidValue(
                f"SnapKV: budget must hold its sinks and the window of {self.window} queries, at least {least} tokens; "
                f"got {self.budget.tokens}; raise the budget or lower window."
            )

    @property
    def fixed(self) -> int:
        return self.budget.sink + max(self.budget.recent, self.window)

    def observe(self, site: Site, state: LastQueries) -> None:
        state.see(site, self.window)

    def score(self, site: Site, state: LastQueries) -> Float[Tensor, "B G K"]:
        probs = state.site(site, self.window, "snapkv").probs()
        assert state.columns is not None
        b, h, _, k = probs.shape
        g = site.k.shape[1]
        there = state.columns >= 0
        votes = (probs * there[:, None, :, None]).sum(2).view(b, g, h // g, k).sum(2)
        columns, real = site.key_columns(), site.real()
        begin = torch.where(there, state.columns, state.columns.amax(1, keepdim=True)).amin(1)[:, None, None]
        before = (columns >= 0) & (columns < begin)
        votes = votes * before
        # A pool makes neighbours equal; a trace of the own votes decides between them.
        votes = pooled(votes, self.kernel, before if real is None else before & real) + 1e-4 * votes
        return votes.masked_fill(columns >= begin, float("inf"))
