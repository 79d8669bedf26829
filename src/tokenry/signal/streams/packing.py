"""Packing: sequences of different lengths share rows of one length and do not see each other.

As NaViT packs pictures of any shape (https://arxiv.org/abs/2307.06304): a row holds several sequences, attention stays
inside each, and positions begin anew. Little is left for padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.core.sequence import TokenSequence
from tokenry.core.tokens import TokenBatch


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Sequences in rows.

    Args:
        batch: the rows, left-padded; positions begin anew in every sequence, and all places are known.
        segments: number of the sequence within its row, from 1; 0 in padding.
        found: row and segment of each sequence, in the order in which they were given.
    """

    batch: TokenBatch
    segments: Int[Tensor, "B N"]
    found: tuple[tuple[int, int], ...]

    def attention(self, *, causal: bool = False) -> Bool[Tensor, "B 1 N N"]:
        """True where a query may see a key: within a sequence. Padding sees only itself, so that no row is empty.

        Args:
            causal: nothing sees what comes after it.
        """
        together = self.segments.unsqueeze(2) == self.segments.unsqueeze(1)
        seen = together & (self.segments > 0).unsqueeze(2)
        seen |= torch.eye(seen.shape[1], dtype=torch.bool, device=seen.device)
        return (seen.tril() if causal else seen).unsqueeze(1)

    def unpack(self, values: Shaped[Tensor, "B N *E"]) -> list[Shaped[Tensor, "T *E"]]:
        """What belongs to each sequence, in the order in which they were given.

        Args:
            values: anything with a row and a column for each token, such as hidden states.

        Raises:
            InvalidValue: another number of rows or columns.
        """
        if values.shape[:2] != self.segments.shape:
            raise InvalidValue(
                f"unpack: values must begin with (B, N) = {tuple(self.segments.shape)}; got {tuple(values.shape)}."
            )
        return [values[row, self.segments[row] == segment] for row, segment in self.found]


def pack(sequences: Sequence[TokenSequence], length: int) -> Packed:
    """Put sequences into rows, the longest first, each into the first row that has room (first fit decreasing).

    Args:
        length: tokens of every row, padding included.

    Raises:
        InvalidValue: no sequences, an empty one, one longer than a row, or embeddings in some of them only.
    """
    sizes = [len(s) for s in sequences]
    if not sizes or min(sizes) < 1 or max(sizes) > length:
        raise InvalidValue(
            f"pack: sequences must be at least one, of 1 to {length} tokens each; got lengths {sizes[:8]}; "
            "raise length or cut the long ones."
        )
    rows = first_fit_decreasing(sizes, length)
    batch = TokenBatch.collate([TokenSequence.joined([sequences[i] for i in row]) for row in rows])
    short = length - batch.shape[1]
    columns = torch.arange(-short, batch.shape[1]).clamp_min(-1)
    batch = batch.take(columns.expand(len(rows), -1))
    segments, positions = torch.zeros(2, len(rows), length, dtype=torch.long)
    found: list[tuple[int, int]] = [(0, 0)] * len(sizes)
    for at, row in enumerate(rows):
        first = length - sum(sizes[i] for i in row)
        for segment, i in enumerate(row, 1):
            found[i] = (at, segment)
            segments[at, first : first + sizes[i]] = segment
            positions[at, first : first + sizes[i]] = torch.arange(sizes[i])
            first += sizes[i]
    return Packed(replace(batch, positions=positions.unsqueeze(0)), segments, tuple(found))


def first_fit_decreasing(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Which of some sizes share a row, by their numbers."""
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        at = next((r for r, free in enumerate(room) if free >= sizes[i]), len(rows))
        if at == len(rows):
            rows.append([])
            room.append(length)
        rows[at].append(i)
        room[at] -= sizes[i]
    return rows
