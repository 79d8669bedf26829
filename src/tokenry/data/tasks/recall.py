"""Keys with their values in a row, and questions for them: next to each other, or far apart in other text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.data.tasks.asked import NOTHING, Asked, Task

FILLER = 0


@dataclass(frozen=True, kw_only=True)
class AssociativeRecall(Task):
    """Multi-query associative recall: all pairs first, then the keys again, each of which asks for its value.

    Ids are 0 for what fills the row, then all keys, then all values. Between two questions stand so many fillers that
    recent pairs are asked for sooner more often than not.

    Args:
        pairs: of a row, no key twice.
        length: ids of a row.
        keys: different keys.
        values: different values.
    """

    pairs: int = 8
    length: int = 64
    keys: int = 64
    values: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.pairs <= self.keys or self.values < 1:
            raise InvalidValue(f"AssociativeRecall: pairs must be in [1, {self.keys}], the keys; got {self.pairs}.")
        if self.length < 4 * self.pairs:
            raise InvalidValue(
                f"AssociativeRecall: length must be at least 4 ids for each of {self.pairs} pairs; got {self.length}."
            )

    @property
    def size(self) -> int:
        return 1 + self.keys + self.values

    def sample(self, rows: int, generator: torch.Generator) -> Asked:
        keys = 1 + _different(rows, self.pairs, self.keys, generator)
        values = 1 + self.keys + torch.randint(self.values, (rows, self.pairs), generator=generator)
        ids = torch.full((rows, self.length), FILLER)
        labels = torch.full((rows, self.length), NOTHING)
        first = 2 * self.pairs
        ids[:, 0:first:2], ids[:, 1:first:2] = keys, values
        slots = (self.length - first) // 2
        # Zoology draws the places of questions by a power law: most come soon.
        chance = (0.1 * torch.arange(1, slots + 1, dtype=torch.double) ** -0.9).expand(rows, -1)
        slot = first + 2 * torch.multinomial(chance, self.pairs, generator=generator)
        ids.scatter_(1, slot, keys)
        ids.scatter_(1, slot + 1, values)
        return Asked(ids, labels.scatter(1, slot, values))


@dataclass(frozen=True, kw_only=True)
class FarRetrieval(Task):
    """Pairs at random places of a long row, and one question for each of some of them at its end.

    Ids are 0 for "a pair follows", 1 for "what belongs to", then all keys, all values, and what fills the row. A pair
    is 0, key, value; a question is 1, key, value.

    Args:
        pairs: of a row, no key twice.
        asked: questions at the end.
        length: ids of a row.
        keys: different keys.
        values: different values.
        fillers: different ids between the pairs.
    """

    pairs: int = 4
    asked: int = 2
    length: int = 256
    keys: int = 32
    values: int = 32
    fillers: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.asked <= self.pairs <= self.keys or self.values < 1 or self.fillers < 1:
            raise InvalidValue(
                f"FarRetrieval: pairs must be at most the {self.keys} keys, and asked at most the pairs; got "
                f"{self.pairs} and {self.asked}."
            )
        if self.length < 3 * (2 * self.pairs + self.asked):
            raise InvalidValue(
                f"FarRetrieval: length must hold {self.pairs} pairs and {self.asked} questions; got {self.length}."
            )

    @property
    def size(self) -> int:
        return 2 + self.keys + self.values + self.fillers

    def sample(self, rows: int, generator: torch.Generator) -> Asked:
        keys = 2 + _different(rows, self.pairs, self.keys, generator)
        values = 2 + self.keys + torch.randint(self.values, (rows, self.pairs), generator=generator)
        ids = 2 + self.keys + self.values + torch.randint(self.fillers, (rows, self.length), generator=generator)
        labels = torch.full((rows, self.length), NOTHING)
        # Pairs stand on a grid of three, so that none lies on another.
        room = (self.length - 3 * self.asked) // 3
        at = 3 * _different(rows, self.pairs, room, generator)
        questions = self.length - 3 * self.asked + 3 * torch.arange(self.asked).expand(rows, -1)
        for mark, places, k, v in (
            (0, at, keys, values), (1, questions, keys[:, : self.asked], values[:, : self.asked])
        ):  # fmt: skip
            ids.scatter_(1, places, mark)
            ids.scatter_(1, places + 1, k)
            ids.scatter_(1, places + 2, v)
        return Asked(ids, labels.scatter(1, questions + 1, values[:, : self.asked]))


def _different(rows: int, count: int, of: int, generator: torch.Generator) -> Int[Tensor, "B M"]:
    """For each row some numbers below `of`, none twice, in random order."""
    drawn: Float[Tensor, "B S"] = torch.rand(rows, of, generator=generator)
    return drawn.argsort(-1)[:, :count]
