"""Rows of uneven length, stored without holes: one flat table for all sequences and heads."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


class RaggedRows:
    """Keys, values and columns where every sequence and KV head holds its own number of rows.

    Each (sequence, head) owns a run of the flat table with a little room behind it; the runs are padded to a
    rectangle only while one layer's attention reads them.
    """

    room = 64
    """Free rows behind every run after it was laid out."""

    def __init__(
        self, k: Float[Tensor, "R D"], v: Float[Tensor, "R Dv"], at: Int[Tensor, "R"],
        start: Int[Tensor, "B G"], length: Int[Tensor, "B G"],
    ) -> None:  # fmt: skip
        self._k, self._v, self._at = k, v, at
        self._start, self._length = start, length
        self._longest = int(length.max())

    @classmethod
    def gather(
        cls,
        keys: Float[Tensor, "B G K D"],
        values: Float[Tensor, "B G K Dv"],
        index: Int[Tensor, "B G M"],
        columns: Int[Tensor, "B G M"],
    ) -> RaggedRows:
        """Copy the rows `index` (-1 = none) out of a rectangle."""
        kept = index >= 0
        length = kept.sum(-1)
        start, total = _layout(length, cls.room)
        b, g, k, _ = keys.shape
        source = (torch.arange(b * g, device=index.device).view(b, g, 1) * k + index)[kept]
        target = (start.unsqueeze(-1) + kept.cumsum(-1) - 1)[kept]

        def copy(rows: Tensor) -> Tensor:
            table = rows.new_zeros(total, rows.shape[-1])
            table[target] = rows.reshape(b * g * k, -1)[source]
            return table

        at = columns.new_full((total,), -1)
        at[target] = columns[kept]
        return cls(copy(keys), copy(values), at, start, length)

    def append(self, k: Float[Tensor, "B G T D"], v: Float[Tensor, "B G T Dv"], first: int) -> None:
        """Write T new tokens, whose columns start at `first`, behind every run."""
        new = k.shape[2]
        if bool((self._length + new > self._limit()).any()):
            self._lay_out(new)
        steps = torch.arange(new, device=k.device)
        target = (self._start + self._length).unsqueeze(-1) + steps
        self._k[target] = k
        self._v[target] = v
        self._at[target] = first + steps
        self._length = self._length + new
        self._longest += new

    def shorten(self, count: int) -> None:
        """Leave out the newest `count` rows of every run."""
        self._length = self._length - count
        self._longest -= count

    def keys(self) -> Float[Tensor, "B G K D"]:
        """The rows as a rectangle; rows behind a run's end hold zeros."""
        return self._rectangle(self._k)

    def values(self) -> Float[Tensor, "B G K Dv"]:
        return self._rectangle(self._v)

    def columns(self) -> Int[Tensor, "B G K"]:
        """The column of every row of the rectangle, -1 behind a run's end."""
        at, inside = self._places()
        return torch.where(inside, self._at[at], -1)

    def select(self, sequences: Int[Tensor, B2]) -> RaggedRows:
        """Other sequences of the batch, in another order or repeated."""
        at, inside = self._places()
        at, inside = at[sequences], inside[sequences]
        length = self._length[sequences]
        start, total = _layout(length, self.room)
        target = (start.unsqueeze(-1) + torch.arange(at.shape[-1], device=at.device))[inside]

        def copy(table: Tensor) -> Tensor:
            out = table.new_zeros(total, *table.shape[1:])
            out[target] = table[at[inside]]
            return out

        return RaggedRows(copy(self._k), copy(self._v), copy(self._at), start, length)

    @property
    def held_bytes(self) -> int:
        return int(self._length.sum()) * (self._k[0].nbytes + self._v[0].nbytes)

    @property
    def allocated_bytes(self) -> int:
        return self._k.nbytes + self._v.nbytes + self._at.nbytes

    def _places(self) -> tuple[Tensor, Tensor]:
        steps = torch.arange(self._longest, device=self._k.device)
        inside = steps < self._length.unsqueeze(-1)
        return torch.where(inside, self._start.unsqueeze(-1) + steps, 0), inside

    def _rectangle(self, table: Tensor) -> Tensor:
        at, inside = self._places()
        return table[at] * inside.unsqueeze(-1)

    def _limit(self) -> Tensor:
        flat = self._start.flatten()
        end = torch.cat((flat[1:], flat.new_tensor([len(self._k)])))
        return (end - flat).view_as(self._start)

    def _lay_out(self, new: int) -> None:
        at, inside = self._places()
        start, total = _layout(self._length, self.room + new)
        target = (start.unsqueeze(-1) + torch.arange(at.shape[-1], device=at.device))[inside]
        for name in ("_k", "_v", "_at"):
            table = getattr(self, name)
            moved = table.new_zeros(total, *table.shape[1:])
            moved[target] = table[at[inside]]
            setattr(self, name, moved)
        self._start = start


def _layout(length: Int[Tensor, "B G"], room: int) -> tuple[Int[Tensor, "B G"], int]:
    sizes = (length + room).flatten()
    ends = sizes.cumsum(0)
    return (ends - sizes).view_as(length), int(ends[-1])
