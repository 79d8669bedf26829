"""Window: keep the first few tokens and the most recent ones, forget everything between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tokenry.attend.base import Evictor
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.fields import size
from tokenry.models.attention.site import Site


@dataclass(frozen=True, kw_only=True)
class Window(Evictor):
    """Hold only attention sinks and the most recent tokens.

    What it does
        Keeps the first `sink` tokens and the last `budget - sink`, whatever they say. The score of a key is its
        column, so newer keys stay.
    Where it acts
        After the prompt was read densely, then at every decoding step: the cache never exceeds the budget.
    Shapes
        site.k, site.v (B, G, K, D) -> rows that stay (B, G, M) with M <= budget.
    Guarantees
        Equals dense attention while no more than `budget` tokens were seen. Positions stay the original ones.
    Raises
        InvalidValue: a budget smaller than its sinks, or `per="sequence"`.
    Deviations
        StreamingLLM renumbers positions inside the cache to read endless streams; here tokens keep their own
        positions, which is what the window baseline of selection papers does.
    Relations
        The baseline that every query-aware selection must beat at equal rows.
    """

    card = Card(
        title="Efficient Streaming Language Models with Attention Sinks (window with sinks)",
        year=2023,
        url="https://arxiv.org/abs/2309.17453",
        summary="first and most recent tokens only, the baseline of every selection",
        action="evict",
        granularity="token",
        evidence="static",
        identity_at={"budget": 1000000},
        trial={"budget": "12:sink=2"},
        claims=("memory of the cache stays constant while tokens are generated",),
        deviations=("positions are the original ones, not slots of the window", "the prompt is read densely"),
    )

    budget: Budget = size(Budget(tokens=1024, sink=4, per="layer"), doc="tokens held, sinks included")
    every_step = True

    def score(self, site: Site, state: Any) -> Float[Tensor, "B 1 K"]:
        return site.key_columns()[:, :1].float()
