"""What a pass brings: a part of the prompt, tokens after it, or first the one and then the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer

Attend = Callable[[Site, Any], Tensor]


def attended(site: Site, state: Any, attend: Attend, *, one_by_one: bool, unsure: Callable[[Site], str]) -> Tensor:
    """Attention of a pass, in which every token after the prompt is attended to as if it came by itself.

    Args:
        site: of the whole pass, whose tokens the cache holds already; it is told what it stands for.
        state: of the method, for this layer.
        attend: the method's verb; it sees the cache as it is when the last token of its site has come.
        one_by_one: tokens after the prompt go through `attend` one at a time, and can be taken back by a crop.
        unsure: says what a crop is told where the pass is taken for a part of the prompt and nobody said so.
    """
    buffer, n = site.buffer, site.q.shape[2]
    assert buffer is not None
    buffer.begin()
    later = _after_the_prompt(site, buffer)
    if later == 0:
        if n > 1 and site.prompt is None:
            buffer.unsure = unsure(site)
        site.decoding = False
        return attend(site, state)
    if later == n and (not one_by_one or (n == 1 and not buffer.record_past)):
        site.later, site.decoding = True, n == 1
        return attend(site, state)
    keys, values = buffer.take_back(later)
    parts = []
    if later < n:
        parts.append(attend(_at(site, slice(0, n - later), later=False), state))
    size = 1 if one_by_one else later
    buffer.trying = one_by_one
    state.remember(buffer.seen)
    for i in range(0, later, size):
        buffer.update(keys[:, :, i : i + size], values[:, :, i : i + size])
        queries = slice(n - later + i, n - later + i + size)
        parts.append(attend(_at(site, queries, later=True), state))
        state.remember(buffer.seen)
    buffer.trying = False
    return torch.cat(parts, 2)


def _after_the_prompt(site: Site, buffer: KVBuffer) -> int:
    """How many of the tokens of this pass, the last ones, stand behind the prompt.

    Where nobody said how long the prompt is, it ends before the first token that comes by itself.
    """
    n = site.q.shape[2]
    first = buffer.seen - n
    if site.prompt is not None:
        return min(n, max(0, buffer.seen - site.prompt))
    if buffer.began is None and n == 1 and first > 0:
        buffer.began = first
    return n if buffer.began is not None and first >= buffer.began else 0


def _at(site: Site, queries: slice, *, later: bool) -> Site:
    """The site of some queries, over what the cache holds now."""
    decoding = later and queries.stop - queries.start == 1
    return replace(site.for_queries(queries).now(), later=later, decoding=decoding)
