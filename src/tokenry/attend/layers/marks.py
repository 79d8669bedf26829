"""Marks that a layer needs at the end of each block of tokens, put there and taken out by the model."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class Marks:
    """After every `every - 1` tokens of a text stands a mark, as soon as the next token comes.

    Args:
        every: tokens of a block, its mark included.
        mark: the id of the mark.
    """

    def __init__(self, every: int, mark: int) -> None:
        self.every, self.mark = every, mark

    def among(
        self, ids: Int[Tensor, "B N"], real: Bool[Tensor, "B N"], before: Int[Tensor, "B"]
    ) -> tuple[Int[Tensor, "B M"], Bool[Tensor, "B M"], Int[Tensor, "B N"]]:
        """Ids with marks among them, which of these are real, and where the ids went.

        Args:
            real: real ids, which stand before all padding.
            before: tokens of each text that were read before, without marks.
        """
        tokens = before.unsqueeze(1) + torch.arange(ids.shape[1], device=ids.device)
        # The token with number p stands behind p // (every - 1) marks; what was read before ends with a token.
        done = torch.where(before > 0, self._place(before - 1) + 1, 0)
        at = self._place(tokens) - done.unsqueeze(1)
        count = torch.where(real, at, -1).amax(1) + 1 if ids.shape[1] else before * 0
        # Padding goes behind what is real, wherever its number would put it.
        most = int(at.max()) + 1 if at.numel() else 0
        out = ids.new_full((len(ids), most), self.mark).scatter(1, at, ids)
        return out, torch.arange(most, device=ids.device) < count.unsqueeze(1), at

    def _place(self, token: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        return token + token // (self.every - 1)
