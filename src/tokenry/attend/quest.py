"""Quest: read the pages of the cache whose keys may matter most to the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.attend.base import Selector
from tokenry.attend.rows.acting import refuse_missing
from tokenry.attend.rows.pages import PageExtremes, columns_by_rank
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import natural, positive, size
from tokenry.models.attention.site import Site
from tokenry.models.cache.packed import packed

_NEVER, _SINK, _RECENT = float("-inf"), torch.finfo(torch.float32).max, float("inf")


@dataclass(frozen=True, kw_only=True)
class Quest(Selector):
    """Choose whole pages of cached tokens per step by an upper bound of their products with the query.

    What it does
        u_p = sum over the query heads h of a KV head and the channels d of max(q_hd m_pd, q_hd M_pd), where m_p and
        M_p are the smallest and the largest value of every channel among the keys of page p. No key of the page has
        a larger sum over h of q_h k. The pages with the highest u are attended to exactly, as many as the budget
        holds beside the page of the newest token, which is always read.
    Where it acts
        At every decoding step, in all layers but the first `dense_layers`; prompts are read densely. Nothing is
        evicted.
    Shapes
        site.q (B, H, 1, D), site.k and site.v (B, G, K, D) -> output (B, H, 1, Dv).
    Guarantees
        Equals dense attention while the budget covers what is held. With `page=1` reads exactly the keys with the
        largest products. Pages lie on a fixed grid of each sequence's own tokens, so neither padding nor chunks move
        them. A step looks at 2 numbers for each channel of a page, not at its keys.
    Raises
        InvalidValue: a budget that does not hold whole pages of its sinks and recent tokens, or `per="sequence"`;
        no layer that chooses.
        Incompatible: a cache that something was evicted from.
    Deviations
        Heads that share keys share one choice, by the sum of their bounds; the published code repeats keys and lets
        every query head choose, which reads up to H/G times the budget. The published evaluation reads at least three
        pages, whatever the budget.
    Relations
        `token_select` scores every token: closer to dense at equal rows, but it reads all keys to choose. Sinks and
        recent tokens of the budget, none by default, are read as whole pages; a budget of few pages needs them, and
        even so a `window` can do as well on plain prose.
    """

    card = Card(
        title="Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference",
        year=2024,
        url="https://arxiv.org/abs/2406.10774",
        summary="per-step selection of pages by channel-wise bounds of their keys",
        action="visible",
        granularity="page",
        evidence="query",
        identity_at={"budget": 1000000},
        trial={"budget": 12, "page": 4, "dense_layers": 0},
        claims=(
            "at 100 of 800 rows, 4 sinks and 32 recent tokens included, its KL to dense is below that of random rows, "
            "on each of four texts",
        ),
        deviations=(
            "one choice per KV head or layer, bounds summed over its query heads",
            "as many pages as the budget holds, where the published evaluation reads at least three",
        ),
    )

    budget: Budget = size(Budget(tokens=2048, per="head"), doc="tokens read per step, the newest page included")
    page: int = positive(16, doc="tokens of a page")
    dense_layers: int = natural(2, doc="first layers that read everything")
    State = PageExtremes

    def __post_init__(self) -> None:
        super().__post_init__()
        least = self.page * self._sink_pages + max(self.page, self.budget.recent + self.page - 1)
        if self.budget.tokens is not None and self.budget.tokens < least:
            raise InvalidValue(
                f"Quest: budget must hold whole pages of its sinks and recent tokens, at least {least} tokens; "
                f"got {self.budget.tokens}; raise the budget or lower page."
            )

    def attend(self, site: Site, state: PageExtremes) -> Float[Tensor, "B H Q Dv"]:
        if site.layer < self.dense_layers or site.buffer is None:
            return site.dense()
        self.refuse_evicted(site)
        state.extend(site, self.page)
        return super().attend(site, state)

    def select(self, site: Site, state: PageExtremes) -> Int[Tensor, "B #G M"] | None:
        assert site.buffer is not None
        n = site.seen(site.buffer.seen)
        if isinstance(n, int):
            return None if self.budget.count(n) >= n else self._choose_even(site, state, n)
        return self._choose_uneven(site, state, n)

    def _adapter(self, model: Any) -> Any:
        adapter = super()._adapter(model)
        refuse_missing(self, adapter, "dense_layers", self.dense_layers)
        return adapter

    @property
    def _sink_pages(self) -> int:
        return -(-self.budget.sink // self.page)

    def _scores(self, site: Site, state: PageExtremes, pages: int) -> Float[Tensor, "B #G P"]:
        bounds = state.bounds(site, pages)
        bounds = bounds.sum(1, keepdim=True) if self.budget.per == "layer" else bounds
        bounds[..., : self._sink_pages] = _SINK
        return bounds

    def _choose_even(self, site: Site, state: PageExtremes, n: int) -> Int[Tensor, "B #G M"]:
        """The columns to read where all sequences hold `n` tokens."""
        before = (n - 1) // self.page
        budget = self.budget.count(n)
        newest = torch.arange(n - min(n - before * self.page, budget), n, device=site.k.device)
        wanted = min(before, (budget - len(newest)) // self.page)
        if wanted == 0:
            return newest.expand(site.k.shape[0], 1, -1)
        scores = self._scores(site, state, before)
        scores[..., (n - self.budget.recent) // self.page :] = _RECENT
        pages = _highest_first(scores)[..., :wanted].sort(-1).values
        columns = (pages.unsqueeze(-1) * self.page + torch.arange(self.page, device=pages.device)).flatten(-2)
        return torch.cat((columns, newest.expand(*columns.shape[:2], -1)), -1)

    def _choose_uneven(self, site: Site, state: PageExtremes, n: Int[Tensor, "B 1 1"]) -> Int[Tensor, "B #G M"]:
        """The same where sequences differ: places are ranks among a sequence's real tokens until the end."""
        real = site.real()
        assert real is not None
        before = (n - 1).clamp_min(0) // self.page
        budget = torch.tensor([self.budget.count(max(1, t)) for t in n.flatten().tolist()], device=n.device).view_as(n)
        newest = (n - before * self.page).minimum(budget)
        wanted = before.minimum((budget - newest) // self.page)
        scores = self._scores(site, state, int(before.max()))
        at = torch.arange(scores.shape[-1], device=n.device)
        scores = scores.masked_fill(at >= (n - self.budget.recent) // self.page, _RECENT).masked_fill(
            at >= before, _NEVER
        )
        pages = _highest_first(scores)[..., : int(wanted.max())]
        b, g, most = pages.shape
        inside = torch.arange(self.page, device=n.device)
        ranks = pages.unsqueeze(-1) * self.page + inside
        taken = (torch.arange(most, device=n.device) < wanted).unsqueeze(-1)
        ranks = torch.where(taken, ranks, -1).flatten(-2)
        tail = torch.where(inside < newest, n - newest + inside, -1).expand(-1, g, -1)
        ranks = packed(torch.cat((ranks, tail), -1), least=1)
        columns = columns_by_rank(real[:, 0]).unsqueeze(1).expand(b, g, -1).gather(-1, ranks.clamp_min(0))
        return torch.where(ranks >= 0, columns, -1)


def _highest_first(scores: Float[Tensor, "B #G P"]) -> Int[Tensor, "B #G P"]:
    """All pages by their scores; of equal ones the older first, whoever else is in the batch."""
    return scores.argsort(dim=-1, descending=True, stable=True)
