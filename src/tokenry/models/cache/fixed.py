"""A cache layer of fixed capacity: its tensors keep their shapes and places, as compiled graphs want them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, LinearAttentionLayer

from tokenry.core.errors import ContextOverflow, Incompatible, InvalidValue
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.kv import KVBuffer, written


class FixedKV(KVBuffer):
    """Rows are written into tensors made once; empty slots have column -1, also where heads keep unequal numbers.

    Attention reads all slots in every step, so a step costs the same from the first to the last.

    Args:
        capacity: C, rows that every sequence and KV head has room for.

    Raises:
        ContextOverflow: on a row too many.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.longest = 0
        """Rows of the fullest head, counted without asking the device."""
        self.filled: Int[Tensor, "B G"] | None = None

    @property
    def keys(self) -> Tensor | None:
        return self._k

    @keys.setter
    def keys(self, value: Tensor | None) -> None:
        self._k = value

    @property
    def values(self) -> Tensor | None:
        return self._v

    @values.setter
    def values(self, value: Tensor | None) -> None:
        self._v = value

    @property
    def ragged(self) -> bool:
        return True

    @property
    def held_bytes(self) -> int:
        if self._k is None or self._v is None or self.filled is None:
            return 0
        return int(self.filled.sum()) * (self._k[0, 0, 0].nbytes + self._v[0, 0, 0].nbytes)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def update(
        self, key_states: Float[Tensor, "B G T D"], value_states: Float[Tensor, "B G T Dv"], *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        written.buffer = self
        new = key_states.shape[2]
        if self._k is None:
            self._make(key_states, value_states)
        assert self._k is not None
        assert self._v is not None
        assert self.columns is not None
        assert self.filled is not None
        if self.incoming is not None:
            raise Incompatible(
                "cache: fixed capacity cannot follow tokens that change between layers; use a growing one."
            )
        if self.longest + new > self.capacity:
            raise ContextOverflow(
                f"cache: must hold at most capacity={self.capacity} rows; got {self.longest + new}; make it larger."
            )
        steps = torch.arange(new, device=self.device)
        at = self.filled.unsqueeze(-1) + steps
        self._k.scatter_(2, at.unsqueeze(-1).expand_as(key_states), key_states)
        self._v.scatter_(2, at.unsqueeze(-1).expand_as(value_states), value_states)
        self.columns.scatter_(2, at, (self.seen + steps).expand_as(at))
        self.filled += new
        self.seen += new
        self.longest += new
        return self._k, self._v

    def _hold(self, rows: Int[Tensor, "B G M"]) -> None:
        assert self._k is not None
        assert self._v is not None
        assert self.columns is not None
        assert self.filled is not None
        m, at = rows.shape[-1], rows.clamp_min(0)
        columns = torch.where(rows >= 0, self.columns.gather(2, at), -1)
        for held in (self._k, self._v):
            held[:, :, :m] = held.gather(2, at.unsqueeze(-1).expand(-1, -1, -1, held.shape[-1]))
        self.columns.fill_(-1)
        self.columns[..., :m] = columns
        self.filled.copy_((rows >= 0).sum(-1))
        self.longest = m

    def _shorten(self, count: int) -> None:
        assert self.columns is not None
        assert self.filled is not None
        self.filled -= count
        self.longest -= count
        self.columns.masked_fill_(self.columns >= self.seen - count, -1)

    def fill(self, keys: Float[Tensor, "R D"], values: Float[Tensor, "R Dv"], columns: Int[Tensor, "B G K"]) -> None:
        other = KVBuffer()
        other.fill(keys, values, columns)
        k, v = other.rows()
        assert other.columns is not None
        self._clear()
        self.update(k, v)
        assert self.columns is not None
        assert self.filled is not None
        self.columns[..., : k.shape[2]] = other.columns
        self.filled.copy_((other.columns >= 0).sum(-1))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def get_seq_length(self) -> int:
        return self.seen

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def reset(self) -> None:
        self.seen = self.settled = self.final = 0
        self.began, self.unsure, self.evicted = None, "", []
        self._clear()
        for state in self.states:
            state.forget()

    def _clear(self) -> None:
        self.longest = 0
        if self.columns is not None and self.filled is not None:
            self.columns.fill_(-1)
            self.filled.zero_()

    def batch_select_indices(self, indices: Tensor) -> None:
        if self._k is None or self._v is None or self.columns is None or self.filled is None:
            return
        if len(indices) != len(self._k):
            self._k, self._v = self._k.index_select(0, indices), self._v.index_select(0, indices)
            self.columns, self.filled = self.columns.index_select(0, indices), self.filled.index_select(0, indices)
        else:
            for mine in (self._k, self._v, self.columns, self.filled):
                mine.copy_(mine.index_select(0, indices))
        self._select_others(indices)

    def _make(self, k: Tensor, v: Tensor) -> None:
        self.dtype, self.device, self.is_initialized = k.dtype, k.device, True
        b, g = k.shape[:2]
        self._k = k.new_zeros(b, g, self.capacity, k.shape[-1])
        self._v = v.new_zeros(b, g, self.capacity, v.shape[-1])
        self.columns = torch.full((b, g, self.capacity), -1, device=k.device)
        self.filled = torch.zeros(b, g, dtype=torch.long, device=k.device)


def fixed_cache(model: PreTrainedModel, capacity: int) -> DynamicCache:
    """A cache of `FixedKV` layers for a model, to be bound to a method or used densely.

    Raises:
        InvalidValue: a capacity below 1.
        Incompatible: the model has layers with a sliding window or a recurrence of their own.
    """
    if capacity < 1:
        raise InvalidValue(f"capacity: must be at least 1; got {capacity}.")
    cache = DynamicCache(config=model.config)
    if any(getattr(layer, "is_sliding", True) or isinstance(layer, LinearAttentionLayer) for layer in cache.layers):
        raise Incompatible(
            "cache: fixed capacity needs layers without a sliding window or a recurrence of their own; this model has "
            "some; use a growing one."
        )
    layers = sum(p.kind == "self" for p in ModelAdapter.of(model).sites.values())
    cache.layers[:] = [FixedKV(capacity) for _ in range(layers)]
    return cache
