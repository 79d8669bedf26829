"""Key norm: keep the prompt tokens whose keys are shortest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.attend.base import Evictor
from tokenry.attend.rows.acting import refuse_missing
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.fields import natural, size
from tokenry.models.attention.site import Site

_STEPS = 4096
"""Norms that agree to about this part of an octave count as equal: models that normalise keys make them all so."""


@dataclass(frozen=True, kw_only=True)
class KeyNorm(Evictor):
    """Forget the prompt tokens with the longest keys.

    What it does
        s_j = -rank of ||k_j||, the L2 norm of the cached key, among the keys of its KV head; the highest stay.
        A short key tends to be one that later queries attend to, so no query is needed and no attention probability
        is computed. Of keys whose norms agree to a 4096th of an octave the newer stays.
    Where it acts
        Once, when the prompt has been read; generated tokens are added to the budget. The first `dense_layers`
        layers, where short keys are not the attended ones, keep everything.
    Shapes
        site.k (B, G, K, D) -> score (B, G, K).
    Guarantees
        Equals dense attention when the budget covers the prompt. With a budget of no sinks and no recent tokens,
        every KV head keeps exactly its shortest keys, up to such ties. The choice depends on the keys alone: not on
        queries, chunks, padding or batch neighbours.
    Raises
        InvalidValue: a budget smaller than its sinks and recent tokens, `per="sequence"`, or no layer that evicts.
    Deviations
        Evicts once, as the retrieval experiments of the paper do; in its language modelling the cache is cut again
        and again while the text grows. With `per=layer` the ranks of the heads are summed; the paper has no such form.
    Relations
        `snapkv` asks the last queries instead. `attend/random` is the control, and no gain over it is claimed: on
        the prose and the model of our tests random rows stay closer to dense. Nothing forgotten can return.
    """

    card = Card(
        title="A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression",
        year=2024,
        url="https://arxiv.org/abs/2406.11430",
        summary="evict the prompt tokens whose keys have the largest norm",
        action="evict",
        granularity="token",
        evidence="key",
        identity_at={"budget": 1000000},
        trial={"budget": 12, "dense_layers": 0},
        deviations=(
            "evicts once, after the prompt, and not again while tokens are generated",
            "of keys whose norms agree to a 4096th of an octave the newer stays",
        ),
    )

    budget: Budget = size(Budget(tokens=1024, per="head"), doc="prompt tokens held")
    dense_layers: int = natural(2, doc="first layers that keep everything")

    def attend(self, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"]:
        return site.dense() if site.layer < self.dense_layers else super().attend(site, state)

    def _adapter(self, model: Any) -> Any:
        adapter = super()._adapter(model)
        refuse_missing(self, adapter, "dense_layers", self.dense_layers)
        return adapter

    def score(self, site: Site, state: Any) -> Float[Tensor, "B G K"]:
        norms = torch.linalg.vector_norm(site.k, dim=-1, dtype=torch.promote_types(site.k.dtype, torch.float32))
        steps = (norms.log2() * _STEPS).round()
        columns, real = site.key_columns(), site.real()
        end = (site.buffer.seen if site.buffer else site.k.shape[2]) - (site.q.shape[2] if site.later else 0)
        counted = columns < end if real is None else (columns < end) & real
        # What takes no part stands last in all heads, so that their ranks can be added.
        steps = steps.masked_fill(~counted, float("inf"))
        newest_first = steps.flip(-1).argsort(dim=-1, stable=True)
        return -newest_first.argsort(-1).flip(-1).float()
