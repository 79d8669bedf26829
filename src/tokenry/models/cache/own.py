"""Caches that transformers made: what becomes ours, and what is said of those that cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicIndexedLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    EncoderDecoderCache,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionLayer,
)  # fmt: skip

from tokenry.core.errors import Incompatible
from tokenry.models import private
from tokenry.models.cache.hybrid import HybridKV
from tokenry.models.cache.kv import KVBuffer

_OURS: Mapping[type, type[KVBuffer]] = {
    DynamicLayer: KVBuffer,
    LinearAttentionAndFullAttentionLayer: HybridKV,
}
"""Layers that keep every token, and what they become."""


def own_part(cache: Cache) -> Cache:
    """The part of a cache that grows with the tokens that are decoded."""
    return cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache


def own_buffers(cache: Cache, *, sliding: bool = False) -> None:
    """Replace growing layers by `KVBuffer`s, with what stands beside their keys; other native layers stay.

    Args:
        sliding: also replace empty layers with a sliding window, which count on seeing every token. What they would
            forget is then masked, and held.
    """
    cache = own_part(cache)
    if cache.offloading:
        return
    if private.layer_kind(cache) is DynamicLayer:
        private.set_layer_kind(cache, KVBuffer)
    for i, layer in enumerate(cache.layers):
        ours = _OURS.get(type(layer))
        if ours is not None:
            cache.layers[i] = ours.adopt(layer)
        elif sliding and isinstance(layer, DynamicSlidingWindowLayer) and _slides(layer):
            if layer.is_initialized:
                raise Incompatible(
                    "attend: a cache with sliding windows must be new where tokens change; got a used one."
                )
            cache.layers[i] = HybridKV() if isinstance(layer, LinearAttentionLayer) else KVBuffer()


def grows(model: PreTrainedModel) -> bool:
    """Whether some layers of the model's cache keep every token, so that methods may forget some."""
    cache = DynamicCache(config=model.config)
    own_buffers(cache)
    return private.layer_kind(cache) is KVBuffer or any(isinstance(layer, KVBuffer) for layer in cache.layers)


def chooses(model: PreTrainedModel) -> bool:
    """Whether layers of the model choose by an index of their own which of the keys that they keep are read."""
    return any(isinstance(layer, DynamicIndexedLayer) for layer in DynamicCache(config=model.config).layers)


def refuse_foreign(cache: Cache, who: str, *, sliding: bool = False) -> None:
    """A method acts on layers that hold plain keys and values, and grow; native sliding windows are left as they are.

    Args:
        who: the method.
        sliding: whether it acts on these as well.

    Raises:
        Incompatible: a layer holds them otherwise, or none looks back without limit.
    """
    part = own_part(cache)
    if part.offloading:
        raise _refusal(who, "a cache that is moved off its device between layers")
    attending = [layer for layer in part.layers if isinstance(layer, CacheLayerMixin)]
    for layer in attending:
        if not _plain(layer) and not _slides(layer):
            raise _refusal(who, f"{type(layer).__name__} in a {type(part).__name__}")
    if private.layer_kind(part) is None and not sliding and not any(map(_plain, attending)):
        raise Incompatible(
            f"{who}: must act on layers that look back without limit; got a cache in which all {len(attending)} have a "
            "sliding window of their own, so everything would be read densely; use the model as it is."
        )


def _plain(layer: Any) -> bool:
    return isinstance(layer, KVBuffer) or type(layer) in _OURS


def _slides(layer: Any) -> bool:
    """Whether it is a layer of transformers' own with a sliding window, with or without a recurrence beside."""
    beside = isinstance(layer, LinearAttentionLayer) and isinstance(layer, DynamicSlidingWindowLayer)
    return beside or type(layer) is DynamicSlidingWindowLayer


def _refusal(who: str, got: str) -> Incompatible:
    return Incompatible(
        f"{who}: must act on a cache whose layers hold plain keys and values; got {got}; leave the cache out, or give "
        "`method.cache(model)`, with `capacity=n` where its size must not change."
    )
