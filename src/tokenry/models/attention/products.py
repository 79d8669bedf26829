"""Products of few queries with many keys or values, by the way that reads these once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

FEW, WIDE, NEAR_BYTES = 16, 64, 16 << 20
"""From so many bytes of keys on, which no processor holds near, few queries are multiplied key by key, if keys are as
wide; measured by `benchmarks.attend.decode_methods`."""


def products(q: Float[Tensor, "B G M D"], k: Float[Tensor, "B G K D"]) -> Float[Tensor, "B G M K"]:
    """`q @ k.mT`. Keys that come from memory are read in their own order, which takes half the time."""
    far = q.shape[2] <= FEW and k.shape[3] >= WIDE and k.nbytes > NEAR_BYTES
    if far and k.device.type == "cpu" and k.dtype in (torch.float32, torch.float64):
        return (k @ q.mT).mT.contiguous()
    return by_head(q, k.mT)


def by_head(a: Float[Tensor, "B G M X"], b: Float[Tensor, "B G X N"]) -> Float[Tensor, "B G M N"]:
    """`a @ b`. A batched product in half precision copies a cache with room to grow; one for each head does not."""
    if b.device.type != "cpu" or b.dtype not in (torch.bfloat16, torch.float16) or b.shape[0] * b.shape[1] > 64:
        return a @ b
    return torch.stack([torch.stack([x @ y for x, y in zip(*rows, strict=True)]) for rows in zip(a, b, strict=True)])
