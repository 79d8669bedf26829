"""FASA: a few frequencies of the rotary positions rank the keys, and attention reads the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.attend.base import Selector
from tokenry.attend.calibrated.frequencies import Frequencies
from tokenry.attend.rows.acting import refuse_missing
from tokenry.attend.rows.choose import choose, highest
from tokenry.attend.rows.frequencies import DominantKeys, agreements, channels_of, paired
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, choice, folder, natural, positive, size
from tokenry.models.attention.rotary import Rotary
from tokenry.models.attention.site import Site


@dataclass(frozen=True, kw_only=True)
class Fasa(Selector):
    """Predict with the frequency chunks that rank keys like the whole head, and attend to the keys they name.

    What it does
        q k = sum over i of a_i, where a_i is the product of the i-th pair of channels that the rotary position turns.
        Few pairs rank the keys as the whole sum does. Over these pairs I alone s_j = sum over i in I of a_i(q, k_j);
        the keys that query heads rank first, or with `vote=sum` those with the highest sum over the heads of
        softmax(s / sqrt(D)), are attended to exactly, at their own positions: for each KV head as many as the
        `budget` says, from its query heads in turn.
    Where it acts
        At every decoding step, in all layers but the first `dense_layers`; prompts are read densely. Nothing is
        evicted. I is found once for each KV head: by `calibration`, or by the last `window` queries that were seen at
        the first step, as the chunks whose own ranking has most of its first keys in common with the whole one.
    Shapes
        site.q (B, H, 1, D), site.k and site.v (B, G, K, D) -> output (B, H, 1, Dv).
    Guarantees
        Equals dense attention while the budget covers what is held. With `share=1` and `vote=sum` reads exactly the
        keys with the most attention. A step looks at `share` of the channels of every key, in a small cache of their
        own that equals a slice of the large one. The choice depends on its own sequence alone.
    Raises
        InvalidValue: a budget smaller than its sinks and recent tokens, `per="sequence"`, no layer that chooses, or a
        calibration of other pairs. Incompatible: a calibration of another model, or a cache that something was evicted
        from. UnsupportedModel: with `pairing=rope`, keys that positions change otherwise than by a rotation.
        StorageError: a calibration that is missing or damaged.
    Deviations
        Chunks are chosen for each KV head, and its query heads share the budget, so that no more rows than that are
        read and the small cache is no larger than `share`; the published code lets every query head read its own.
        Without `calibration` the prompt itself says which chunks agree. A fixed number of chunks stays, not those above
        a quantile between two bounds, which are equal by default in the published code. The published pairs are
        neighbouring channels, which do not turn together: `pairing=adjacent`. Keys are not moved to the host.
    Relations
        `token_select` scores all channels of all keys. `quest` looks at bounds of pages, which is less to read and
        chooses coarsely. The small cache adds `share` of the keys to the memory.
    """

    card = Card(
        title="FASA: Frequency-aware Sparse Attention",
        year=2026,
        url="https://github.com/AMAP-ML/FASA-ICLR2026",
        summary="per-step selection of tokens by the few rotary frequencies that rank like the whole head",
        action="visible",
        granularity="token",
        evidence="query",
        identity_at={"budget": 1000000},
        trial={"budget": 12, "dense_layers": 0, "window": 4},
        claims=(
            "at 100 of 800 rows, 4 sinks and 32 recent tokens included, with a quarter of the channels, its KL to "
            "dense is below that of random rows and of random channels, on each of four texts",
            "at 64 of 800 rows on prose its KL is 1.9 times that of the exact vote, where 1.5 was expected, and a "
            "third of that with random channels; a calibration on another document does worse than the prompt itself "
            "(benchmarks/attend/choices.py)",
        ),
        deviations=(
            "chunks are chosen per KV head, and its query heads share the budget and what they read",
            "without a calibration, the last queries of the prompt choose the chunks",
            "a fixed number of chunks, no quantile between bounds",
            "keys are not moved to the memory of the host",
        ),
    )

    budget: Budget = size(Budget(tokens=256, per="head"), doc="tokens read per step")
    share: float = between(0.0, 1.0, default=0.25, doc="of the frequency chunks that predict, at least one")
    vote: str = choice(
        "each", "sum", default="each", doc="query heads that share keys name their own, or add their votes"
    )
    pairing: str = choice(
        "rope", "adjacent", default="rope", doc="channels of a chunk: those that turn together, or neighbours"
    )
    dense_layers: int = natural(1, doc="first layers that read everything")
    window: int = positive(8, doc="last queries that choose chunks where there is no calibration")
    calibration: str | None = folder(None, doc="folder of agreements found beforehand; none to ask the prompt")
    State = DominantKeys

    def attend(self, site: Site, state: DominantKeys) -> Float[Tensor, "B H Q Dv"]:
        if site.layer < self.dense_layers or site.buffer is None:
            return site.dense()
        self.refuse_evicted(site)
        if not site.decoding and self.calibration is None:
            state.see(site, self.window)
        return super().attend(site, state)

    def select(self, site: Site, state: DominantKeys) -> Int[Tensor, "B #G M"] | None:
        assert site.buffer is not None
        if state.channels is None:
            # At the first step whatever the budget: when a longer sequence needs it must not matter to a shorter one.
            state.begin(self._channels(site, state))
        n = site.seen(site.buffer.seen)
        if isinstance(n, int) and self.budget.count(n) >= n:
            return None
        state.extend(site)
        return choose(self.budget, self._votes(site, state.predicted(site)), site.real(), n)

    def _votes(self, site: Site, logits: Float[Tensor, "B H 1 K"]) -> Float[Tensor, "B G K"]:
        """What the query heads of a KV head say together; where each names its own, the best place it has with any."""
        g = site.k.shape[1]
        if self.vote == "sum":
            return site.softmax(logits).squeeze(2).unflatten(1, (g, -1)).sum(2)
        return -best_place(logits.squeeze(2).unflatten(1, (g, -1)), self.budget.count(logits.shape[-1]))

    def _channels(self, site: Site, state: DominantKeys) -> Int[Tensor, "B G C"]:
        pairs = paired(site, self.pairing)
        count = max(1, round(self.share * len(pairs)))
        if count == len(pairs):
            return pairs.flatten().sort().values.expand(*site.k.shape[:2], -1)
        if self.calibration is not None:
            found = Frequencies.at(self.calibration).agreement[site.layer].to(site.k.device).expand(len(site.k), -1, -1)
        else:
            state.see(site, self.window)
            assert state.q is not None
            assert state.columns is not None
            found = agreements(state.q, state.columns, site, pairs, self.budget.count)
        return channels_of(found, pairs, count)

    def _adapter(self, model: Any) -> Any:
        adapter = super()._adapter(model)
        refuse_missing(self, adapter, "dense_layers", self.dense_layers)
        if self.pairing == "rope":
            Rotary.of(model)
        if self.calibration is not None:
            found = Frequencies.at(self.calibration)
            found.check(model, "fasa: calibration", "Frequencies.calibrate(model, samples)")
            if found.pairing != self.pairing:
                raise InvalidValue(
                    f"fasa: calibration must be of chunks with pairing={self.pairing}; got pairing={found.pairing}; "
                    f"make it with Frequencies.calibrate(model, samples, pairing={self.pairing!r})."
                )
        return adapter


def best_place(logits: Float[Tensor, "B G J K"], count: int) -> Float[Tensor, "B G K"]:
    """The best place that each of the `count` highest keys of a query head has with any of them, 0 for the highest of
    all; behind them all others are the last."""
    b, g, j, k = logits.shape
    at = highest(logits.contiguous(), min(count, k))
    places = torch.full((b, g, k), float(k), device=logits.device)
    named = torch.arange(at.shape[-1], device=at.device, dtype=places.dtype).expand(b, g, j, -1)
    return places.scatter_reduce_(-1, at.flatten(2), named.flatten(2), "amin")
