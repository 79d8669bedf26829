"""Several processes that train one quantizer: the same table everywhere."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def together() -> bool:
    """Whether other processes train the same module."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def total(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if together():
        values = values.contiguous().clone()
        dist.all_reduce(values)
    return values


def same(values: Tensor) -> Tensor:
    """What the first process has."""
    if together():
        values = values.contiguous().clone()
        dist.broadcast(values, 0)
    return values
