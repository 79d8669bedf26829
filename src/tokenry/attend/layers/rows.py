"""Keys and values that a layer remembers, each sequence from its own beginning on."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Rows:
    """Some tensors (B, H, N, D) with room to grow; row i of a sequence is of its own i-th token.

    Sequences may have different lengths; nothing is held of padding.
    """

    def __init__(self, sequences: int) -> None:
        self.lengths: Int[Tensor, "B"] = torch.zeros(sequences, dtype=torch.long)
        self._held: tuple[Tensor, ...] = ()

    def next(self, real: Bool[Tensor, "B N"]) -> Int[Tensor, "B N"]:
        """The places of the tokens that come now."""
        self.lengths = self.lengths.to(real.device)
        return self.lengths.unsqueeze(1) + torch.arange(real.shape[1], device=real.device)

    def append(self, *new: Float[Tensor, "B H N D"], real: Bool[Tensor, "B N"]) -> None:
        """Remember the real tokens, which stand before all padding."""
        places = self.next(real)
        most = int((self.lengths + real.shape[1]).max()) if len(self.lengths) else 0
        if not self._held or self._held[0].shape[2] < most:
            self._grow(new, most)
        for held, rows in zip(self._held, new, strict=True):
            at = places[:, None, :, None].expand(*rows.shape[:2], -1, rows.shape[-1])
            # Padding is written behind the end, and the next tokens over it.
            held.scatter_(2, at, rows.to(held.dtype))
        self.lengths = self.lengths + real.sum(1)

    def all(self) -> tuple[Tensor, ...]:
        """What is held of the longest sequence; rows behind the end of a shorter one mean nothing."""
        most = int(self.lengths.max()) if len(self.lengths) else 0
        return tuple(held[:, :, :most] for held in self._held)

    @property
    def nbytes(self) -> int:
        """Bytes in use, with the room to grow."""
        return sum(h.nbytes for h in self._held)

    def _grow(self, like: tuple[Tensor, ...], most: int) -> None:
        room = most + max(16, most // 8)
        grown = []
        for i, rows in enumerate(like):
            fresh = rows.new_zeros(*rows.shape[:2], room, rows.shape[-1])
            if self._held:
                fresh[:, :, : self._held[i].shape[2]] = self._held[i]
            grown.append(fresh)
        self._held = tuple(grown)
