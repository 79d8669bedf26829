"""From tokens to chunks: the state that completes a chunk, the mean, what a query finds, or an encoder of words."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tokenry.attend.layers.aligned import aligned
from tokenry.segment.hierarchy.cuts import Cut, Seen, chosen, chunk_of
from tokenry.segment.hierarchy.stream import Stack

Chunks = tuple[Float[Tensor, "B M E"], Bool[Tensor, "B M"]]


@dataclass(slots=True)
class Pending:
    """Of each row the tokens behind the last complete chunk, which come first, and which of them are real."""

    x: Float[Tensor, "B S E"]
    real: Bool[Tensor, "B S"]

    @classmethod
    def none(cls, sequences: int, like: Float[Tensor, "*A E"]) -> Pending:
        """Nothing yet, of so many rows."""
        empty = like.new_zeros(sequences, 0, like.shape[-1])
        return cls(empty, torch.zeros(sequences, 0, dtype=torch.bool, device=like.device))

    def before(
        self, x: Float[Tensor, "B N E"], at: Bool[Tensor, "B N"], real: Bool[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "B S E"], Bool[Tensor, "B S"], Bool[Tensor, "B S"], Int[Tensor, "B N"]]:
        """These tokens with those that come now behind them: states, ends, which are real, and where the new ones are.

        What is behind the last end then is what is pending.
        """
        joined = torch.cat((self.real, real), 1)
        order, straight = aligned(joined)
        states = torch.cat((self.x, x), 1)
        states = states.gather(1, order.unsqueeze(-1).expand_as(states))
        ends = torch.cat((torch.zeros_like(self.real), at), 1).gather(1, order) & straight
        where = order.argsort(1)[:, self.real.shape[1] :]
        left = straight & (chunk_of(ends) == ends.sum(1, keepdim=True))
        self.x, self.real = chosen(states, left)
        return states, ends, straight, where


class Pool(nn.Module):
    """What makes one state, or a few, of the tokens of a chunk."""

    each = 1
    """States of a chunk."""

    def begin(self, sequences: int) -> Any:
        """What is remembered of chunks that are not complete."""
        return None

    @abstractmethod
    def read(self, x: Float[Tensor, "B N E"], seen: Seen, cut: Cut, memory: Any) -> Chunks:
        """The states of all chunks that are complete with these tokens; rows have different numbers of them."""


class Select(Pool):
    """The state with which a chunk is complete; more numbers than it has are one learned vector for all."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.more = nn.Parameter(torch.zeros(inner - width)) if inner > width else None

    def read(self, x: Float[Tensor, "B N E"], seen: Seen, cut: Cut, memory: Any) -> Chunks:
        z, there = chosen(x, cut.at)
        if self.more is not None:
            z = torch.cat((z, self.more.to(z.dtype).expand(*z.shape[:2], -1)), -1)
        return z, there


class Gathering(Pool):
    """A pool that looks at all tokens of a chunk."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def begin(self, sequences: int) -> Pending:
        return Pending.none(sequences, next(self.parameters()).new_zeros(self.width))


class Mean(Gathering):
    """The mean of a chunk's states, normed.

    The gradient of where chunks end goes through their sums: a token of chunk j weighs 1 - (c - j) with its number c
    of ends before it, which is 1, and less where another end before it would put it into the next chunk.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.norm = nn.RMSNorm(width)

    def read(self, x: Float[Tensor, "B N E"], seen: Seen, cut: Cut, memory: Pending | None) -> Chunks:
        at, weights = cut.at, None
        if memory is not None:
            x, at, _, _ = memory.before(x, at, seen.real)
        elif cut.soft is not None and cut.soft.requires_grad:
            earlier = cut.soft.cumsum(1) - cut.soft
            weights = 1 - (earlier - earlier.detach())
        z, there = means(x, at, weights)
        return self.norm(z), there


def means(x: Float[Tensor, "B N E"], at: Bool[Tensor, "B N"], weights: Float[Tensor, "B N"] | None = None) -> Chunks:
    """The means of complete chunks, summed in 32-bit floats: 16 bits do not count beyond 256."""
    weights = torch.ones_like(at, dtype=torch.float) if weights is None else weights.float()
    sums = summed(torch.cat((x.float() * weights.unsqueeze(-1), weights.unsqueeze(-1)), -1), at)
    there = _there(at)
    return (sums[..., :-1] / torch.where(there, sums[..., -1], 1.0).unsqueeze(-1)).to(x.dtype), there


def summed(x: Float[Tensor, "B N E"], at: Bool[Tensor, "B N"]) -> Float[Tensor, "B M E"]:
    """The sums of complete chunks; zeros where a row has fewer of them."""
    chunk, count = chunk_of(at), at.sum(1, keepdim=True)
    most = int(count.max()) if at.numel() else 0
    # What is in no complete chunk goes behind all that are.
    chunk = torch.where(chunk < count, chunk, most)
    out = x.new_zeros(len(x), most + 1, x.shape[-1]).scatter_add(1, chunk.unsqueeze(-1).expand_as(x), x)
    return out[:, :most]


def _there(at: Bool[Tensor, "B N"]) -> Bool[Tensor, "B M"]:
    count = at.sum(1, keepdim=True)
    most = int(count.max()) if at.numel() else 0
    return torch.arange(most, device=at.device) < count


class Query(Gathering):
    """What a learned query finds in a chunk: attention of several heads to its states."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__(width)
        self.heads = heads
        self.query = nn.Parameter(torch.randn(heads, width // heads) * (width // heads) ** -0.5)
        self.key, self.value = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, inner, bias=False)

    def read(self, x: Float[Tensor, "B N E"], seen: Seen, cut: Cut, memory: Pending | None) -> Chunks:
        at = cut.at
        if memory is not None:
            x, at, _, _ = memory.before(x, at, seen.real)
        keys = self.key(x).unflatten(-1, (self.heads, -1))
        scores = (keys * self.query).sum(-1).float() * keys.shape[-1] ** -0.5
        # Bounded, so that no chunk needs a largest score of its own; 16 bits are too few for what they become.
        weights = (20 * (scores / 20).tanh()).exp()
        values = self.value(x).float().unflatten(-1, (self.heads, -1)) * weights.unsqueeze(-1)
        sums = summed(torch.cat((values.flatten(2), weights), -1), at)
        found, total = sums[..., : x.shape[-1]], sums[..., x.shape[-1] :]
        there = _there(at)
        total = torch.where(there.unsqueeze(-1), total, 1.0)
        found = (found.unflatten(-1, (self.heads, -1)) / total.unsqueeze(-1)).flatten(2)
        return self.out(found.to(x.dtype)), there


class Word(Gathering):
    """A small encoder of each word by itself, in which its bytes and a few learned vectors all see each other.

    The outputs of these vectors are the word's states. A word's end is no part of it.
    """

    def __init__(self, encoder: Stack, width: int, inner: int, each: int) -> None:
        super().__init__(width)
        self.encoder, self.each = encoder, each
        self.slots = nn.Parameter(torch.randn(each, width) * 0.02)
        self.out = nn.Linear(width, inner, bias=False)

    def read(self, x: Float[Tensor, "B N E"], seen: Seen, cut: Cut, memory: Pending | None) -> Chunks:
        at, real = cut.at, seen.real
        if memory is not None:
            x, at, real, _ = memory.before(x, at, real)
        there = _there(at)
        starts = chosen(torch.arange(at.shape[1], device=x.device).expand_as(at).unsqueeze(-1), at)[0][..., 0]
        # A word begins behind the end of the one before.
        begin = torch.cat((torch.zeros_like(starts[:, :1]), starts[:, :-1] + 1), 1)
        begin, end, row = begin[there], starts[there], there.nonzero()[:, 0]
        made = x.new_zeros(len(row), self.each, self.out.out_features)
        for some in alike(end - begin):
            words, inside = canvases(x, begin[some], end[some], row[some])
            slots = self.slots.to(x.dtype).expand(len(words), -1, -1)
            inside = torch.cat((inside.new_ones(len(inside), self.each), inside), 1)
            states = self.encoder.both(torch.cat((slots, words), 1), inside)[:, : self.each]
            made[some] = self.out(states).to(made.dtype)
        z = made.new_zeros(*there.shape, *made.shape[1:])
        z[there] = made
        return z.flatten(1, 2), there.repeat_interleave(self.each, 1)


def alike(sizes: Int[Tensor, "W"]) -> Iterator[Int[Tensor, "some"]]:
    """Words of nearly the same size, so that few of what is computed side by side is padding."""
    kind = torch.where(sizes < 4, 0, (sizes.double() / 4).log2().mul(2).floor().long() + 1)
    for some in kind.unique().tolist():
        yield (kind == some).nonzero()[:, 0]


def canvases(
    x: Float[Tensor, "B N E"], begin: Int[Tensor, "W"], end: Int[Tensor, "W"], row: Int[Tensor, "W"]
) -> tuple[Float[Tensor, "W C E"], Bool[Tensor, "W C"]]:
    """The tokens of each word side by side, words of all rows below each other, and which of them are real."""
    most = int((end - begin).max()) if len(begin) else 0
    at = begin.unsqueeze(1) + torch.arange(most, device=x.device)
    inside = at < end.unsqueeze(1)
    return x[row.unsqueeze(1), torch.where(inside, at, 0)], inside
