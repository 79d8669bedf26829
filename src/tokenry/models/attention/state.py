"""What a method remembers about one layer of one cache; it follows the cache wherever that goes."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields

from jaxtyping import Int
from torch import Tensor


@dataclass
class LayerState:
    """Base of all states. Subclasses add fields with defaults; tensors have the batch as first axis."""

    def select(self, rows: Int[Tensor, B2]) -> None:
        """Follow beams: reorder, repeat or drop sequences."""
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                setattr(self, f.name, value.index_select(0, rows))

    def forget(self) -> None:
        """Start anew: called when columns were evicted or cropped, which makes remembered places wrong."""
        for f in fields(self):
            if f.default is not MISSING:
                setattr(self, f.name, f.default)
            elif f.default_factory is not MISSING:
                setattr(self, f.name, f.default_factory())
