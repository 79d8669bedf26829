"""One call of the attention function that transformers makes: whose it is, and the site it stands for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.masking_utils import AttentionMaskInterface

from tokenry.core.errors import Incompatible
from tokenry.models import private
from tokenry.models.attention.copies import as_given, once, side_by_side
from tokenry.models.attention.mask import MaskFacts, everything, given_mask, note_facts, only_these
from tokenry.models.attention.place import Place, Search
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer, written
from tokenry.models.cache.own import own_part

NAME = "tokenry"

Handler = Callable[[Site], Tensor]
"""Turns a site into its attention output (B, H, Q, Dv). One with a method `stream(stack)` may also change the tokens
between the layers of that stack: it gives a `Stream` for each pass, or None."""

Binder = Callable[["Cache | None"], Handler]
"""Makes the handler of a cache met for the first time; None stands for a forward without cache."""


@dataclass(slots=True)
class Call:
    """An attention layer under way, and what came with it."""

    model: PreTrainedModel
    module: nn.Module
    place: Place
    cache: Cache | None
    hidden: Tensor | None
    handler: Handler | None
    own: str | None
    """What the model uses where nothing is attached."""

    def written(self) -> tuple[KVBuffer | None, int]:
        """The cache layer that this call wrote to, where it is ours, and its index; a module may write to several."""
        buffer, layer = written.taken(), self.place.layer
        if self.cache is None or self.place.kind != "self":
            return None, layer
        layers = own_part(self.cache).layers
        mine = layers[layer] if layer < len(layers) else None
        if buffer is None or mine is buffer:
            return (mine if isinstance(mine, KVBuffer) else None), layer
        return next(((b, i) for i, b in enumerate(layers) if b is buffer), (None, layer))


class Now(threading.local):
    """The attention call under way in this thread: set on entering a layer, read by the attention function."""

    call: Call | None = None
    cacheless: tuple[Binder, Handler] | None = None
    begun: bool = False
    search: Search | None = None


class _Streaming(threading.local):
    """The stack whose tokens are being changed in this thread, and where those of now stand (B, M)."""

    stream: Any = None
    stack: str = ""

    def columns(self, stack: str) -> Tensor | None:
        """The columns of the tokens in a stack; None while all are there."""
        return self.stream.columns if self.stream is not None and self.stack == stack else None


now = Now()
streaming = _Streaming()


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: MaskFacts | Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **extra: Any,
) -> tuple[Tensor, None]:
    """The one attention function that transformers calls."""
    for name in ("block_indices", "sinks"):
        if extra.get(name) is not None:
            raise Incompatible(f"attend: attention must be made of what a `Site` has; this model also gives {name}.")
    if dropout:
        raise Incompatible("attend: attention dropout must be 0 while tokenry is attached; call model.eval().")
    call = now.call if now.call is not None and now.call.module is module else None
    place = call.place if call is not None else Place()
    buffer, layer = call.written() if call is not None else (None, 0)
    facts = attention_mask
    if extra.get("indices") is not None:
        facts = only_these(everything(query, key) if facts is None else facts, extra["indices"], key)
    if isinstance(facts, Tensor):
        facts = given_mask(facts, query, key)
    if facts is not None and _goes_unmasked(module, facts, call, extra.get("is_causal")):
        facts = everything(query, key)
    if now.search is not None:
        now.search.note(module, query, key, value, facts, extra.get("position_bias"))
    heads = 0 if buffer is None or not place.copies else buffer.rows()[0].shape[1]
    position_bias, sinks = extra.get("position_bias"), extra.get("s_aux")
    if heads:
        key, value = (once(place.copies, x, heads) for x in (key, value))
        query = side_by_side(place.copies, query, heads)
        position_bias = None if position_bias is None else side_by_side(place.copies, position_bias, heads)
        sinks = None if sinks is None else side_by_side(place.copies, sinks, heads, axis=0)
    moved = streaming.columns(place.stack)
    if moved is not None:
        facts = (facts or everything(query, key)).over(moved)
    columns = None if buffer is None else buffer.columns
    if columns is not None and columns.shape[1] != key.shape[1]:
        # Latents have one head, of which the keys of all heads are made.
        columns = columns.expand(-1, key.shape[1], -1)
    if moved is not None and buffer is None and place.kind != "cross":
        columns = moved.unsqueeze(1).expand(-1, key.shape[1], -1)
    first = 0 if buffer is not None or facts is None or moved is not None else facts.first_key
    bias = _bias(position_bias, columns if moved is not None else None)
    site = Site(
        layer=layer,
        kind=place.kind,
        stack=place.stack,
        q=query,
        k=key,
        v=value,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        facts=facts,
        columns=columns,
        first=first,
        holes=buffer.ragged if buffer is not None else columns is not None and bool((columns < 0).any()),
        own=moved is not None and place.kind != "cross" and key.shape[2] == query.shape[2],
        buffer=buffer,
        expand=None if buffer is None else private.expansion(module),
        cache=call.cache if call is not None else None,
        model=call.model if call is not None else None,
        # The patches of all pictures may come in one row, of which each call attends to a part.
        hidden=call.hidden if call is not None and call.hidden is not None and call.hidden.ndim == 3 else None,
        hidden_first=0 if facts is None else facts.first_query,
        cap=extra.get("softcap"),
        sinks=sinks,
        bias=bias,
        # Some count it by column, others by the keys that a native layer still holds.
        bias_first=first if bias is not None and bias.shape[-1] == key.shape[2] else 0,
        decoding=buffer is not None and query.shape[2] == 1 and buffer.seen > 1,
        extra=extra,
    )
    handler = call.handler if call is not None else None
    out = site.dense() if handler is None else handler(site)
    if heads:
        out = as_given(place.copies, out, heads)
    return out.transpose(1, 2).contiguous(), None


def _goes_unmasked(module: nn.Module, facts: MaskFacts, call: Call | None, given: bool | None) -> bool:
    """Whether the model's own attention sees everything here: sdpa leaves plain causal masks to the layer, which may
    say that it is not causal. What it says with a call may only mean that there is a mask, as there always is here."""
    causal = bool(given) or getattr(module, "is_causal", given is None)
    own = call is not None and call.own == "sdpa"
    return own and not causal and facts.queries > 1 and facts.plain_causal(facts.first_key, facts.keys)


def _bias(bias: Tensor | None, columns: Tensor | None) -> Tensor | None:
    """A position bias by column; where tokens were dropped between layers it comes by what is left."""
    if bias is None or columns is None or bias.shape[-1] != columns.shape[-1]:
        return bias
    b, (_, h, n, k) = len(columns), bias.shape
    width = int(columns.max()) + 1
    at = torch.where(columns >= 0, columns, width)[:, :1].unsqueeze(2).expand(b, h, n, k)
    return bias.new_zeros(b, h, n, width + 1).scatter_(-1, at, bias.expand(b, -1, -1, -1))[..., :width]


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, note_facts)
