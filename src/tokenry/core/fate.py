"""Where every original token went: a sparse weighted map from columns now to originals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Fate:
    """A block-diagonal sparse matrix of shape (B·N, B·N0): how much of each original stands in each column.

    An untouched original has weight one in one column, a dropped one has none, and merging conserves weight.
    Maps compose by sparse product, so the record survives any mixture of dropping, merging, splitting
    and many-to-many summarising.

    Args:
        index: column·original pairs of the non-zero weights, sorted and unique.
        weight: their weights.
        shape: (B, N, N0), tokens now and originally.
    """

    index: Int[Tensor, "2 Z"]
    weight: Float[Tensor, "Z"]
    shape: tuple[int, int, int]

    @classmethod
    def identity(cls, mask: Bool[Tensor, "B N"]) -> Fate:
        """Every real token is its own original; padding has none."""
        at = mask.flatten().nonzero()[:, 0]
        b, n = mask.shape
        return cls(torch.stack((at, at)), torch.ones(len(at), device=mask.device), (b, n, n))

    @classmethod
    def from_dense(cls, weights: Float[Tensor, "B M N"]) -> Fate:
        """A step that builds M new columns as weighted sums of N old ones."""
        b, new, old = weights.nonzero(as_tuple=True)
        rows, m, n = weights.shape
        return cls(torch.stack((b * m + new, b * n + old)), weights[b, new, old].float(), (rows, m, n))

    @classmethod
    def taking(cls, keep: Int[Tensor, "B M"], n: int) -> Fate:
        """A step that keeps the columns `keep` of `n`; -1 makes a column without originals."""
        b, m = keep.shape
        row, new = (keep >= 0).nonzero(as_tuple=True)
        index = torch.stack((row * m + new, row * n + keep[row, new]))
        return cls(index, torch.ones(index.shape[1], device=keep.device), (b, m, n))

    @classmethod
    def summed(cls, index: Int[Tensor, "2 Z"], weight: Float[Tensor, "Z"], shape: tuple[int, int, int]) -> Fate:
        """Sort the pairs and add the weights of equal ones."""
        b, _, n0 = shape
        key = index[0] * (b * n0) + index[1]
        unique, group = key.unique(return_inverse=True)
        total = torch.zeros(len(unique), device=weight.device).index_add(0, group, weight)
        return cls(torch.stack((unique // (b * n0), unique % (b * n0))), total, shape)

    def then(self, step: Fate) -> Fate:
        """The fate after one more `step`, whose originals are the columns now."""
        new, middle = step.index
        starts = torch.searchsorted(self.index[0], middle)
        runs = torch.searchsorted(self.index[0], middle, right=True) - starts
        within = torch.arange(int(runs.sum()), device=runs.device) - (runs.cumsum(0) - runs).repeat_interleave(runs)
        at = starts.repeat_interleave(runs) + within
        b, m, _ = step.shape
        pairs = torch.stack((new.repeat_interleave(runs), self.index[1][at]))
        weight = step.weight.repeat_interleave(runs) * self.weight[at]
        return Fate.summed(pairs, weight, (b, m, self.shape[2]))

    def dense(self) -> Float[Tensor, "B N N0"]:
        """The map as a full tensor, for small examples and tests."""
        b, n, n0 = self.shape
        out = torch.zeros(b, n, n0, device=self.weight.device)
        column, original = self.index
        out[column // n, column % n, original % n0] = self.weight
        return out

    def survival(self) -> Float[Tensor, "B N0"]:
        """How much of each original is left, summed over columns."""
        b, _, n0 = self.shape
        return torch.zeros(b * n0, device=self.weight.device).index_add(0, self.index[1], self.weight).view(b, n0)

    def counts(self) -> Float[Tensor, "B N"]:
        """How many originals each column stands for."""
        b, n, _ = self.shape
        return torch.zeros(b * n, device=self.weight.device).index_add(0, self.index[0], self.weight).view(b, n)

    def originals(self, row: int, column: int) -> list[int]:
        """The originals in one column, ascending."""
        _, n, n0 = self.shape
        hits = self.index[1][self.index[0] == row * n + column]
        return sorted((hits % n0).tolist())

    def to(self, device: torch.device | str) -> Fate:
        return Fate(self.index.to(device), self.weight.to(device), self.shape)
