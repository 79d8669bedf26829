"""Rows for longer tokens: made by a method of room `embed`, and kept while there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.embed.base import EmbeddingTable
from tokenry.embed.transfer.donor import Donor, Rows


class RowCache:
    """The rows that were needed last.

    Args:
        provider: makes rows of pieces.
        donor: from these.
        size: rows that are kept; more where one call needs more.
    """

    def __init__(self, provider: EmbeddingTable, donor: Donor, size: int) -> None:
        self.provider, self.donor, self.size = provider, donor, size
        self.made = 0
        """Rows that had to be made so far."""
        self._kept: OrderedDict[bytes, tuple[Float[Tensor, "E"], Float[Tensor, "F"] | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, piece: bytes) -> bool:
        return piece in self._kept

    @torch.no_grad()
    def rows(self, pieces: Sequence[bytes]) -> Rows:
        """A row for each piece, in their order."""
        wanted = dict.fromkeys(pieces)
        missing = [piece for piece in wanted if piece not in self._kept]
        if missing:
            made = self.provider.table(missing, self.donor)
            self.made += len(missing)
            for i, piece in enumerate(missing):
                # A view would keep all rows that were made with it.
                output = None if made.output is None else made.output[i].clone()
                self._kept[piece] = made.input[i].clone(), output
        for piece in wanted:
            self._kept.move_to_end(piece)
        while len(self._kept) > max(self.size, len(wanted)):
            self._kept.popitem(last=False)
        found = [self._kept[piece] for piece in pieces]
        width = self.donor.input.shape[1]
        inputs = torch.stack([row for row, _ in found]) if found else torch.zeros(0, width)
        outputs = [row for _, row in found if row is not None]
        return Rows(inputs, torch.stack(outputs) if outputs else None)
