"""A short causal convolution of each number by itself, over whole rows or on top of what was read."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class CausalConvolution(nn.Module):
    """y_t = sum over i < size of w_i x_(t-i), for each number of a state by itself; it begins near the identity."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        start = 0.3 * torch.randn(size, width)
        start[0] += 1.0
        self.weight = nn.Parameter(start)

    def forward(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        return self._over(torch.cat((self.begin(len(x), x), x), 1))

    def begin(self, sequences: int, like: Tensor) -> Float[Tensor, "B S E"]:
        """What is remembered before anything was read."""
        return like.new_zeros(sequences, len(self.weight) - 1, self.weight.shape[1])

    def append(
        self, x: Float[Tensor, "B N E"], memory: Float[Tensor, "B S E"] | None, real: Bool[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "B N E"], Float[Tensor, "B S E"]]:
        """The next tokens, and what is to be remembered of the real ones, which stand before all padding."""
        joined = torch.cat((self.begin(len(x), x) if memory is None else memory, x), 1)
        at = real.sum(1, keepdim=True) + torch.arange(len(self.weight) - 1, device=x.device)
        return self._over(joined), joined.gather(1, at.unsqueeze(-1).expand(-1, -1, x.shape[-1]))

    def _over(self, joined: Float[Tensor, "B M E"]) -> Float[Tensor, "B N E"]:
        # Over a view of windows of neighbours; the newest comes last, and its weight first.
        return (joined.unfold(1, len(self.weight), 1) * self.weight.flip(0).T).sum(-1)
