"""A max-pool over the tokens of a sequence, so that the neighbours of an important one stay with it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool1d


def pooled(
    votes: Float[Tensor, "B G K"], width: int, among: Bool[Tensor, "B #G K"] | None = None
) -> Float[Tensor, "B G K"]:
    """The highest vote among the `width` tokens around every one.

    Args:
        among: the rows that hold such tokens; the others are nobody's neighbours, and get 0. None where all do.
    """
    if among is None:
        return _pool(votes, width)
    k = votes.shape[-1]
    among = among.expand_as(votes)
    rank = torch.where(among, among.cumsum(-1) - 1, k)
    together = votes.new_full((*votes.shape[:2], k + 1), float("-inf")).scatter_(-1, rank, votes)
    return torch.where(among, _pool(together[..., :k], width).gather(-1, rank.clamp_max(k - 1)), 0.0)


def _pool(votes: Float[Tensor, "B G K"], width: int) -> Float[Tensor, "B G K"]:
    return max_pool1d(votes, width, stride=1, padding=width // 2)[..., : votes.shape[-1]]
