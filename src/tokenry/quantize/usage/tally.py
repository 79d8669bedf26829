"""How often each code of one codebook was seen, over any number of batches."""

from __future__ import annotations

import math

import torch
from jaxtyping import Int
from torch import Tensor

from tokenry.core.errors import InvalidValue

MOST_LISTED = 1 << 24
"""Codes of a codebook beyond which a number for each of them is refused."""


class Tally:
    """Counts of the codes that were seen; codes that never came take no memory.

    Attributes:
        codes: those that were seen, in order.
        counts: how often each of them was.
    """

    codes: Int[Tensor, "M"]
    counts: Int[Tensor, "M"]

    def __init__(self, size: int) -> None:
        self.size = size
        self.codes = self.counts = torch.empty(0, dtype=torch.long)

    def add(self, codes: Int[Tensor, "T"]) -> None:
        """Count some more."""
        found, counts = codes.unique(return_counts=True)
        self._join(found.cpu(), counts.cpu())

    def merge(self, other: Tally) -> None:
        """Count what another tally of the same codebook has counted."""
        self._join(other.codes, other.counts)

    @property
    def tokens(self) -> int:
        """Codes that came, each as often as it did."""
        return int(self.counts.sum())

    @property
    def used(self) -> int:
        """Different codes that came."""
        return len(self.codes)

    @property
    def entropy(self) -> float:
        """-sum p log2 p in bits, of the shares that were counted; NaN before the first code."""
        if not self.used:
            return math.nan
        shares = self.counts.double() / self.tokens
        return float(torch.special.entr(shares).sum()) / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(-sum p ln p): as many codes, all equally likely, would be as hard to guess."""
        return float(2**self.entropy)

    def dense(self) -> Int[Tensor, "C"]:
        """A count for every code.

        Raises:
            InvalidValue: a codebook too large for that.
        """
        if self.size > MOST_LISTED:
            raise InvalidValue(f"Tally: codes must be at most {MOST_LISTED} to be listed; got {self.size}.")
        return torch.zeros(self.size, dtype=torch.long).index_add_(0, self.codes, self.counts)

    def _join(self, codes: Int[Tensor, "T"], counts: Int[Tensor, "T"]) -> None:
        self.codes, places = torch.cat((self.codes, codes)).unique(return_inverse=True)
        both = torch.cat((self.counts, counts))
        self.counts = torch.zeros(len(self.codes), dtype=torch.long).index_add_(0, places, both)
