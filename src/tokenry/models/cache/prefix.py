"""Keys and values that stand before a prompt: read from embeddings, and put into a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicSlidingWindowLayer

from tokenry.core.errors import Incompatible, InvalidValue, UnsupportedModel
from tokenry.models import private
from tokenry.models.attention.adapter import unwrap
from tokenry.models.attention.rest import evaluating
from tokenry.models.cache.name import with_cache
from tokenry.models.text.lookup import close, lookup, vocabulary_size

PROBE = (2, 3)
"""Tokens of the prefix and of what follows it in the proof."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a model caches of one token: in each layer a key and a value for each KV head."""

    layers: int
    heads: int
    key_width: int
    value_width: int


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """Keys, after rotation to the positions from 0 on, and values of S tokens.

    Args:
        keys: of all layers and KV heads.
        values: the same.
    """

    keys: Float[Tensor, "L G S D"]
    values: Float[Tensor, "L G S Dv"]

    def __len__(self) -> int:
        return self.keys.shape[2]

    @classmethod
    @torch.no_grad()
    def read(cls, model: Any, embeds: Float[Tensor, "S E"]) -> Prefix:
        """What a model caches when it reads these embeddings.

        Raises:
            InvalidValue: more tokens than each layer of the model holds.
            UnsupportedModel: layers that cache something else than keys and values.
        """
        base = unwrap(model)
        with evaluating(base):
            cache = DynamicCache(config=base.config)
            base(
                inputs_embeds=embeds[None].to(private.input_device(base), base.dtype),
                **with_cache(cache),
                use_cache=True,
            )
        pairs: list[Any] = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in cache.layers]
        if not pairs or any(k is None or v is None or k.ndim != 4 or v.ndim != 4 for k, v in pairs):
            raise _refusal(base, "must cache keys and values in every layer; it does not")
        if len({(k.shape[:2], k.shape[3], v.shape[3]) for k, v in pairs}) > 1:
            raise _refusal(base, "must cache the same number of heads of the same width in every layer; it does not")
        if any(k.shape[2] != len(embeds) for k, _ in pairs):
            raise InvalidValue(
                f"{type(base).__name__}: a prefix must fit into the sliding window of every layer; "
                f"got {len(embeds)} tokens; take fewer."
            )
        return cls.rows(cache)[0]

    @classmethod
    def rows(cls, cache: Cache) -> list[Prefix]:
        """What each row of a cache of plain layers holds."""
        keys, values = (torch.stack([getattr(layer, name) for layer in cache.layers]) for name in ("keys", "values"))
        return [cls(k, v) for k, v in zip(keys.unbind(1), values.unbind(1), strict=True)]


def prefix_cache(model: Any, rows: Sequence[Prefix | None]) -> DynamicCache:
    """A new cache in which every row begins with its prefix, or with none; shorter ones are padded on the left.

    It holds as many columns as the longest prefix; what pads must be masked. Gradients reach keys and values.
    """
    base = unwrap(model)
    longest = max((len(p) for p in rows if p is not None), default=0)
    cache = DynamicCache(config=base.config)
    if not longest:
        return cache
    like = next(p for p in rows if p is not None)
    none = Prefix(like.keys[:, :, :0], like.values[:, :, :0])
    whole = [none if p is None else p for p in rows]

    def together(parts: Sequence[Tensor]) -> Tensor:
        wide = [pad(part, (0, 0, longest - part.shape[2], 0)) for part in parts]
        return torch.stack(wide, 1).to(private.input_device(base), base.dtype)

    keys, values = together([p.keys for p in whole]), together([p.values for p in whole])
    for i, (k, v) in enumerate(zip(keys, values, strict=True)):
        cache.update(k, v, i)
    return cache


def slides(model: Any) -> bool:
    """Whether a layer of the model reads only the nearest columns."""
    layers = DynamicCache(config=unwrap(model).config).layers
    return any(isinstance(layer, DynamicSlidingWindowLayer) for layer in layers)


def check_gaps(model: Any, mask: Bool[Tensor, "B N"], held: int) -> None:
    """Refuse padding between prefixes and prompts where a sliding window would count it as distance.

    Raises:
        Incompatible: there is some, and the model has such windows.
    """
    if slides(model) and not bool(mask[:, held:].all()):
        raise Incompatible(
            f"{type(unwrap(model)).__name__}: prompts after a prefix must be of one length in a batch, since sliding "
            "windows count the padding between them; got several lengths; run them one by one."
        )


_geometries: WeakKeyDictionary[PreTrainedModel, Geometry] = WeakKeyDictionary()


@torch.no_grad()
def geometry(model: Any) -> Geometry:
    """What a model caches, found by experiment and proven once: what follows a prefix reads as if it were text.

    Raises:
        UnsupportedModel: a text after the prefix of another gives other logits than both together.
    """
    base = unwrap(model)
    if base not in _geometries:
        first, rest = PROBE
        ids = torch.arange(first + rest, device=private.input_device(base))[None] * 5 % vocabulary_size(base)
        embeds = lookup(base)(ids)
        prefix = Prefix.read(base, embeds[0, :first])
        with evaluating(base):
            expected = base(inputs_embeds=embeds).logits[:, first:]
            found = follow_prefix(base, prefix_cache(base, [prefix]), embeds).logits
        if not close(expected, found):
            raise _refusal(base, "text after a prefix must read as text after text; it does not")
        layers, heads, _, key_width = prefix.keys.shape
        _geometries[base] = Geometry(layers, heads, key_width, prefix.values.shape[3])
    return _geometries[base]


def follow_prefix(model: Any, cache: Cache, embeds: Float[Tensor, "B N E"], **more: Any) -> Any:
    """One forward over unpadded rows of which the cache holds the first columns."""
    held, (b, n, _) = cache.get_seq_length(), embeds.shape
    return model(
        inputs_embeds=embeds[:, held:],
        attention_mask=torch.ones(b, n, dtype=torch.long, device=embeds.device),
        position_ids=torch.arange(held, n, device=embeds.device).expand(b, -1),
        **with_cache(cache),
        **more,
    )


def _refusal(model: PreTrainedModel, rule: str) -> UnsupportedModel:
    return UnsupportedModel(f"{type(model).__name__}: {rule}; a prefix cannot stand before its prompts.")
