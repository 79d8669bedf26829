"""Bigram-Backcopy: text of bigrams in which a few symbols, the triggers, make the symbol before them come again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.data import read
from tokenry.data.tasks.asked import NOTHING, Asked, Task

MOST_SYMBOLS = 4096
"""Symbols of a text beyond which it is refused, since there is a number for every pair of them."""


@dataclass(frozen=True, eq=False)
class BigramBackcopy:
    """A source of rows: begin mark, a symbol that is no trigger, then always

        x_{t+1} = x_{t-1} with probability `copy` where x_t is a trigger, else drawn from P(. | x_t).

    Args:
        symbols: the character of each id; the begin mark has the id after the last one.
        unigram: how often each symbol is in the text.
        bigram: P(next | symbol), rows that add up to one.
        triggers: ids of the symbols behind which a copy follows.
        copy: probability of the copy.
    """

    symbols: str
    unigram: Float[Tensor, "S"]
    bigram: Float[Tensor, "S S"]
    triggers: tuple[int, ...]
    copy: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.copy <= 1.0:
            raise InvalidValue(f"BigramBackcopy: copy must be in [0, 1]; got {self.copy}.")

    @classmethod
    def of_text(cls, text: str, *, triggers: int = 3, copy: float = 1.0) -> Self:
        """Count the characters of a text; its most frequent ones are the triggers.

        The last character counts as standing before the first one, so that every symbol has a next one.

        Raises:
            InvalidValue: a text without a symbol that is no trigger, or with very many symbols.
        """
        symbols = "".join(sorted(set(text)))
        if not 0 <= triggers < len(symbols) <= MOST_SYMBOLS:
            raise InvalidValue(
                f"BigramBackcopy: text must have more than {triggers} and at most {MOST_SYMBOLS} different characters; "
                f"got {len(symbols)}."
            )
        place = {symbol: i for i, symbol in enumerate(symbols)}
        ids = torch.tensor([place[symbol] for symbol in text])
        pairs = ids * len(symbols) + ids.roll(-1)
        counts = pairs.bincount(minlength=len(symbols) ** 2).view(len(symbols), -1).double()
        frequency = counts.sum(1)
        most = frequency.argsort(descending=True, stable=True)[:triggers]
        return cls(symbols, frequency / frequency.sum(), counts / frequency.unsqueeze(1), tuple(most.tolist()), copy)

    @property
    def begin(self) -> int:
        """The id of the begin mark."""
        return len(self.symbols)

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self.symbols) + 1

    def active(self, ids: Int[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
        """Where triggers stand."""
        return torch.isin(ids, torch.tensor(self.triggers, device=ids.device, dtype=ids.dtype))

    def sample(self, rows: int, length: int, generator: torch.Generator) -> Int[Tensor, "B N"]:
        """Rows of `length` ids, the begin mark included; the same generator gives the same rows."""
        if rows < 1 or length < 3:
            raise InvalidValue(f"BigramBackcopy: sample needs a row and 3 ids of each; got {rows} rows of {length}.")
        ids = torch.full((rows, length), self.begin)
        first = self.unigram.clone()
        first[list(self.triggers)] = 0
        ids[:, 1] = _draw((first / first.sum()).cumsum(0).expand(rows, -1), generator)
        following = self.bigram.cumsum(1)
        copied = self.active(torch.arange(len(self.symbols)).unsqueeze(0))[0]
        for t in range(2, length):
            drawn = _draw(following[ids[:, t - 1]], generator)
            copies = torch.rand(rows, generator=generator, dtype=torch.double) < self.copy
            ids[:, t] = torch.where(copied[ids[:, t - 1]] & copies, ids[:, t - 2], drawn)
        return ids

    def least(self, ids: Int[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """-log of the probability that the source gives to the next id, in nats; NaN at the last column.

        No model does better on average.
        """
        now, following = ids[:, 1:-1], ids[:, 2:]
        p = self.bigram[now, following]
        mixed = self.copy * (following == ids[:, :-2]) + (1 - self.copy) * p
        first = self.unigram.clone()
        first[list(self.triggers)] = 0
        found = torch.full(ids.shape, torch.nan, dtype=torch.double)
        found[:, 0] = -(first / first.sum())[ids[:, 1]].log()
        found[:, 1:-1] = -torch.where(self.active(now), mixed, p).log()
        return found


def _draw(cumulated: Float[Tensor, "B S"], generator: torch.Generator) -> Int[Tensor, "B"]:
    """One symbol for each row of cumulated probabilities; those of probability 0 never."""
    at = torch.rand(len(cumulated), 1, generator=generator, dtype=torch.double) * cumulated[:, -1:]
    return torch.searchsorted(cumulated.contiguous(), at, right=True)[:, 0]


@dataclass(frozen=True, kw_only=True)
class BackcopyRows(Task):
    """Rows of Bigram-Backcopy, of one of the sample documents; behind every trigger its copy is asked for.

    Args:
        length: ids of a row.
        triggers: symbols behind which a copy follows.
        document: the sample document whose characters are counted.
    """

    length: int = 64
    triggers: int = 3
    document: str = "moby_dick"

    @cached_property
    def source(self) -> BigramBackcopy:
        """Where the rows come from."""
        return BigramBackcopy.of_text(read(self.document), triggers=self.triggers)

    @property
    def size(self) -> int:
        return self.source.size

    def sample(self, rows: int, generator: torch.Generator) -> Asked:
        ids = self.source.sample(rows, self.length + 1, generator)
        labels = torch.where(self.source.active(ids[:, :-1]), ids[:, 1:], NOTHING)
        return Asked(ids[:, :-1], labels)
