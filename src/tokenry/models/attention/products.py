"""Products of few queries with many keys or values, by the way that reads these once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.models.attention.processor import has_tiles

FEW, WIDE, NEAR_BYTES = 16, 64, 16 << 20
"""Few queries are multiplied key by key, if keys are as wide; where products of tiles are faster, only with keys of
more bytes than any processor holds near. Measured by `benchmarks.attend.decode_methods`."""


def products(q: Float[Tensor, "B G M D"], k: Float[Tensor, "B G K D"]) -> Float[Tensor, "B G M K"]:
    """`q @ k.mT`. In full precision keys that are read in their own order take half to nine tenths of the time."""
    if _key_by_key(q, k):
        return (k @ q.mT).mT.contiguous()
    return by_head(q, k.mT)


def read_once(
    q: Float[Tensor, "B G M D"], k: Float[Tensor, "B G K D"], v: Float[Tensor, "B G K Dv"], scale: float
) -> Float[Tensor, "B G M Dv"] | None:
    """Attention of few queries that see every key; None where one call of torch does it as fast, or more exactly."""
    if k.dtype != torch.float32 or not _key_by_key(q, k):
        return None
    return (k @ (q * scale).mT).mT.softmax(-1) @ v


def _key_by_key(q: Tensor, k: Tensor) -> bool:
    if k.device.type != "cpu" or q.shape[2] > FEW or k.shape[3] < WIDE:
        return False
    return k.dtype in (torch.float32, torch.float64) and (k.nbytes > NEAR_BYTES or not has_tiles())


def by_head(a: Float[Tensor, "B G M X"], b: Float[Tensor, "B G X N"]) -> Float[Tensor, "B G M N"]:
    """`a @ b`. A batched product in half precision copies a cache with room to grow; one for each head does not."""
    if b.device.type != "cpu" or b.dtype not in (torch.bfloat16, torch.float16) or b.shape[0] * b.shape[1] > 64:
        return a @ b
    return torch.stack([torch.stack([x @ y for x, y in zip(*rows, strict=True)]) for rows in zip(a, b, strict=True)])
