"""A cache layer of attention and a recurrence together: keys may be forgotten, the recurrence goes its own way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import LinearAttentionLayer

from tokenry.models.cache.kv import KVBuffer


class HybridKV(KVBuffer, LinearAttentionLayer):  # type: ignore[misc]
    """A `KVBuffer` that also holds the recurrent states of its layer, which no eviction touches.

    Only a layer that is read from the start has such states: they can be neither cut nor made from keys and values.
    """

    supports_early_init = False

    def __init__(self) -> None:
        KVBuffer.__init__(self)
        LinearAttentionLayer.__init__(self)

    @classmethod
    def adopt(cls, layer: Any) -> HybridKV:
        """Take over what a hybrid layer of transformers' own cache holds."""
        buffer, recurrent = cls(), vars(LinearAttentionLayer())
        vars(buffer).update({name: value for name, value in vars(layer).items() if name in recurrent})
        if layer.is_initialized and layer.keys is not None and layer.keys.numel():
            buffer.update(layer.keys, layer.values)
        return buffer

    lazy_initialization = LinearAttentionLayer.lazy_initialization  # type: ignore[assignment]

    is_croppable = LinearAttentionLayer.is_croppable

    def crop(self, tokens_to_remove: int) -> None:
        LinearAttentionLayer.crop(self, tokens_to_remove)
        KVBuffer.crop(self, tokens_to_remove)

    def reset(self) -> None:
        LinearAttentionLayer.reset(self)
        KVBuffer.reset(self)

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.device is not None:
            LinearAttentionLayer.reorder_cache(self, indices)  # type: ignore[arg-type]
        KVBuffer.batch_select_indices(self, indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        held = next((s for s in (*self.conv_states.values(), *self.recurrent_states.values()) if s is not None), None)
        rows = self.keys if held is None else held
        if rows is not None:
            self.batch_select_indices(torch.arange(len(rows), device=rows.device).repeat_interleave(repeats))
