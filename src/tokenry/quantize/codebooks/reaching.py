"""A loss of something that has no history, whose gradient goes on all the same."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def reaching(given: Float[Tensor, "T E"], loss: Float[Tensor, ""], seen: Float[Tensor, "T E"]) -> Float[Tensor, ""]:
    """The loss of `seen`, a copy of `given` without history, with its gradient for `given`; its value stays."""
    if not (loss.requires_grad and seen.requires_grad):
        return loss
    (slope,) = torch.autograd.grad(loss, seen, retain_graph=True, allow_unused=True)
    return loss if slope is None else loss + (slope * (given - given.detach())).sum()
