"""Weights of old rows that make new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.embed.transfer.donor import Donor, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Some weights of old rows for each of `size` new ones.

    Args:
        size: new rows.
        new: which of them a weight belongs to.
        old: which old row it weighs.
        weight: of a mean they sum to one; a new row may have none.
    """

    size: int
    new: Int[Tensor, "W"]
    old: Int[Tensor, "W"]
    weight: Float[Tensor, "W"]

    @classmethod
    def softmax(cls, size: int, new: Int[Tensor, "W"], old: Int[Tensor, "W"], values: Float[Tensor, "W"]) -> Mixture:
        """Weights that are the softmax of values, over the old rows of each new one."""
        return cls(size, new, old, segment_softmax(values, new, size))

    @property
    def known(self) -> Bool[Tensor, "P"]:
        """Which new rows have weights."""
        found = torch.zeros(self.size, dtype=torch.bool)
        found[self.new] = True
        return found

    def scaled(self, factor: Float[Tensor, "P"]) -> Mixture:
        """The weights of each new row times its factor."""
        return Mixture(self.size, self.new, self.old, self.weight * factor[self.new])

    def __add__(self, other: Mixture) -> Mixture:
        new, old = torch.cat((self.new, other.new)), torch.cat((self.old, other.old))
        return Mixture(self.size, new, old, torch.cat((self.weight, other.weight)))

    def rows(self, donor: Donor, pieces: Sequence[bytes | None], seed: int) -> Rows:
        """The new rows, of input and output by the same weights; pieces without weights draw theirs."""
        bare = (~self.known).nonzero()[:, 0]
        drawn = donor.draw([pieces[i] for i in bare.tolist()], seed)
        made = self.of(donor.input).index_copy(0, bare, drawn.input)
        if donor.output is None or drawn.output is None:
            return Rows(made, None)
        return Rows(made, self.of(donor.output).index_copy(0, bare, drawn.output))

    def of(self, matrix: Float[Tensor, "V E"]) -> Float[Tensor, "P E"]:
        """The new rows from those of one matrix; zero where there are no weights."""
        weights = torch.sparse_coo_tensor(
            torch.stack((self.new, self.old)), self.weight, (self.size, len(matrix)), check_invariants=True
        )
        return weights @ matrix.float().cpu()


def segment_softmax(values: Float[Tensor, "W"], segment: Int[Tensor, "W"], size: int) -> Float[Tensor, "W"]:
    """The softmax of values over those of the same segment."""
    top = torch.full((size,), -torch.inf).scatter_reduce(0, segment, values, "amax")
    raised = (values - top[segment]).exp()
    return raised / torch.zeros(size).index_add(0, segment, raised)[segment]


def mean(parts: list[list[int]]) -> Mixture:
    """The mean of the old rows of each new one."""
    new, old = flat(parts)
    return Mixture.softmax(len(parts), new, old, torch.zeros(len(new)))


def flat(parts: list[list[int]]) -> tuple[Int[Tensor, "W"], Int[Tensor, "W"]]:
    """Lists of ids as the number of the list and the id."""
    sizes = torch.tensor([len(ids) for ids in parts], dtype=torch.long)
    old = torch.tensor([i for ids in parts for i in ids], dtype=torch.long)
    return torch.arange(len(parts)).repeat_interleave(sizes), old


def lengths(pieces: Sequence[bytes | None]) -> Float[Tensor, "P"]:
    """Bytes of each piece."""
    return torch.tensor([len(piece or b"") for piece in pieces], dtype=torch.float32)
