"""A table of vectors with an account of how often each is used."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenry.core.errors import InvalidValue
from tokenry.quantize.codebooks.whole_buffers import WholeBuffers
from tokenry.quantize.codebooks.workers import same, total
from tokenry.quantize.search.means import gathered

MOST = 1 << 28
"""Numbers of a table beyond which its sizes, perhaps read from a file, are refused."""


class Codebook(WholeBuffers):
    """C vectors of width E.

    Args:
        learnt: the table is a parameter, moved by an optimiser; else a buffer, moved by averages.

    Attributes:
        counts: moving average of the vectors of each code.
        sums: moving average of their sums.
        started: whether the table holds anything yet.
    """

    table: Tensor
    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(self, who: str, codes: int, width: int, *, learnt: bool) -> None:
        super().__init__()
        if codes * width > MOST:
            raise InvalidValue(f"{who}: must have at most {MOST} numbers; got {codes} codes of width {width}.")
        table = torch.zeros(codes, width)
        if learnt:
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table)
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", torch.zeros(codes, width))
        self.register_buffer("started", torch.tensor(False))

    def __len__(self) -> int:
        return len(self.table)

    def vectors(self) -> Float[Tensor, "C E"]:
        """The vectors that codes stand for, in 32-bit floats."""
        return self.table.float()

    @torch.no_grad()
    def begin(self, table: Float[Tensor, "C E"], counts: Float[Tensor, "C"] | None = None) -> None:
        """Take these vectors, each counted once or as often as said."""
        table = same(table)
        self.table.data.copy_(table)
        self.counts.copy_(same(torch.ones_like(self.counts) if counts is None else counts))
        self.sums.copy_(self.counts.unsqueeze(1) * table)
        self.started.fill_(True)

    @torch.no_grad()
    def observe(self, rows: Float[Tensor, "T E"], codes: Int[Tensor, "T"], decay: float) -> None:
        """Let the averages follow the vectors of one batch, of all workers together."""
        counts, sums = gathered(rows, codes, len(self))
        self.counts.lerp_(total(counts).to(self.counts), 1 - decay)
        self.sums.lerp_(total(sums).to(self.sums), 1 - decay)

    @torch.no_grad()
    def replace(self, which: Int[Tensor, "M"], vectors: Float[Tensor, "M E"], count: float) -> None:
        """Put other vectors into the table, counted as often as said, so that the next average keeps them."""
        self.table.data[which] = vectors.to(self.table)
        self.counts[which] = count
        self.sums[which] = count * vectors.to(self.sums)
