"""Attention weights that a probe knows: those of softmax, of a ReLU, and of the explicit Bigram-Backcopy circuit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.models.attention.site import Site

Weigh = Callable[[Site], Tensor]
"""The weights (B, H, Q, K) with which the queries of a site read its keys."""


def softmax(site: Site) -> Float[Tensor, "B H Q K"]:
    """What models are trained with."""
    return site.probs()


def relu_by_row(site: Site) -> Float[Tensor, "B H Q K"]:
    """relu(q k / sqrt(D)) over the number of keys that the query sees: a row need not read anything."""
    logits = site.logits()
    seen = logits > torch.finfo(logits.dtype).min
    return logits.relu() / seen.sum(-1, keepdim=True).clamp_min(1)


WEIGHTS: dict[str, Weigh] = {"softmax": softmax, "relu": relu_by_row}


def circuit(active: Bool[Tensor, "B N"], first: Int[Tensor, "B"]) -> Weigh:
    """What a perfect head for Bigram-Backcopy would do: a trigger reads the token before it, all others the first."""

    def weigh(site: Site) -> Tensor:
        b, h, n, _ = site.q.shape
        before = torch.arange(n, device=active.device) - 1
        target = torch.where(active, before, first.unsqueeze(1))
        weights = torch.zeros(b, n, site.k.shape[2], device=site.q.device)
        weights.scatter_(-1, target.clamp_min(0).unsqueeze(-1).to(weights.device), 1.0)
        return weights.unsqueeze(1).expand(-1, h, -1, -1)

    return weigh


def read_by(weigh: Weigh, site: Site) -> Float[Tensor, "B H Q Dv"]:
    """What attention gives with these weights."""
    if weigh is softmax:
        return site.dense()
    return weigh(site).to(site.v.dtype) @ site.v.repeat_interleave(site.groups, 1)
