"""What models of chunks are compared with: the same blocks over all bytes, or over the ids of a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from tokenry.core.fields import positive, setting
from tokenry.core.learned import Learned
from tokenry.segment.bpe import Bpe
from tokenry.segment.hierarchy.model import spelled
from tokenry.segment.hierarchy.stream import Stack


@dataclass(eq=False, repr=False, kw_only=True)
class Flat(Learned):
    """Predicts the next id with blocks over all of them."""

    room: ClassVar[str] = "segment"

    layers: int = positive(6, doc="blocks")
    heads: int = positive(4, doc="heads of each block")
    source: str = setting("", doc="folder of a tokenizer; bytes where there is none")

    def make(self, *, width: int) -> None:
        size = 256 if self.tokenizer is None else self.tokenizer.vocab_size
        self.mark = size
        self.embed = nn.Embedding(size + 1, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.stack = Stack(width, self.layers, self.heads, 4)
        self.head = nn.Linear(width, size + 1, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    @cached_property
    def tokenizer(self) -> Bpe | None:
        return Bpe(source=self.source) if self.source else None

    def forward(self, ids: Tensor, real: Tensor | None = None) -> Tensor:
        return self.head(self.stack.read(self.embed(ids), torch.ones_like(ids, dtype=torch.bool)))

    def loss(self, ids: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        logits, asked = self(ids), real[:, 1:]
        nats = nn.functional.cross_entropy(logits[:, :-1][asked], ids[:, 1:][asked], reduction="sum")
        return nats, nats.new_zeros(())

    def ids(self, data: bytes) -> list[int]:
        return [self.mark, *(data if self.tokenizer is None else self.tokenizer.ids(data))]

    def pieces(self, ids: list[int]) -> list[bytes]:
        """What each id spells."""
        if self.tokenizer is None:
            return [spelled([id]) for id in ids]
        return [b"" if id == self.mark else self.tokenizer.vocabulary[id] or b"" for id in ids]
