"""One level of a hierarchy: an encoder, what cuts, what pools, what reads the chunks, and what gives them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tokenry.segment.hierarchy.cuts import Cut, Seen
from tokenry.segment.hierarchy.pooling import Pool
from tokenry.segment.hierarchy.stream import Stack
from tokenry.segment.hierarchy.unpooling import Unpool
from tokenry.segment.parts.boundaries import Boundaries


@dataclass(slots=True)
class Memory:
    """What a level remembers of the rows it has read: what each of its parts does, and how many chunks there were."""

    encoder: Any
    boundaries: Any
    pool: Any
    inner: Any
    unpool: Any
    chunks: Int[Tensor, "B"]


class Level(nn.Module):
    """Tokens go through an encoder, those of a chunk become one, chunks are read, and tokens get them back.

    Args:
        encoder: of the tokens; None where a pool is all the encoder there is.
        inner: reads the chunks: blocks, or another level.
    """

    def __init__(
        self, encoder: Stack | None, boundaries: Boundaries, pool: Pool, inner: Stack | Level, unpool: Unpool
    ) -> None:
        super().__init__()
        self.encoder, self.boundaries, self.pool, self.inner, self.unpool = encoder, boundaries, pool, inner, unpool

    def begin(self, sequences: int) -> Memory:
        """Nothing read yet, of so many rows."""
        encoder = None if self.encoder is None else self.encoder.begin(sequences)
        return Memory(
            encoder, self.boundaries.begin(sequences), self.pool.begin(sequences), self.inner.begin(sequences),
            self.unpool.begin(sequences), torch.zeros(sequences, dtype=torch.long),
        )  # fmt: skip

    def cut(self, x: Float[Tensor, "B N E"], seen: Seen, memory: Memory | None = None) -> tuple[Tensor, Cut]:
        """Encoded tokens, and where chunks end among them."""
        if self.encoder is not None:
            x = self.encoder.read(x, seen.real, None if memory is None else memory.encoder)
        return x, self.boundaries.read(x, seen, None if memory is None else memory.boundaries)

    def read(
        self, x: Float[Tensor, "B N E"], seen: Seen, memory: Memory | None = None
    ) -> tuple[Float[Tensor, "B N E"], list[Cut]]:
        """Tokens on top of a memory, or whole rows where there is none; and where this level and those within cut."""
        x, cut = self.cut(x, seen, memory)
        z, there = self.pool.read(x, seen, cut, None if memory is None else memory.pool)
        y, deeper = self._inside(z, there, memory)
        return self.unpool.read(y, there, x, seen, cut, None if memory is None else memory.unpool), [cut, *deeper]

    def _inside(
        self, z: Float[Tensor, "B M D"], there: Bool[Tensor, "B M"], memory: Memory | None
    ) -> tuple[Float[Tensor, "B M D"], list[Cut]]:
        if isinstance(self.inner, Stack):
            return self.inner.read(z, there, None if memory is None else memory.inner), []
        places = torch.arange(z.shape[1], device=z.device).expand_as(there)
        if memory is not None:
            memory.chunks = memory.chunks.to(z.device)
            places = places + memory.chunks.unsqueeze(1)
            memory.chunks = memory.chunks + there.sum(1)
        return self.inner.read(z, Seen(there, places), None if memory is None else memory.inner)
