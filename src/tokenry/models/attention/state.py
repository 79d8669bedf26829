"""What a method remembers about one layer of one cache; it follows the cache wherever that goes."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields

from jaxtyping import Int
from torch import Tensor


@dataclass
class LayerState:
    """Base of all states. Subclasses add fields with defaults.

    A field holds a tensor whose first axis counts the sequences of the batch, or a plain value that all sequences
    share: a number, a word, None. Nothing else follows beams, and nothing else is frozen with a cache.
    """

    def select(self, sequences: Int[Tensor, B2]) -> None:
        """Follow beams: reorder, repeat or drop sequences, in every tensor."""
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                setattr(self, f.name, value.index_select(0, sequences))

    def forget(self) -> None:
        """Start anew: called when rows were evicted or cropped, which makes remembered rows wrong.

        A state that remembers columns, or nothing of single tokens, may override this to go on.
        """
        for f in fields(self):
            if f.default is not MISSING:
                setattr(self, f.name, f.default)
            elif f.default_factory is not MISSING:
                setattr(self, f.name, f.default_factory())
