"""What a method remembers about one layer of one cache; it follows the cache wherever that goes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import MISSING, dataclass, fields
from typing import Any

from jaxtyping import Int
from torch import Tensor

STEPS = 64
"""Steps that can be taken back: more than any draft is long."""


@dataclass
class LayerState:
    """Base of all states. Subclasses add fields with defaults.

    A field holds a tensor whose first axis counts the sequences of the batch, or a plain value that all sequences
    share: a number, a word, None. Nothing else follows beams, and nothing else is frozen with a cache. A field whose
    value changes gets another tensor, so that what it was before can be had again.
    """

    @property
    def _past(self) -> OrderedDict[int, dict[str, Any]]:
        """The fields as they were, by the number of tokens seen then."""
        past: OrderedDict[int, dict[str, Any]] = vars(self).setdefault("_steps", OrderedDict())
        return past

    def select(self, sequences: Int[Tensor, B2]) -> None:
        """Follow beams: reorder, repeat or drop sequences, in every tensor."""
        for values in (vars(self), *self._past.values()):
            for f in fields(self):
                if isinstance(values[f.name], Tensor):
                    values[f.name] = values[f.name].index_select(0, sequences)

    def remember(self, seen: int) -> None:
        """Be able to return to what is known now, when `seen` tokens were seen."""
        self._past[seen] = {f.name: getattr(self, f.name) for f in fields(self)}
        if len(self._past) > STEPS:
            self._past.popitem(last=False)

    def settle(self) -> None:
        """What was remembered is not asked for any more."""
        if "_steps" in vars(self):
            self._past.clear()

    def crop(self, seen: int) -> None:
        """Go back to what was known when `seen` tokens were seen; start anew where that is not remembered."""
        if seen in self._past:
            vars(self).update(self._past[seen])
        else:
            self.forget()
        for later in [n for n in self._past if n > seen]:
            del self._past[later]

    def forget(self) -> None:
        """Start anew: called when rows were evicted or cropped, which makes remembered rows wrong.

        A state that remembers columns, or nothing of single tokens, may override this to go on.
        """
        for f in fields(self):
            if f.default is not MISSING:
                setattr(self, f.name, f.default)
            elif f.default_factory is not MISSING:
                setattr(self, f.name, f.default_factory())
