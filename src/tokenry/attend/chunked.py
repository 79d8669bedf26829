"""Evict while the prompt is being read, so that a long one never stands in memory as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tokenry.attend.base import Attention, Evictor
from tokenry.attend.snapkv import SnapKV
from tokenry.attend.wrapping.wrapper import EvictingWrapper
from tokenry.core.card import Card
from tokenry.core.fields import part
from tokenry.models.attention.site import Site


@dataclass(frozen=True, kw_only=True)
class Chunked(EvictingWrapper):
    """Bring the cache to its budget after every chunk of the prompt.

    What it does
        Each pass of the prompt attends to what is left and to itself; then the method inside scores and evicts, as it
        otherwise does once at the end.
    Where it acts
        On a prompt that is read in chunks, as by `generate(prefill_chunk_size=…)`.
    Shapes
        site.q (B, H, Q, D), site.k and site.v (B, G, K, D) -> output (B, H, Q, Dv).
    Guarantees
        A layer never holds more than the budget and one chunk. A prompt of one pass is read as by the method inside.
    Raises
        InvalidValue: a method that does not evict.
    Relations
        The method alone reads a prompt in chunks as if it came at once, and holds it whole until then.
    """

    card = Card(
        title="Eviction under chunked prefill",
        year=2024,
        url="https://arxiv.org/abs/2308.16369",
        summary="the cache is brought to its budget after every chunk of a prompt",
        action="evict",
        granularity="chunk",
        evidence="observed attention",
        identity_at={"inside": "snapkv[budget=1000000]"},
        trial={"inside": "snapkv[budget=12,window=4,kernel=3]"},
        exempt={
            "chunked_prefill": "what is evicted after a chunk is not there for the next one",
            "a_last_chunk_of_one_token_is_of_the_prompt": "what is evicted after a chunk is not there for the next one",
        },
    )

    inside: Attention = part(SnapKV(), doc="what scores and evicts")

    def read(self, evictor: Evictor, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"]:
        out, buffer = super().read(evictor, site, state), site.buffer
        if buffer is not None and not site.later and buffer.settled < buffer.seen:
            evictor._evict(site, state, buffer.seen)
        return out
