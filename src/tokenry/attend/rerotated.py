"""Renumber what is left: evicted tokens leave no gaps between positions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tokenry.attend.base import Attention
from tokenry.attend.window import Window
from tokenry.attend.wrapping.wrapper import EvictingWrapper
from tokenry.core.card import Card
from tokenry.core.fields import part
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.rotary import Rotary, turned
from tokenry.models.attention.site import Site


@dataclass(frozen=True, kw_only=True)
class Rerotated(EvictingWrapper):
    """Attend to what is left as if nothing had been between.

    What it does
        Keys are turned from their position in the text to their rank among those that their head holds, and queries to
        the rank of their own token. No distance is longer than the cache.
    Where it acts
        On every token after the prompt, once something was evicted.
    Shapes
        site.q (B, H, Q, D), site.k (B, G, K, D) -> the same, turned.
    Guarantees
        Nothing changes while nothing was evicted. Distances within a run of tokens that stayed together are their own.
        The cache keeps positions of the text, so it can be frozen, cropped and taken up by other methods.
    Raises
        InvalidValue: a method that does not evict. UnsupportedModel: keys that positions change otherwise than by a
        rotation.
    Deviations
        StreamingLLM turns keys as they are read as well; the cache of kvpress keeps turned ones.
    Relations
        `window` inside is StreamingLLM. `token_select` with `slots` does the same for what it reads.
    """

    card = Card(
        title="Efficient Streaming Language Models with Attention Sinks (positions inside the cache)",
        year=2023,
        url="https://arxiv.org/abs/2309.17453",
        summary="what is left stands at consecutive positions, so no distance is longer than the cache",
        action="place",
        granularity="token",
        evidence="static",
        identity_at={"inside": "window[budget=1000000]"},
        trial={"inside": "window[budget=12:sink=2]"},
        deviations=("the cache keeps positions of the text, and keys are turned when they are read",),
    )

    inside: Attention = part(Window(), doc="what evicts")

    def placed(self, site: Site) -> Site:
        columns, real = site.key_columns(), site.real()
        there = torch.ones_like(columns, dtype=torch.bool) if real is None else real.expand_as(columns)
        slots = there.cumsum(-1) - 1
        by = torch.where(there, slots - site.positions(), 0)
        if not bool(by.any()):
            return site
        # The newest tokens stand beside each other in the text and in the cache, so one turn is for all of them.
        newest = by.gather(-1, _last(there)).repeat_interleave(site.groups, 1)
        return replace(site, k=turned(site, site.k, by), q=turned(site, site.q, newest.expand(-1, -1, site.q.shape[2])))

    def _adapter(self, model: Any) -> ModelAdapter:
        adapter = super()._adapter(model)
        Rotary.of(model)
        return adapter


def _last(there: Tensor) -> Tensor:
    """Where the last true value of each row is."""
    return torch.where(there, torch.arange(there.shape[-1], device=there.device), 0).amax(-1, keepdim=True)
