"""One vocabulary for several kinds of tokens: each kind has a range of ids of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenry.core.errors import InvalidValue

MOST = 1 << 31
"""Ids of a vocabulary, all ranges together."""


@dataclass(frozen=True, slots=True)
class IdRange:
    """The ids from `first` to before `end` belong to one kind of token."""

    name: str
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first


class UnifiedVocabulary:
    """Ranges of ids, one after the other; they never overlap.

    Args:
        sizes: name and number of ids of each range, in order.

    Raises:
        InvalidValue: a name twice, a negative size, or too many ids.
    """

    def __init__(self, sizes: Sequence[tuple[str, int]]) -> None:
        names = [name for name, _ in sizes]
        if len(set(names)) != len(names) or any(size < 0 for _, size in sizes) or sum(s for _, s in sizes) > MOST:
            raise InvalidValue(f"vocabulary: ranges must have names of their own and 0 to {MOST} ids; got {sizes}.")
        self.ranges: dict[str, IdRange] = {}
        first = 0
        for name, size in sizes:
            self.ranges[name] = IdRange(name, first, first + size)
            first += size
        self._size = first

    def __len__(self) -> int:
        return self._size

    def lift(self, name: str, ids: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
        """A kind's own ids as ids of the whole.

        Raises:
            InvalidValue: an id that the kind does not have.
        """
        held = self.ranges[name]
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(held):
            raise InvalidValue(
                f"{name}: ids must be from 0 to {len(held) - 1}; got {int(ids.min())} to {int(ids.max())}."
            )
        return ids + held.first

    def lower(self, name: str, ids: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
        """The inverse of `lift`.

        Raises:
            InvalidValue: an id of another kind.
        """
        held = self.ranges[name]
        wrong = ids[(ids < held.first) | (ids >= held.end)]
        if len(wrong):
            raise InvalidValue(
                f"{name}: ids must be from {held.first} to {held.end - 1}; got {(n := int(wrong[0]))}, {self.kind(n)}."
            )
        return ids - held.first

    def kind(self, number: int) -> str:
        """The range of an id, or `no id`."""
        return next((r.name for r in self.ranges.values() if r.first <= number < r.end), "no id")

    def allowed(self, *names: str) -> Bool[Tensor, "V"]:
        """True for the ids of these ranges: what may be said at a place of the stream."""
        mask = torch.zeros(len(self), dtype=torch.bool)
        for name in names:
            held = self.ranges[name]
            mask[held.first : held.end] = True
        return mask
