"""PyramidKV: layers near the input get more of the budget than those near the output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tokenry.attend.base import Attention
from tokenry.attend.snapkv import SnapKV
from tokenry.attend.wrapping.wrapper import Wrapper, with_budget
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import part, positive
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.own import own_part


@dataclass(frozen=True, kw_only=True)
class Pyramid(Wrapper):
    """Give every layer a budget of its own, which falls from the first to the last.

    What it does
        Of the budget of the method inside, b are beside what every layer keeps: sinks, recent tokens and the window of
        queries. With m = b / `beta`, layer l of L gets 2 b - m - l (2 b - 2 m) / (L - 1) of these: the mean is b.
    Where it acts
        Where the method inside does. L counts the layers whose keys are all held; those with a sliding window of their
        own have no part in it.
    Shapes
        site.q (B, H, Q, D), site.k and site.v (B, G, K, D) -> output (B, H, Q, Dv).
    Guarantees
        All layers together hold or read as many rows as with the method alone, but for rounding. `beta=1` is the method
        inside.
    Raises
        InvalidValue: a method without a budget in tokens, or a smallest budget that the method refuses.
    Relations
        The published method scores as `snapkv` does, which is the default inside. `adaptive_heads` shares out between
        the heads of a layer; both may be combined.
    """

    card = Card(
        title="PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling",
        year=2024,
        url="https://arxiv.org/abs/2406.02069",
        summary="the budget falls from the first layer to the last",
        action="evict",
        granularity="token",
        evidence="observed attention",
        identity_at={"inside": "snapkv[budget=1000000]"},
        trial={"inside": "snapkv[budget=12,window=4,kernel=3]", "beta": 2},
        exempt={
            "budget_counts_real_tokens": "the first layers read more than the mean budget",
        },
    )

    inside: Attention = part(SnapKV(), doc="what chooses")
    beta: int = positive(20, doc="the mean budget over the smallest")

    def __post_init__(self) -> None:
        super().__post_init__()
        budget = getattr(self.inside, "budget", None)
        if not isinstance(budget, Budget) or budget.tokens is None:
            raise InvalidValue(f"{self.name()}: inside must have a budget in tokens; got {self.inside}.")

    def attend(self, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"]:
        if site.buffer is None:
            return self.inside.attend(site, state)
        layers = _holding(site)
        return self._of(layers.index(site.layer), len(layers)).attend(site, state)

    def _of(self, layer: int, layers: int) -> Attention:
        """The method of one of the layers that hold every token."""
        budget = self.budget
        assert budget.tokens is not None
        fixed = self.inside.fixed
        mean = budget.tokens - fixed
        if layers == 1 or mean <= 0:
            return self.inside
        least = mean / self.beta
        fall = (2 * mean - 2 * least) / (layers - 1)
        return _method(self.inside, replace(budget, tokens=fixed + max(1, round(2 * mean - least - layer * fall))))

    def _adapter(self, model: Any) -> ModelAdapter:
        adapter = super()._adapter(model)
        layers = adapter.depth
        for layer in range(layers):
            try:
                self._of(layer, layers)
            except InvalidValue as error:
                raise InvalidValue(
                    f"pyramid: beta must leave every layer a budget that {self.inside.name()} takes; layer {layer} of "
                    f"{layers} does not get one: {error}"
                ) from error
        return adapter


def _holding(site: Site) -> list[int]:
    """The layers of a cache that hold every token; those that it has not made yet will be."""
    assert site.cache is not None
    made = own_part(site.cache).layers
    places = ModelAdapter.of(site.model).sites.values()
    layers = sorted({place.layer for place in places if place.kind == "self"})
    return [layer for layer in layers if layer >= len(made) or isinstance(made[layer], KVBuffer)]


@lru_cache(maxsize=512)
def _method(method: Attention, budget: Budget) -> Attention:
    return with_budget(method, budget)
