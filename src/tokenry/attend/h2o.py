"""H2O: keep the tokens that have received the most attention, and the recent ones."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from tokenry.attend.base import Evictor
from tokenry.attend.rows.received import Received
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.fields import size
from tokenry.models.attention.site import Site


@dataclass(frozen=True, kw_only=True)
class H2O(Evictor):
    """Hold the heavy hitters of attention and the recent tokens.

    What it does
        s_j = sum over all queries i so far, those of the prompt included, and over the query heads of a KV head of
        softmax(q_i k / sqrt(D))_j. The last `recent` tokens stay, and of the rest those with the highest s.
        The eviction is greedy: what was forgotten neither returns nor counts any more.
    Where it acts
        After the prompt was read densely, then at every decoding step: the cache never exceeds the budget.
    Shapes
        site.q (B, H, Q, D), site.k (B, G, K, D) -> score (B, G, K).
    Guarantees
        Equals dense attention while no more than `budget` tokens were seen. The sums equal those of full attention
        maps over the keys that were held, are computed in slices of the queries, and follow evictions and beams.
        Tokens that are tried and taken back leave them as they were; after a crop into the prompt the sums of what is
        left still hold what the cropped queries gave.
    Raises
        InvalidValue: a budget without recent tokens, since the newest has received nothing yet, or one smaller than
        its sinks and recent tokens, or `per="sequence"`. Incompatible: decoding goes on from a cache that was filled
        before the method was attached.
    Deviations
        Heads that share keys share one choice (their probabilities are summed). The cache is brought to the budget
        before a new token is attended to, not after, so that no step reads more than the budget. The token that has
        just left the recent ones is judged like the others; in the published code it is neither a recent token nor a
        candidate for one step, whatever it has received.
    Relations
        Makes every probability of the prompt, which the fast kernels of attention do not: its price against `window`.
        `snapkv` sums over the last queries of the prompt only and decides once.
    """

    card = Card(
        title="H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
        year=2023,
        url="https://arxiv.org/abs/2306.14048",
        summary="hold the tokens with the most accumulated attention, and the recent ones",
        action="evict",
        granularity="token",
        evidence="observed attention",
        identity_at={"budget": 1000000},
        trial={"budget": "12:recent=6"},
        claims=(
            "at 100 of 800 rows its KL to dense is below a window's and below that of random rows beside as many "
            "recent ones, on each of four texts",
        ),
        deviations=(
            "one choice per KV head, probabilities summed over its query heads",
            "evicts before a new token is attended to, so the budget includes it",
            "a token that has just left the recent ones may stay; the published index reads it in no case for a step",
        ),
    )

    budget: Budget = size(
        Budget(tokens=1024, recent=512, per="head"), doc="tokens held, half of them recent and half heavy hitters"
    )
    every_step = True
    State = Received

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget.recent < 1:
            raise InvalidValue(
                f"H2O: budget must hold at least 1 recent token, the newest has received no attention yet; "
                f"got {self.budget}; add recent=N, half of the budget as a rule."
            )

    def attend(self, site: Site, state: Received) -> Float[Tensor, "B H Q Dv"]:
        if site.buffer is None:
            return site.dense()
        state.begin(site.buffer.seen - site.q.shape[2])
        if not site.later:
            return super().attend(site, state)
        return state.read(self.placed(self._evict(site, state, site.buffer.seen)))

    def observe(self, site: Site, state: Received) -> Float[Tensor, "B H Q Dv"]:
        return state.read(site)

    def score(self, site: Site, state: Received) -> Float[Tensor, "B G K"]:
        if state.mass is None:
            raise Incompatible(
                "h2o: must see the prompt being read, to know what its tokens receive; got a cache that was filled "
                "before; read the prompt inside the block."
            )
        return state.of(site)
