"""Where chunks end in rows, and how states go from tokens to chunks and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.attend.layers.aligned import aligned

SMOOTHED = 128
"""Chunks that are smoothed at once."""


@dataclass(slots=True, eq=False)
class Seen:
    """Tokens that are read now; in each row the real ones stand before all padding.

    Args:
        places: of each token in its own row, from 0.
        ids: bytes and marks; None within chunks of chunks.
    """

    real: Bool[Tensor, "B N"]
    places: Int[Tensor, "B N"]
    ids: Int[Tensor, "B N"] | None = None

    @property
    def first(self) -> Bool[Tensor, "B N"]:
        """The first token of each row."""
        return self.real & (self.places == 0)


@dataclass(slots=True, eq=False)
class Cut:
    """The tokens with which a chunk is complete.

    Args:
        at: these tokens; never padding.
        p: how likely each token was to be one, in 32-bit floats.
        loss: the price of the choice.
        soft: 1 and 0 as in `at`, with a gradient, where the choice has one.
    """

    at: Bool[Tensor, "B N"]
    p: Float[Tensor, "B N"]
    loss: Float[Tensor, ""]
    soft: Float[Tensor, "B N"] | None = None


def firm(at: Bool[Tensor, "B N"]) -> Cut:
    """A choice without doubt and without price."""
    p = at.float()
    return Cut(at, p, p.new_zeros(()))


def chosen(x: Float[Tensor, "B N E"], at: Bool[Tensor, "B N"]) -> tuple[Float[Tensor, "B M E"], Bool[Tensor, "B M"]]:
    """The states at some tokens, and which of them are real: rows have different numbers of them."""
    order, there = aligned(at)
    most = int(at.sum(1).max()) if at.numel() else 0
    order, there = order[:, :most], there[:, :most]
    return x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1])), there


def received(
    y: Float[Tensor, "B M E"], at: Bool[Tensor, "B N"], before: Float[Tensor, "B E"] | None = None
) -> Float[Tensor, "B N E"]:
    """For each token the state of the last chunk that is complete with it; at first what was there `before`."""
    before = y.new_zeros(len(y), y.shape[-1]) if before is None else before
    y = torch.cat((before.unsqueeze(1), y), 1)
    return y.gather(1, at.cumsum(1).unsqueeze(-1).expand(-1, -1, y.shape[-1]))


def last_of(
    y: Float[Tensor, "B M E"], there: Bool[Tensor, "B M"], before: Float[Tensor, "B E"]
) -> Float[Tensor, "B E"]:
    """The last real state of each row, or what was there before."""
    y = torch.cat((before.unsqueeze(1), y), 1)
    return y.gather(1, there.sum(1).view(-1, 1, 1).expand(-1, 1, y.shape[-1]))[:, 0]


def chunk_of(at: Bool[Tensor, "B N"]) -> Int[Tensor, "B N"]:
    """The number of the chunk that each token is of; a token that completes one is its last."""
    return at.cumsum(1) - at.long()


def smoothed(
    y: Float[Tensor, "B M E"], p: Float[Tensor, "B M"], before: Float[Tensor, "B E"] | None = None
) -> Float[Tensor, "B M E"]:
    """s_j = p_j y_j + (1 - p_j) s_(j-1), in closed form: the weights of y_i in s_j are p_i (1 - p_(i+1)) … (1 - p_j).

    Chunks are taken a few at a time, so that the square of weights stays small.

    Args:
        before: s_0; zeros where there is none.
    """
    if not y.shape[1]:
        return y
    outs, state = [], y.new_zeros(len(y), y.shape[-1]) if before is None else before
    for some, chance in zip(y.split(SMOOTHED, 1), p.double().split(SMOOTHED, 1), strict=True):
        # The logarithm of nothing would make differences of infinities.
        total = (1 - chance).clamp_min(1e-12).log().cumsum(1)
        later = torch.ones(chance.shape[1], chance.shape[1], dtype=torch.bool, device=y.device).triu(1)
        left = (total.unsqueeze(2) - total.unsqueeze(1)).masked_fill(later, float("-inf")).exp()
        weights = (left * chance.unsqueeze(1)).to(y.dtype)
        out = weights @ some + total.exp().to(y.dtype).unsqueeze(2) * state.unsqueeze(1)
        outs.append(out)
        state = out[:, -1]
    return torch.cat(outs, 1)
